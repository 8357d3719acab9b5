// Stock Istio sidecars of one cluster call a service of another, terminated and passed through, and go on doing so when the mode changes:
// the ids that they are told are those that answer. An Envoy with a cluster in istiod's shape; with ISTIOD_BIN a real istiod's.
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { freePort } from '../../src/lib/loopback-port.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { decodeEntry, type EntryConfig } from '../../src/resources/service-entry.ts'
import type { SnapshotBuilder } from '../../src/resources/snapshot-builder.ts'
import { SecretSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { encodeResource } from '../../src/xds/resource.ts'
import { TYPE } from '../../src/xds/types.ts'
import { SdsAgent } from '../credentials/sds-agent.ts'
import { credentialSecret, readAll, TestProxy } from '../proxy/support.ts'
import { gateway, peer, reachability, setting, workspace, yamlOf } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'
import { WITHOUT_ENVOY } from './envoy-process.ts'
import { startIstiod, WITHOUT_ISTIOD } from './istiod-process.ts'
import { startStockSidecar, writeClusters } from './stock-sidecar.ts'

const [home, away] = (await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)) as [Ca, Ca]
const HOST = 'reviews.bookinfo.svc.cluster.local'
const GATEWAY = 'spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'
const WORKLOAD = 'spiffe://cluster-1.local/ns/bookinfo/sa/reviews'
const CALLER = 'spiffe://cluster-2.local/ns/bookinfo/sa/sleep'
const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })

/** A mesh workload behind its own mutual TLS, as its sidecar would be, that says who called it. */
async function workload(t: Test): Promise<number> {
  const pem = await home.issue({ namespace: 'bookinfo', serviceAccount: 'reviews' })
  const server = createServer(
    {
      cert: pem.certificatePem,
      key: pem.privateKeyPem,
      ca: [home.bundlePem, away.bundlePem],
      requestCert: true,
      ALPNProtocols: ['istio'],
    },
    (socket: TLSSocket) => {
      socket.on('error', () => {})
      socket.once('data', () =>
        socket.end((socket.getPeerX509Certificate()?.subjectAltName ?? '').replace('URI:', '')),
      )
    },
  )
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

const reviews = (port: number, mode: string): string =>
  yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'reviews', namespace: 'bookinfo', annotations: { 'isthmus.io/mode': mode } },
      spec: { selector: { app: 'reviews' }, ports: [{ name: 'tcp', port: 9080, targetPort: port }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: 'reviews',
        namespace: 'bookinfo',
        labels: { 'kubernetes.io/service-name': 'reviews' },
      },
      addressType: 'IPv4',
      ports: [{ name: 'tcp', port, protocol: 'TCP' }],
      endpoints: [{ addresses: ['127.0.0.1'], targetRef: { kind: 'Pod', name: 'reviews' } }],
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: 'reviews',
        namespace: 'bookinfo',
        labels: { app: 'reviews', 'security.istio.io/tlsMode': 'istio' },
      },
      spec: { serviceAccountName: 'reviews', containers: [{ name: 'main' }] },
    },
  )

/** Cluster-1 with its gateway, our engine, which follows its discovery; and cluster-2, which imports from it. */
async function world(t: Test) {
  const [backend, port] = await Promise.all([workload(t), freePort()])
  const first = await TestCluster.start('cluster-1', {
    ca: home,
    yaml:
      reviews(backend, 'terminate') +
      gateway('127.0.0.1', 'bookinfo', port) +
      workspace +
      setting() +
      networks +
      peer('cluster-2', away.bundlePem),
  })
  t.teardown(() => first.stop())
  const yaml = networks + peer('cluster-1', home.bundlePem, `127.0.0.1:${first.port}`)
  const second = await TestCluster.start('cluster-2', { ca: away, yaml })
  t.teardown(() => second.stop())

  const proxy = new TestProxy()
  t.teardown(() => proxy.engine.close())
  const identity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
  proxy.put(TYPE.secret, credentialSecret(await home.issue(identity)))
  let builder: SnapshotBuilder | undefined
  const follow = (): void => {
    const { model } = first.discovery
    if (model === undefined) return
    builder = gatewayResources(
      model,
      model.gateways[0],
      {
        bind: { address: '127.0.0.1', port },
        bundles: [home, away].map((ca) => ({ trustDomain: ca.trustDomain, pem: ca.bundlePem })),
        secrets: true,
        credentialFile: '',
        issuers: true,
      },
      builder,
    )
    const snapshot = builder.snapshot()
    for (const type of [TYPE.cluster, TYPE.endpoints, TYPE.listener, TYPE.secret])
      proxy.put(type, ...(snapshot.get(type)?.values() ?? []))
  }
  follow()
  t.teardown(first.discovery.onChange(follow))
  const change = async (mode: string): Promise<void> => first.apply(reviews(backend, mode))
  return { second, change, upstream: `outbound|9080||${HOST}` }
}

