// What an Envoy in the gateway's place is sent, where the real one (test/targets/envoy-gateway.test.ts) cannot show it.
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { anyUnpack } from '@bufbuild/protobuf/wkt'
import t from 'tap'
import { explainServing } from '../../src/model/explain.ts'
import { envoyGateway } from '../../src/resources/envoy-gateway-listener.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { SnapshotBuilder } from '../../src/resources/snapshot-builder.ts'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { FilterChainSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { SecretSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import { policyOf, serviceOf, sniOf } from '../targets/envoy-gateway-world.ts'
import { bundlesOf, gateway, modelOf, peer, reachability, setting, workspace } from './world.ts'

const CLUSTERS = ['cluster-1', 'cluster-2', 'cluster-3']
const bundles = await bundlesOf(...CLUSTERS)
const COMMON =
  gateway('203.0.113.10') +
  workspace +
  setting() +
  reachability(CLUSTERS, { 'cluster-2-network': 'cluster-1-network' }) +
  peer('cluster-2', bundles[1]?.pem ?? '') +
  peer('cluster-3', bundles[2]?.pem ?? '')
const web = serviceOf('web', { name: 'http', port: 9080 }, [1])
const db = serviceOf('db', { name: 'mysql', port: 3306 }, [2])
const cache = serviceOf('cache', { name: 'redis', port: 6379 }, [3])

function build(
  yaml: string,
  { secrets = true, with: given = bundles, previous = new SnapshotBuilder() } = {},
) {
  const model = modelOf(COMMON + yaml)
  const options = { bind: { address: '0.0.0.0', port: 15443 }, bundles: given, secrets, credentialFile: '' }
  const builder = gatewayResources(model, model.gateways[0], options, previous)
  const snapshot = builder.snapshot()
  const listener = snapshot.get(TYPE.listener)?.get('eastwest')
  if (listener === undefined) throw new Error('no listener')
  const { filterChains } = fromBinary(ListenerSchema, listener.body)
  return {
    builder,
    listener,
    model,
    snapshot,
    chains: new Map(
      filterChains.map((chain) => [chain.name, Buffer.from(toBinary(FilterChainSchema, chain))]),
    ),
    names: filterChains.flatMap(({ filterChainMatch }) => filterChainMatch?.serverNames ?? []),
    clusters: [...(snapshot.get(TYPE.cluster)?.values() ?? [])].map(({ body }) =>
      fromBinary(ClusterSchema, body),
    ),
    trust: Object.fromEntries(
      [...(snapshot.get(TYPE.secret)?.values() ?? [])].map(({ name, body }) => {
        const { type } = fromBinary(SecretSchema, body)
        const config =
          type.case === 'validationContext' ? type.value.customValidatorConfig?.typedConfig : undefined
        const validator = config && anyUnpack(config, SPIFFECertValidatorConfigSchema)
        return [name, validator?.trustDomains.map((each) => each.name)]
      }),
    ),
  }
}

t.test('a chain of a service is the same bytes, whatever else is exposed', async (t) => {
  const [alone, beside] = [build(web), build(cache + web + db)]
  const name = `terminate ${sniOf('web', 9080)}`
  t.ok(alone.chains.get(name)?.equals(beside.chains.get(name) ?? Buffer.alloc(0)))
  t.equal(beside.chains.size, 3)
})

t.test('no name is in two chains, or an Envoy refuses the listener', async (t) => {
  const more = ['a', 'a-b', 'svc', 'web-svc']
    .map((name) => serviceOf(name, { name: 'http', port: 9080 }, [1]))
    .join('')
  const { names } = build(web + db + more)
  t.equal(new Set(names).size, names.length)
  t.ok(names.length > 20)
})

