// The way through a gateway's one port to the discovery server, for those of peers.
import { fromBinary } from '@bufbuild/protobuf'
import t from 'tap'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import type { DiscoveryDoor } from '../../src/resources/discovery-route.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import { listenerOf, passthroughChain, TLS_INSPECTOR } from '../proxy/support.ts'
import { bundlesOf, gateway, modelOf, peer, reachability, service, setting, workspace } from './world.ts'

const bundles = await bundlesOf('cluster-1', 'cluster-2')
const world =
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  gateway('203.0.113.10') +
  workspace +
  setting() +
  reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
const linked = world + peer('cluster-2', bundles[1]?.pem ?? '')
const DOOR = { host: 'isthmus-discovery.isthmus-system.svc', adsPort: 15_012, linkPort: undefined }

function served(yaml: string, door: DiscoveryDoor | undefined, issuers: boolean) {
  const model = modelOf(yaml)
  const options = {
    bind: { address: '0.0.0.0', port: 15_443 },
    bundles,
    issuers,
    secrets: true,
    credentialFile: '',
    door,
  }
  const snapshot = gatewayResources(model, model.gateways[0], options).snapshot()
  const [listener] = [...(snapshot.get(TYPE.listener)?.values() ?? [])]
  if (listener === undefined) throw new Error('no listener')
  if (issuers) t.equal(acceptListener(listener).ok, true)
  const names = fromBinary(ListenerSchema, listener.body)
    .filterChains.filter(({ transportSocket }) => transportSocket === undefined)
    .flatMap(({ filterChainMatch }) => filterChainMatch?.serverNames ?? [])
  return { snapshot, names }
}

t.test(
  'it is there while there are peers, and that of tokens while one is outstanding, for an Envoy too',
  async (t) => {
    for (const issuers of [true, false]) {
      t.strictSame(served(world, DOOR, issuers).names, [], 'nobody to come')
      t.strictSame(served(linked, undefined, issuers).names, [], 'nowhere to go')
      t.strictSame(served(linked, DOOR, issuers).names, ['discovery.cluster-1.isthmus.internal'])
      t.strictSame(served(world, { ...DOOR, linkPort: 15_013 }, issuers).names, [
        'link.cluster-1.isthmus.internal',
      ])
    }
  },
)

t.test('the upstream is the discovery server alone, with few connections, by name or address', async (t) => {
  for (const [host, type, address] of [
    [DOOR.host, 'STRICT_DNS', `${DOOR.host}.cluster.local`],
    ['192.0.2.7', 'STATIC', '192.0.2.7'],
  ] as const) {
    const cluster = served(linked, { ...DOOR, host }, true)
      .snapshot.get(TYPE.cluster)
      ?.get('isthmus.discovery')
    const accepted = cluster && acceptUpstream(cluster)
    if (accepted?.ok !== true) throw new Error(JSON.stringify(accepted))
    t.match(accepted.value, {
      type,
      circuitBreakers: { maxConnections: 128 },
      inlineEndpoints: { localities: [{ endpoints: [{ address: { host: address, port: 15_012 } }] }] },
    })
  }
})

t.test('under any other name what is passed through has to be mesh TLS', async (t) => {
  const accept = (serverNames: string[], applicationProtocols: string[]) => {
    const chain = passthroughChain({ serverNames, protocols: applicationProtocols })
    return acceptListener(listenerOf([chain], { listenerFilters: [TLS_INSPECTOR] })).ok
  }
  const [name, protocols] = ['discovery.c.isthmus.internal', ['h2', 'http/1.1']]
  t.equal(accept([name], protocols), true)
  t.equal(accept([name, 'a.example'], protocols), false)
  t.equal(accept(['x.discovery.c.isthmus.internal'], protocols), false)
  t.equal(accept([name], []), false)
  t.equal(accept([name], ['h2', 'postgresql']), false)
})
