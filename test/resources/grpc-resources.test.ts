// What gRPC clients are told, judged by the validators of a real one (grpc-js-xds): they refuse much that an Envoy takes.
import { createRequire } from 'node:module'
import { fromBinary } from '@bufbuild/protobuf'
import { anyUnpack } from '@bufbuild/protobuf/wkt'
import t from 'tap'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { grpcResources } from '../../src/resources/grpc-resources.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { entryManifest } from '../../src/resources/service-entry-manifest.ts'
import { mergeOffers } from '../../src/resources/service-entry-merge.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { type Cluster, ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ClusterConfigSchema } from '../../src/xds/gen/envoy/extensions/clusters/aggregate/v3/cluster_pb.js'
import { UpstreamTlsContextSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { type Snapshot, TYPE } from '../../src/xds/types.ts'
import { gateway, modelOf, peer, reachability, service, setting, workspace, yamlOf } from './world.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const UPSTREAM = `outbound|9080||${HOST}`

/** The parts of grpc-js-xds that look at what arrives. */
interface Judge {
  decode(context: object, resource: object): { readonly name: string; readonly error?: string }
}
const require = createRequire(import.meta.url)
const load = (file: string, name: string): Judge =>
  require(`@grpc/grpc-js-xds/build/src/xds-resource-type/${file}-resource-type.js`)[name].get()
require('@grpc/grpc-js-xds').register()
const JUDGES: Readonly<Record<string, Judge>> = {
  [TYPE.listener]: load('listener', 'ListenerResourceType'),
  [TYPE.route]: load('route-config', 'RouteConfigurationResourceType'),
  [TYPE.cluster]: load('cluster', 'ClusterResourceType'),
  [TYPE.endpoints]: load('endpoint', 'EndpointResourceType'),
}
const server = { server_uri: 'test', channel_creds: [], server_features: [] }
const bootstrap = { xdsServers: [server], node: { id: '' }, certificateProviders: { default: {} } }

/** What a client says to each resource; '' where it takes it. */
function verdicts(snapshot: Snapshot): [name: string, error: string][] {
  return [...snapshot].flatMap(([typeUrl, resources]) =>
    [...resources].map(([name, { anyTypeUrl, body }]): [string, string] => {
      const any = { type_url: anyTypeUrl, value: Buffer.from(body) }
      const { name: read, error = '' } = JUDGES[typeUrl]?.decode({ server, bootstrap }, any) ?? {
        name,
        error: `no client knows ${typeUrl}`,
      }
      return [name, error === '' && read !== name ? `is read as ${read}` : error]
    }),
  )
}

const networks = (...callers: string[]) =>
  reachability(
    ['cluster-1', 'cluster-2', 'cluster-3'],
    Object.fromEntries(callers.map((each) => [`${each}-network`, 'cluster-2-network'])),
  )
const offered = (cluster: string, address: string) => {
  const model = modelOf(
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
      gateway(address) +
      workspace +
      setting() +
      networks(cluster) +
      peer('cluster-2', 'PEM'),
    cluster,
  )
  const entries = exportEntries([...model.exposures.values()], model.gateways, model.self)
  return new Map(entries.map((entry) => [entry.hosts[0] ?? '', entry]))
}
const imports = (...offers: [string, string][]) =>
  yamlOf(
    ...mergeOffers(new Map(offers.map(([cluster, at]) => [cluster, offered(cluster, at)]))).map(
      entryManifest,
    ),
  ) + networks()
const one = imports(['cluster-1', '203.0.113.10'])
const two = imports(['cluster-1', '203.0.113.10'], ['cluster-3', '203.0.113.30'])
const local = (...pods: string[]) => service({ name: 'productpage', pods })

const build = (yaml: string): Snapshot => grpcResources(modelOf(yaml, 'cluster-2')).snapshot()

function clusterOf(snapshot: Snapshot, name: string): Cluster {
  const resource = snapshot.get(TYPE.cluster)?.get(name)
  if (resource === undefined)
    throw new Error(`no ${name} in ${[...(snapshot.get(TYPE.cluster)?.keys() ?? [])]}`)
  return fromBinary(ClusterSchema, resource.body)
}

/** The clusters that are tried one after the other. */
function partsOf(snapshot: Snapshot): readonly string[] {
  const { clusterDiscoveryType: type } = clusterOf(snapshot, UPSTREAM)
  if (type.case !== 'clusterType' || type.value.typedConfig === undefined) return []
  return anyUnpack(type.value.typedConfig, ClusterConfigSchema)?.clusters ?? []
}

/** The ids that may answer, and undefined where it is spoken to in clear. */
function idsOf(snapshot: Snapshot, name: string): readonly unknown[] | undefined {
  const socket = clusterOf(snapshot, name).transportSocket
  if (socket?.configType.case !== 'typedConfig') return undefined
  const common = anyUnpack(socket.configType.value, UpstreamTlsContextSchema)?.commonTlsContext
  const { validationContextType: type } = common ?? {}
  if (type?.case !== 'combinedValidationContext') return []
  return (
    type.value.defaultValidationContext?.matchSubjectAltNames.map(({ matchPattern }) => matchPattern.value) ??
    []
  )
}

function addressesOf(snapshot: Snapshot, name: string): string[] {
  const body = snapshot.get(TYPE.endpoints)?.get(name)?.body ?? new Uint8Array()
  return fromBinary(ClusterLoadAssignmentSchema, body).endpoints.flatMap(({ priority, lbEndpoints }) =>
    lbEndpoints.map(({ hostIdentifier }) => {
      const address = hostIdentifier.case === 'endpoint' ? hostIdentifier.value.address?.address : undefined
      return `${priority} ${address?.case === 'socketAddress' ? address.value.address : '?'}`
    }),
  )
}

t.test('a real client takes every resource, whatever stands behind the host', async (t) => {
  const worlds = {
    'imported only': one,
    'from two clusters': two,
    'here and elsewhere': one + local('10.0.2.10:8080', '10.0.2.11:8080'),
    'here and in two clusters': two + local('10.0.2.10:8080', '10.0.2.11:8080!'),
    'here only': local('10.0.2.10:8080'),
    'nobody serves it': local(),
    'a gateway known by name': one.replace('203.0.113.10', 'lb.example.com').replace('"STATIC"', '"DNS"'),
  }
  for (const [name, yaml] of Object.entries(worlds)) {
    const snapshot = build(yaml)
    const found = verdicts(snapshot)
    t.ok(found.length >= 6, name)
    // An empty list of ids would let everybody answer.
    for (const cluster of snapshot.get(TYPE.cluster)?.keys() ?? [])
      t.not(idsOf(snapshot, cluster)?.length, 0, `${name}: ${cluster} is pinned, or in clear`)
    for (const [resource, error] of found) t.equal(error, '', `${name}: ${resource}`)
  }
})

t.test('the validators do refuse: every Cluster as an Envoy has it', async (t) => {
  const bind = parseBindRange('127.240.0.0/16')
  if (!bind.ok) throw new Error(bind.error)
  const options = { bind: bind.value, bundles: [], secrets: false, hostNames: false, credentialFile: '' }
  const clusters = sidecarResources(modelOf(one, 'cluster-2'), options).snapshot().get(TYPE.cluster)
  const found = verdicts(new Map([[TYPE.cluster, clusters ?? new Map()]]))
  t.match(found, [[UPSTREAM, /unsupported lb_policy: LEAST_REQUEST/]])
})

t.test('each name of a port is resolved, and leads to its one RouteConfiguration', async (t) => {
  const snapshot = build(one)
  const names = [HOST, 'productpage.bookinfo', 'productpage.bookinfo.svc'].map((name) => `${name}:9080`)
  t.strictSame([...(snapshot.get(TYPE.listener)?.keys() ?? [])].sort(), names.sort())
  t.strictSame([...(snapshot.get(TYPE.route)?.keys() ?? [])], [`${HOST}:9080`])
})

t.test('a remote gateway is pinned', async (t) => {
  const snapshot = build(one)
  const part = `${UPSTREAM}|tls`
  t.strictSame(partsOf(snapshot), [part])
  t.strictSame(idsOf(snapshot, part), ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'])
  t.strictSame(addressesOf(snapshot, part), ['0 203.0.113.10'])
})

t.test(
  'the Cluster of a port is an aggregate, always: one that changes its kind crashes C-core',
  async (t) => {
    for (const yaml of [one, two, local('10.0.2.10:8080'), local(), two + local()])
      t.match(clusterOf(build(yaml), UPSTREAM).clusterDiscoveryType.case, 'clusterType')
  },
)

t.test(
  'own endpoints in clear first, then each cluster with the ids of its own gateways alone',
  async (t) => {
    const snapshot = build(two + local('10.0.2.10:8080'))
    t.strictSame(
      partsOf(snapshot).map((name) => [name, idsOf(snapshot, name), addressesOf(snapshot, name)]),
      [
        [`${UPSTREAM}|clear`, undefined, ['0 10.0.2.10']],
        [
          `${UPSTREAM}|tls|cluster-1`,
          ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'],
          ['0 203.0.113.10'],
        ],
        [
          `${UPSTREAM}|tls|cluster-3`,
          ['spiffe://cluster-3.local/ns/bookinfo/sa/eastwest-gateway'],
          ['0 203.0.113.30'],
        ],
      ],
    )
  },
)

t.test('who is ready changes endpoints, and never a Cluster', async (t) => {
  const [ready, gone] = [build(one + local('10.0.2.10:8080')), build(one + local())]
  t.strictSame(
    gone.get(TYPE.cluster)?.get(UPSTREAM)?.version,
    ready.get(TYPE.cluster)?.get(UPSTREAM)?.version,
  )
  t.strictSame(addressesOf(gone, `${UPSTREAM}|clear`), [])
  t.strictSame(addressesOf(gone, `${UPSTREAM}|tls`), ['0 203.0.113.10'])
})

t.test('endpoints that expect a PROXY header are not for gRPC clients, which send none', async (t) => {
  const behind = service({
    name: 'productpage',
    pods: ['10.0.2.10:8080'],
    annotations: { 'isthmus.io/proxy-protocol': 'v2' },
  })
  const snapshot = build(one + behind)
  t.strictSame(addressesOf(snapshot, `${UPSTREAM}|clear`), [])
  t.strictSame(addressesOf(snapshot, `${UPSTREAM}|tls`), ['0 203.0.113.10'])
})

t.test('what is nearer by the rule comes first, own endpoints where neither is', async (t) => {
  const place = (name: string, of: string) =>
    yamlOf({
      apiVersion: 'api.tsb.tetrate.io/v2',
      kind: 'Cluster',
      metadata: { organization: 'acme', name },
      spec: {
        network: `${name}-network`,
        trustDomain: `${name}.local`,
        locality: { region: of, zone: `${of}-a` },
      },
    })
  const rule = yamlOf({
    apiVersion: 'api.tsb.tetrate.io/v2',
    kind: 'OrganizationSetting',
    metadata: { organization: 'acme', name: 'default' },
    spec: { failoverSettings: { topologyChoice: 'LOCALITY' } },
  })
  const [entries = ''] = two.split('---\n{"apiVersion":"api.tsb')
  const far = local('10.0.2.10:8080').replace(
    '"addresses":["10.0.2.10"]',
    '"addresses":["10.0.2.10"],"zone":"eu-b"',
  )
  const clusters = ['cluster-1', 'cluster-2', 'cluster-3'].map((name) => place(name, 'eu')).join('')
  const order = (of: string) => {
    const snapshot = build(
      entries.replace('"region-of-cluster-3"', `"${of}/${of}-a"`) + far + rule + clusters,
    )
    return partsOf(snapshot).map((name) => name.slice(UPSTREAM.length + 1))
  }
  t.strictSame(order('us'), ['clear', 'tls|cluster-1', 'tls|cluster-3'])
  t.strictSame(order('eu'), ['tls|cluster-3', 'clear', 'tls|cluster-1'])
})

t.test("a host's own name is nobody's short name", async (t) => {
  const host = 'productpage.bookinfo'
  const entry = yamlOf({
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'mine', namespace: 'a' },
    spec: {
      ...{ hosts: [host], location: 'MESH_EXTERNAL', resolution: 'STATIC' },
      ports: [{ name: 'grpc', number: 9080, protocol: 'GRPC' }],
      endpoints: [{ address: '198.51.100.1' }],
    },
  })
  const snapshot = build(entry + local('10.0.2.10:8080'))
  const names = [...(snapshot.get(TYPE.listener)?.keys() ?? [])].sort()
  t.strictSame(names, [`${host}:9080`, `${host}.svc:9080`, `${HOST}:9080`].sort())
  t.strictSame(addressesOf(snapshot, `outbound|9080||${host}|clear`), ['0 198.51.100.1'])
  const text = (name: string) =>
    Buffer.from(snapshot.get(TYPE.listener)?.get(`${name}:9080`)?.body ?? []).toString('latin1')
  t.notMatch(text(host), HOST, 'and leads to itself')
  t.match(text(`${host}.svc`), HOST)
})