t.test('a name of two services leads to the one whose own name it is, or to the first', async (t) => {
  const callers = {
    callers: [{ trustDomain: 'a.example', policy: 'a' }],
    federated: ['a.example'],
    ambiguous: [],
    shared: [],
  }
  const service = (upstream: string, serverNames: string[], passthrough = false) => ({
    ...{ upstream, serverNames, passthrough, protocol: 'http' as const },
  })
  const { listener } = envoyGateway({
    ...{
      bind: { address: '127.0.0.1', port: 0 },
      callers,
      policies: [],
      proxyProtocolSources: [],
      discovery: [],
      credentialFile: '',
    },
    services: [
      service('a', ['a.own', 'b.own', 'both']),
      service('b', ['b.own', 'both', 'b.alias'], true),
      service('again', ['a.own', 'again.alias']),
    ],
  })
  t.strictSame(
    listener.filterChains.map(({ filterChainMatch }) => filterChainMatch?.serverNames),
    [
      ['a.own', 'both'],
      ['b.own', 'b.alias'],
    ],
  )
})

t.test('each validator has the bundles of those alone that may call, and never none', async (t) => {
  const ids = policyOf('db', {
    rules: [
      {
        from: [{ source: { principals: ['cluster-2.local/ns/client/sa/sleep'] } }],
        when: [{ key: 'connection.sni', values: [sniOf('db', 3306)] }],
      },
      { when: [{ key: 'connection.sni', values: [sniOf('web', 9080)] }] },
    ],
  })
  t.strictSame(build(web + db + cache + ids).trust, {
    ROOTCA: ['cluster-1.local', 'cluster-2.local', 'cluster-3.local'],
    'ROOTCA/cluster-1.local,cluster-2.local': ['cluster-1.local', 'cluster-2.local'],
    'ROOTCA/cluster-2.local': ['cluster-2.local'],
  })
  t.notOk(build(web + db + cache + ids).chains.has(`terminate ${sniOf('cache', 6379)}`), 'nobody may call it')
  t.strictSame(build(web, { secrets: false }).trust, {}, 'in clear no secrets')
  const closed = build(web + policyOf('nobody', { action: 'ALLOW' }))
  t.strictSame([...closed.chains.keys()], ['nothing is exposed'])
  const unknown = build(web, { with: bundles.slice(2) })
  t.strictSame(
    [...unknown.chains.keys()],
    ['nothing is exposed'],
    'of those that have a bundle none may call',
  )
  t.ok(Object.values({ ...closed.trust, ...unknown.trust }).every((domains) => (domains?.length ?? 0) > 0))
})

t.test('the two modes of a service have clusters of different names, and the same endpoints', async (t) => {
  const mesh = (mode: string) =>
    serviceOf('mesh', { name: 'http', port: 9443 }, [4], {
      annotations: { 'isthmus.io/mode': mode },
      mesh: true,
    })
  const facts = (mode: string) =>
    build(mesh(mode)).clusters.map(({ name, edsClusterConfig, transportSocketMatches }) => [
      name,
      edsClusterConfig?.serviceName,
      transportSocketMatches.length > 0,
    ])
  t.strictSame(facts('terminate'), [[sniOf('mesh', 9443), sniOf('mesh', 9443), true]])
  t.strictSame(facts('passthrough'), [
    [sniOf('mesh', 9443).replace('outbound', 'passthrough'), sniOf('mesh', 9443), false],
  ])
})

t.test('where nothing changed the listener is not made again', async (t) => {
  const first = build(web + db)
  const second = build(web + db, { previous: first.builder })
  t.equal(second.listener, first.listener)
  t.equal(build(web, { previous: second.builder }).chains.size, 1)
})

t.test('explain says where the server speaks first, and what keeps an Envoy from serving it', async (t) => {
  const detail = (yaml: string, name: string, port: number) =>
    explainServing(modelOf(COMMON + yaml), 'cluster-2', `${name}.bookinfo.svc.cluster.local`, port)[0]?.detail
  t.notMatch(detail(web, 'web', 9080), /speaks? first/)
  t.match(detail(db, 'db', 3306), /; mysql: the server speaks first$/)
  const some = serviceOf('some', { name: 'p', port: 7000 }, [1])
  t.match(
    detail(some, 'some', 7000),
    /; no protocol is named: the server may speak first, unless appProtocol or/,
  )
  const deny = policyOf('addresses', {
    action: 'DENY',
    rules: [{ from: [{ source: { ipBlocks: ['192.0.2.0/24'] } }] }],
  })
  t.match(
    detail(db + deny, 'db', 3306),
    /where an Envoy is the gateway it waits for the client all the same, since DENY AuthorizationPolicy\/bookinfo\/addresses rules\[0\]/,
  )
})
