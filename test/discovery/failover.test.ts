// S10 with a real Envoy as the sidecar. Runs where ENVOY_BIN names one, else it is skipped; the demo tells it of ours.
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, get } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'
import { TYPE } from '../../src/xds/types.ts'
import { yamlOf } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'
import { startEnvoy, WITHOUT_ENVOY } from './envoy-process.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const PODS = ['127.0.0.2', '127.0.0.3', '127.0.0.4'] as const
const CALLS = 12

/** A server that says where it is. */
async function pod(t: Test, host: string, port: number): Promise<void> {
  const server = createServer((_request, response) => response.end(host)).listen(port, host)
  t.teardown(() => server.close())
  await once(server, 'listening')
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, PODS[0])
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function near(port: number, ready: readonly boolean[], portName: string): string {
  return yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'productpage', namespace: 'bookinfo' },
      spec: { selector: { app: 'productpage' }, ports: [{ name: portName, port: 9080, targetPort: port }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: 'productpage-1',
        namespace: 'bookinfo',
        labels: { 'kubernetes.io/service-name': 'productpage' },
      },
      addressType: 'IPv4',
      ports: [{ name: portName, port, protocol: 'TCP' }],
      endpoints: PODS.map((address, i) => ({
        addresses: [address],
        conditions: { ready: ready[i] === true },
      })),
    },
  )
}

const far = (port: number): string =>
  yamlOf({
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'productpage', namespace: 'bookinfo' },
    spec: {
      hosts: [HOST],
      resolution: 'STATIC',
      ports: [{ name: 'web', number: 9080, protocol: 'HTTP' }],
      endpoints: [
        { address: '127.0.0.5', ports: { web: port }, labels: { 'xcp.tetrate.io/cluster': 'cluster-1' } },
      ],
    },
  })

/** Who answered each of the calls; an error is an answer too. */
async function callers(address: string, calls = CALLS): Promise<string[]> {
  const found: string[] = []
  for (let i = 0; i < calls; i++) {
    found.push(
      await new Promise((resolve) => {
        get({ host: address, port: 9080, agent: false, timeout: 5_000 }, (response) => {
          let body = ''
          response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
          response.on('end', () => resolve(body))
        }).on('error', (error) => resolve(error.message))
      }),
    )
  }
  return found
}

const distinct = (names: readonly string[]): string[] => [...new Set(names)].sort()

for (const [i, protocol] of (['tcp', 'http'] as const).entries()) {
  t.test(
    `an Envoy as the sidecar, ${protocol}: near first, far when nobody near is ready, and home again`,
    { skip: WITHOUT_ENVOY },
    async (t) => {
      const folder = await mkdtemp(join(tmpdir(), 'isthmus-failover-'))
      t.teardown(() => rm(folder, { recursive: true, force: true }))
      const port = await freePort()
      for (const host of [...PODS, '127.0.0.5']) await pod(t, host, port)
      const cluster = await TestCluster.start('cluster-2', {
        yaml: near(port, [true, true, true], protocol) + far(port),
      })
      t.teardown(() => cluster.stop())
      const cidr = `127.${64 + ((process.pid + 3 + i) % 128)}.0.0/16`
      const proxy = await startEnvoy(folder, {
        id: 'sidecar~127.0.0.1~sleep.bookinfo~x',
        cluster: 'cluster-2',
        ads: `127.0.0.1:${cluster.plainPort}`,
        bind: cidr,
        credential: undefined,
      })
      t.teardown(() => proxy.kill('SIGKILL'))
      const acked = (type: string) => cluster.discovery.clients()[0]?.types[type]?.ackedVersion ?? ''
      await cluster.poll('the Envoy', () => acked(TYPE.listener) !== '', 20_000)
      const range = parseBindRange(cidr)
      const address = (range.ok ? bindAddresses([HOST], range.value).get(HOST) : undefined) ?? ''
      const ready = async (...pods: readonly boolean[]) => {
        const before = acked(TYPE.endpoints)
        await cluster.apply(near(port, pods, protocol))
        await cluster.poll('the Envoy’s endpoints', () => acked(TYPE.endpoints) !== before)
      }
      let first = ''
      await cluster.poll('an answer', () => {
        void callers(address, 1).then(([answer = '']) => (first = answer))
        return PODS.some((host) => host === first)
      })

      const all = await callers(address)
      t.ok(
        distinct(all).every((host) => PODS.some((pod) => pod === host)),
        distinct(all).join(),
      )
      await ready(true, false, true)
      t.strictSame(
        distinct(await callers(address, 2 * CALLS)),
        [PODS[0], PODS[2]],
        'one of three: not one call goes elsewhere',
      )
      await ready(true, false, false)
      t.strictSame(distinct(await callers(address)), [PODS[0]], 'nor with two of three')
      await ready(false, false, false)
      t.strictSame(
        distinct(await callers(address)),
        ['127.0.0.5'],
        'all three: every call is answered elsewhere',
      )
      await ready(true, true, true)
      const home = await callers(address)
      t.ok(
        home.every((host) => PODS.some((pod) => pod === host)),
        distinct(home).join(),
      )
    },
  )
}
