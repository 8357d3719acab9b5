// Gateways that are known by a host name: clients that take addresses alone are told what it resolves to.
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { hostAddresses } from '../../src/cli/host-addresses.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { Resolve } from '../../src/proxy/resolve.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { TYPE } from '../../src/xds/types.ts'
import { yamlOf } from '../resources/world.ts'
import { type Seen, TestCluster } from './cluster.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const UPSTREAM = `outbound|9080||${HOST}`
const entry = (
  ...endpoints: readonly (readonly [cluster: string, address: string, weight: number])[]
): string =>
  yamlOf({
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'productpage', namespace: 'bookinfo' },
    spec: {
      hosts: [HOST],
      resolution: 'DNS',
      ports: [{ name: 'http', number: 9080, protocol: 'HTTP' }],
      endpoints: endpoints.map(([cluster, address, weight]) => ({
        address,
        weight,
        ports: { http: 15443 },
        labels: { 'xcp.tetrate.io/cluster': cluster },
      })),
    },
  })

/** `address weight` of each endpoint that a client has. */
function told(client: Seen): string[] {
  const resource = client.get(TYPE.endpoints, UPSTREAM)
  const accepted = resource && acceptEndpoints(resource)
  if (accepted?.ok !== true) return []
  return accepted.value.localities.flatMap(({ endpoints }) =>
    endpoints.map(({ address, weight }) => `${address.host} ${weight}`),
  )
}

t.test('an Envoy is told addresses, again when they change; ours is told the name', async (t) => {
  const answers = new Map<string, readonly string[] | undefined>([
    ['lb.example.com', ['203.0.113.8', '203.0.113.7', '169.254.169.254', '127.0.0.1']],
  ])
  const resolve: Resolve = async (host) => {
    const addresses = answers.get(host)
    if (addresses === undefined) throw new Error('nobody could say')
    return { addresses, ttlMs: 1 }
  }
  const cluster = await TestCluster.start('cluster-2', {
    yaml: entry(['cluster-1', 'lb.example.com', 4], ['cluster-3', '203.0.113.99', 4]),
    hostAddresses: hostAddresses({ logger: silentLogger, resolve, allowLocal: false }),
  })
  t.teardown(() => cluster.stop())
  const sidecar = (userAgentName: string, bind: string) =>
    cluster
      .plainClient({
        id: 'sidecar~127.0.0.1~sleep.bookinfo~x',
        userAgentName,
        metadata: { ISTHMUS_BIND: bind },
      })
      .subscribe(TYPE.endpoints, [UPSTREAM])
      .start(TYPE.cluster)
  const envoy = sidecar('envoy', '127.200.0.0/16')
  const ours = sidecar('isthmus', '127.201.0.0/16')
  // A cluster's part is what is ready behind its gateway, however many addresses the name has.
  const both = ['203.0.113.7 4', '203.0.113.8 4', '203.0.113.99 8']
  await envoy.until('the addresses', (seen) => told(seen).join() === both.join())
  await ours.until('the name', (seen) => told(seen).join() === ['203.0.113.99 4', 'lb.example.com 4'].join())
  t.pass('without those that nobody may call')

  const edit = parseAllDocuments(entry(['cluster-1', 'lb.example.com', 2])).map(
    (one) => one.toJS() as unknown,
  )
  const { clients, types } = cluster.discovery.plan({ apply: edit, delete: [] })?.pushes ?? {}
  t.match(
    { clients, types },
    { clients: 2, types: { ClusterLoadAssignment: { clients: 2, changed: [UPSTREAM] } } },
  )

  answers.set('lb.example.com', ['203.0.113.50'])
  await envoy.until(
    'the new address',
    (seen) => told(seen).join() === ['203.0.113.50 4', '203.0.113.99 4'].join(),
  )
  answers.set('lb.example.com', undefined)
  await cluster.apply(entry(['cluster-1', 'lb.example.com', 2], ['cluster-3', '203.0.113.99', 4]))
  await envoy.until(
    'the last good answer, weighed anew',
    (seen) => told(seen).join() === ['203.0.113.50 2', '203.0.113.99 4'].join(),
  )
  t.pass('a DNS server that is gone takes nothing away')
})
