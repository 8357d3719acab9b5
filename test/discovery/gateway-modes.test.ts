// Terminated over mutual TLS to a mesh workload, and passed through to one: what discovery says, carried out by our engine and by a
// real Envoy (where ENVOY_BIN names one), with real certificates on every side.
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type Socket,
} from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, createServer, type TLSSocket } from 'node:tls'
import t from 'tap'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import { credentialSecret, type Pem, readAll, TestProxy } from '../proxy/support.ts'
import { gateway, peer, reachability, setting, workspace, yamlOf } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'
import { startEnvoy, WITHOUT_ENVOY } from './envoy-process.ts'

type Test = Pick<typeof t, 'teardown' | 'equal' | 'strictSame'>
const [home, peers] = await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)
if (home === undefined || peers === undefined) throw new Error('no CA')
const sni = (name: string) => `outbound_.9080_._.${name}.bookinfo.svc.cluster.local`
const idOf = (socket: TLSSocket) => socket.getPeerX509Certificate()?.subjectAltName ?? ''

/** A workload behind its own mutual TLS that says who it is and who called, and counts what it was told. */
async function workload(t: Test, account: string, ca: Ca) {
  const pem = await ca.issue({ namespace: 'bookinfo', serviceAccount: account })
  let heard = 0
  const server = createServer(
    {
      cert: pem.certificatePem,
      key: pem.privateKeyPem,
      ca: [home?.bundlePem ?? '', peers?.bundlePem ?? ''],
      requestCert: true,
      ALPNProtocols: ['istio'],
    },
    (socket) => {
      socket.on('error', () => {})
      socket.once('data', (chunk) => {
        heard += chunk.length
        socket.end(`${account} for ${idOf(socket)}`)
      })
    },
  )
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { port: (server.address() as AddressInfo).port, heard: () => heard }
}

/** A Service of one mesh workload. */
function service(name: string, port: number, annotations: Record<string, string> = {}): string {
  return yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: 'bookinfo', annotations },
      spec: { selector: { app: name }, ports: [{ name: 'http', port: 9080, targetPort: port }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, namespace: 'bookinfo', labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port, protocol: 'TCP' }],
      endpoints: [
        { addresses: ['127.0.0.1'], conditions: { ready: true }, targetRef: { kind: 'Pod', name } },
      ],
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'bookinfo', labels: { app: name, 'security.istio.io/tlsMode': 'istio' } },
      spec: { serviceAccountName: name, containers: [{ name: 'main', image: 'main' }] },
    },
  )
}

const POLICY = yamlOf({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name: 'sleep-only', namespace: 'bookinfo' },
  spec: {
    rules: [
      { from: [{ source: { principals: ['cluster-2.local/ns/client/sa/sleep'] } }] },
      {
        from: [{ source: { ipBlocks: ['127.0.0.0/8'] } }],
        when: [{ key: 'connection.sni', values: [sni('ratings')] }],
      },
    ],
  },
})

async function world(t: Test, proxySources = '') {
  const [reviews, ratings, impostor] = await Promise.all([
    workload(t, 'reviews', home as Ca),
    workload(t, 'ratings', home as Ca),
    // Says that it is somebody else than its pod's service account.
    workload(t, 'impostor', home as Ca),
  ])
  const yaml =
    service('reviews', reviews.port) +
    service('ratings', ratings.port, { 'isthmus.io/mode': 'passthrough' }) +
    service('details', impostor.port) +
    (proxySources === ''
      ? gateway('127.0.0.1')
      : gateway('127.0.0.1').replace(
          '"namespace":"bookinfo"}',
          `"namespace":"bookinfo","annotations":{"isthmus.io/proxy-protocol-sources":"${proxySources}"}}`,
        )) +
    workspace +
    setting() +
    POLICY +
    reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
    peer('cluster-2', peers?.bundlePem ?? '')
  const cluster = await TestCluster.start('cluster-1', { ca: home as Ca, yaml })
  t.teardown(() => cluster.stop())
  return { cluster, impostor }
}

async function clientOf(account: string): Promise<Pem> {
  return (peers as Ca).issue({ namespace: 'client', serviceAccount: account })
}

interface Answer {
  readonly server: string
  readonly text: string
}

async function ask(
  port: number,
  servername: string,
  pem: Pem,
  protocols: readonly string[],
  over?: Socket,
): Promise<Answer> {
  const socket = connect({
    ...(over === undefined ? { host: '127.0.0.1', port } : { socket: over }),
    servername,
    ALPNProtocols: [...protocols],
    cert: pem.certificatePem,
    key: pem.privateKeyPem,
    ca: home?.bundlePem ?? '',
    checkServerIdentity: () => undefined,
  })
  let server = ''
  socket.on('error', () => {})
  socket.once('secureConnect', () => {
    server = idOf(socket)
    socket.write('hello')
  })
  const text = (await readAll(socket)).toString()
  socket.destroy()
  return { server, text }
}

/** Resolves once it does: an Envoy that has said yes to its listener may still warm it. */
async function answers(cluster: TestCluster, call: () => Promise<string>): Promise<void> {
  let serves = false
  await cluster.poll('the first answer', () => {
    void call().then((text) => {
      serves ||= text !== ''
    })
    return serves
  })
}