/** As Istio's agent has it: one pool of roots for the whole mesh. */
const rootCa = () =>
  encodeResource(
    SecretSchema,
    {
      name: 'ROOTCA',
      type: {
        case: 'validationContext',
        value: { trustedCa: { specifier: { case: 'inlineString', value: home.bundlePem + away.bundlePem } } },
      },
    },
    'ROOTCA',
  )

async function sidecarFolder(t: Test): Promise<{ folder: string; agent: SdsAgent }> {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-stock-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const agent = new SdsAgent(join(folder, 'sds.sock'))
  agent.put(credentialSecret(await away.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })), rootCa())
  await agent.start()
  t.teardown(() => agent.stop())
  return { folder, agent }
}

const kill = (t: Test, child: ChildProcess): void =>
  void t.teardown(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })

/** Whom the workload saw; empty where nobody answered. */
async function call(port: number): Promise<string> {
  const socket = connectTcp({ host: '127.0.0.1', port })
  socket.on('error', () => {})
  socket.write('hello')
  return (await readAll(socket)).toString()
}

/** In each mode the sidecar reaches the workload, who sees the gateway where it terminates and the caller where it passes through. */
async function reachesInEachMode(
  t: Test,
  { second, change }: Awaited<ReturnType<typeof world>>,
  port: number,
): Promise<void> {
  const modes: readonly (readonly [string, string, string])[] = [
    ['terminate', GATEWAY, GATEWAY],
    ['passthrough', WORKLOAD, CALLER],
    ['terminate', GATEWAY, GATEWAY],
    ['auto', WORKLOAD, CALLER],
  ]
  for (const [mode, answering, seen] of modes) {
    await change(mode)
    await second.until(
      `the ids of ${mode}`,
      () => second.discovery.model?.imports[0]?.subjectAltNames.join() === answering,
    )
    let last = ''
    await second.poll(
      `a call that is ${mode}`,
      () => {
        void call(port).then((text) => {
          last = text
        })
        return last === seen
      },
      20_000,
    )
    t.equal(await call(port), seen, mode)
  }
}

t.test(
  'an Envoy with the cluster that istiod makes of our ServiceEntry',
  { skip: WITHOUT_ENVOY },
  async (t) => {
    const made = await world(t)
    const { folder, agent } = await sidecarFolder(t)
    const istiod = (
      await made.second.client(
        { id: 'sidecar~10.0.0.7~istiod-1.istio-system~istio-system.svc.cluster.local' },
        { namespace: 'istio-system', serviceAccount: 'istiod' },
      )
    ).start(TYPE.serviceEntry)
    const name = `xcp-multicluster/global-gwinternal-${HOST.replaceAll('.', '-')}`
    await istiod.until('the entry', () => istiod.get(TYPE.serviceEntry, name) !== undefined)
    const entry = (): EntryConfig => {
      const resource = istiod.get(TYPE.serviceEntry, name)
      const decoded = resource && decodeEntry(resource)
      if (decoded?.ok !== true) throw new Error('no entry')
      return decoded.value
    }
    let written = Promise.resolve()
    let version = ''
    const follow = (): void => {
      const resource = istiod.get(TYPE.serviceEntry, name)
      if (resource === undefined || resource.version === version) return
      version = resource.version
      written = written.then(() => writeClusters(folder, [entry()]))
    }
    follow()
    await written
    const timer = setInterval(follow, 10)
    t.teardown(() => clearInterval(timer))
    const port = await freePort()
    kill(t, await startStockSidecar({ folder, port, upstream: made.upstream, agent: agent.path }))
    await reachesInEachMode(t, made, port)
  },
)

t.test('an Envoy that a real istiod configures', { skip: WITHOUT_ENVOY || WITHOUT_ISTIOD }, async (t) => {
  const made = await world(t)
  const { folder, agent } = await sidecarFolder(t)
  await made.second.until('the import', () => made.second.discovery.model?.imports.length === 1)
  const istiod = await startIstiod('cluster-2.local', made.second.plainPort)
  t.teardown(() => istiod.stop())
  let ready = false
  await made.second.poll(
    'istiod to be ready',
    () => {
      void istiod.ready().then((yes) => {
        ready ||= yes
      })
      return ready
    },
    20_000,
  )
  const port = await freePort()
  const sidecar = { folder, port, upstream: made.upstream, agent: agent.path, istiod: istiod.ads }
  kill(t, await startStockSidecar(sidecar))
  await reachesInEachMode(t, made, port)
})