async function behaves(t: Test, port: number, impostor: { heard(): number }): Promise<void> {
  const [sleep, other] = await Promise.all([clientOf('sleep'), clientOf('other')])
  const gatewayId = 'URI:spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'
  t.strictSame(await ask(port, sni('reviews'), sleep, ['istio']), {
    server: gatewayId,
    text: `reviews for ${gatewayId}`,
  })
  for (const name of [sni('ratings'), sni('ratings').toUpperCase()]) {
    t.strictSame(await ask(port, name, sleep, ['istio-peer-exchange', 'istio']), {
      server: 'URI:spiffe://cluster-1.local/ns/bookinfo/sa/ratings',
      text: 'ratings for URI:spiffe://cluster-2.local/ns/client/sa/sleep',
    })
  }
  t.strictSame(await ask(port, sni('ratings'), sleep, ['h2']), { server: '', text: '' }, 'no mesh TLS')
  t.equal((await ask(port, sni('reviews'), other, ['istio'])).text, '', 'policy is asked')
  t.equal((await ask(port, sni('details'), sleep, ['istio'])).text, '', 'another than the pinned workload')
  t.equal(impostor.heard(), 0)
}

t.test('our engine', async (t) => {
  const { cluster, impostor } = await world(t)
  const { model } = cluster.discovery
  if (model === undefined) throw new Error('no model')
  const bundles = [home, peers].map((ca) => ({ trustDomain: ca.trustDomain, pem: ca.bundlePem }))
  const options = {
    bind: { address: '127.0.0.1', port: 0 },
    bundles,
    secrets: true,
    credentialFile: '',
    issuers: true,
  }
  const snapshot = gatewayResources(model, model.gateways[0], options).snapshot()
  const proxy = new TestProxy()
  t.teardown(() => proxy.engine.close())
  for (const type of [TYPE.cluster, TYPE.endpoints, TYPE.listener, TYPE.secret])
    proxy.put(type, ...(snapshot.get(type)?.values() ?? []))
  proxy.put(
    TYPE.secret,
    credentialSecret(await home.issue({ namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' })),
  )
  const port = await proxy.port('eastwest')
  await behaves(t, port, impostor)
  t.strictSame(
    (await proxy.lines(6)).map(({ sni, caller, flag }) => `${sni.split('.')[3]} ${caller} ${flag}`).sort(),
    [
      'details verified ID_REFUSED',
      'ratings  TLS_SNI',
      'ratings unverified -',
      'ratings unverified -',
      'reviews verified -',
      'reviews verified RBAC_DENIED',
    ],
  )
  t.match((await ask(port, 'ratings.bookinfo:9080', await clientOf('sleep'), ['istio'])).text, /^ratings for/)
  t.match((await ask(port, 'reviews.bookinfo:9080', await clientOf('sleep'), ['h2'])).text, /^reviews for/)
})

async function envoyOf(t: Test, cluster: TestCluster): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-modes-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const pem = await (home as Ca).issue({ namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' })
  const credential = {
    certificate: join(folder, 'tls.crt'),
    key: join(folder, 'tls.key'),
    ca: join(folder, 'ca.crt'),
  }
  await writeFile(credential.certificate, pem.certificatePem)
  await writeFile(credential.key, pem.privateKeyPem)
  await writeFile(credential.ca, (home as Ca).bundlePem)
  const probe = createTcpServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  const envoy = await startEnvoy(folder, {
    id: 'router~127.0.0.1~eastwest-gateway.bookinfo~x',
    bind: `127.0.0.1:${port}`,
    sotw: false,
    cluster: 'cluster-1',
    ads: `127.0.0.1:${cluster.port}`,
    credential,
  })
  t.teardown(() => envoy.kill('SIGKILL'))
  const client = () => cluster.discovery.clients().find(({ userAgent }) => userAgent === 'envoy')
  await cluster.poll('the Envoy', () => (client()?.types[TYPE.listener]?.ackedVersion ?? '') !== '', 20_000)
  for (const { lastError } of Object.values(client()?.types ?? {})) t.equal(lastError, '')
  return port
}

t.test('a real Envoy in its place', { skip: WITHOUT_ENVOY }, async (t) => {
  const { cluster, impostor } = await world(t)
  const port = await envoyOf(t, cluster)
  await answers(
    cluster,
    async () => (await ask(port, sni('reviews'), await clientOf('sleep'), ['istio'])).text,
  )
  await behaves(t, port, impostor)
})

t.test(
  'an Envoy behind a load balancer that puts the PROXY protocol in front',
  { skip: WITHOUT_ENVOY },
  async (t) => {
    const { cluster } = await world(t, '127.0.0.1/32')
    const port = await envoyOf(t, cluster)
    const sleep = await clientOf('sleep')
    const through = async (localAddress: string, header: string) => {
      const raw = connectTcp({ host: '127.0.0.1', port, localAddress })
      raw.on('error', () => {})
      raw.write(header)
      return (await ask(port, sni('reviews'), sleep, ['istio'], raw)).text
    }
    const header = 'PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n'
    await answers(cluster, () => through('127.0.0.1', header))
    t.match(await through('127.0.0.1', header), /^reviews for/)
    t.equal(await through('127.0.0.1', ''), '', 'the header is required')
    t.equal(await through('127.0.0.9', header), '', 'and believed from nobody else')
  },
)
