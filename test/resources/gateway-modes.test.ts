// How a gateway serves each service: terminated, over mutual TLS to mesh workloads, or passed through; and what each side is told.
import t from 'tap'
import { explainServing } from '../../src/model/explain.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { TYPE } from '../../src/xds/types.ts'
import { bundlesOf, gateway, modelOf, peer, reachability, setting, workspace, yamlOf } from './world.ts'

const HOST = 'reviews.bookinfo.svc.cluster.local'
const NAME = `outbound_.9080_._.${HOST}`
const bundles = await bundlesOf('cluster-1', 'cluster-2', 'cluster-3')
const MESH = { 'security.istio.io/tlsMode': 'istio' }
const id = (account: string) => `spiffe://cluster-1.local/ns/bookinfo/sa/${account}`

interface PodShape {
  readonly address: string
  readonly account?: string
  readonly mesh?: boolean
  readonly ready?: boolean
}

/** A Service with pods that have labels and service accounts. */
function reviews(
  pods: readonly PodShape[],
  annotations: Record<string, string> = {},
  ports = [9080],
): string {
  const name = (i: number) => `reviews-${i}`
  return yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'reviews', namespace: 'bookinfo', annotations },
      spec: { selector: { app: 'reviews' }, ports: ports.map((port) => ({ name: `p${port}`, port })) },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: 'reviews-1',
        namespace: 'bookinfo',
        labels: { 'kubernetes.io/service-name': 'reviews' },
      },
      addressType: 'IPv4',
      ports: ports.map((port) => ({ name: `p${port}`, port, protocol: 'TCP' })),
      endpoints: pods.map(({ address, ready = true }, i) => ({
        addresses: [address],
        conditions: { ready },
        targetRef: { kind: 'Pod', name: name(i), namespace: 'bookinfo' },
      })),
    },
    ...pods.map(({ account = 'reviews', mesh = true }, i) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: name(i), namespace: 'bookinfo', labels: { app: 'reviews', ...(mesh ? MESH : {}) } },
      spec: { serviceAccountName: account, containers: [{ name: 'main', image: 'main' }] },
    })),
  )
}

const NETWORKS = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
const PEERS = peer('cluster-2', bundles[1]?.pem ?? '')
const world = (service: string, more = '', networks = NETWORKS) =>
  service + gateway('203.0.113.10') + workspace + setting() + networks + PEERS + more

function build(yaml: string, issuers = true) {
  const model = modelOf(yaml)
  const options = {
    bind: { address: '0.0.0.0', port: 15443 },
    bundles,
    secrets: true,
    credentialFile: '',
    issuers,
  }
  const snapshot = gatewayResources(model, model.gateways[0], options).snapshot()
  const resource = (type: string, name: string) => {
    const found = snapshot.get(type)?.get(name)
    if (found === undefined) throw new Error(`no ${name}`)
    return found
  }
  const accepted = <T>(result: { ok: true; value: T } | { ok: false; error: unknown }): T => {
    if (!result.ok) throw new Error(JSON.stringify(result.error))
    return result.value
  }
  return {
    exposure: model.exposures.get(HOST),
    explained: explainServing(model, 'cluster-2', HOST, 9080)[0]?.detail,
    entry: exportEntries([...model.exposures.values()], model.gateways, model.self)[0],
    listener: () => accepted(acceptListener(resource(TYPE.listener, 'eastwest'))),
    upstream: (name = NAME) => accepted(acceptUpstream(resource(TYPE.cluster, name))),
    endpoints: accepted(acceptEndpoints(resource(TYPE.endpoints, NAME))).localities.flatMap(
      (each) => each.endpoints,
    ),
    raw: resource,
  }
}

const MODE = 'isthmus.io/mode'

t.test(
  'terminated: each mesh workload is spoken to over mutual TLS with its own id pinned, the others in clear',
  async (t) => {
    const built = build(
      world(
        reviews([
          { address: '10.0.0.1' },
          { address: '10.0.0.2', account: 'other' },
          { address: '10.0.0.3', mesh: false },
          { address: '10.0.0.4', account: 'late', ready: false },
        ]),
      ),
    )
    t.match(built.exposure?.mode, { mode: 'terminate', reason: 'the default' })
    t.strictSame(
      built.endpoints.map(({ address, socketMetadata }) => [address.host, socketMetadata]),
      [
        ['10.0.0.1', { tlsMode: 'istio', workload: id('reviews') }],
        ['10.0.0.2', { tlsMode: 'istio', workload: id('other') }],
        ['10.0.0.3', {}],
      ],
    )
    const pinned = (...accounts: string[]) => ({
      kind: 'tls',
      tls: {
        sni: NAME,
        peerIds: accounts.map((account) => ({ kind: 'exact', value: id(account) })),
        alpn: ['istio'],
      },
    })
    t.match(built.upstream().socketMatches, [
      { match: { tlsMode: 'istio', workload: id('other') }, socket: pinned('other') },
      { match: { tlsMode: 'istio', workload: id('reviews') }, socket: pinned('reviews') },
      { match: { tlsMode: 'istio' }, socket: pinned('other', 'reviews') },
      { match: {}, socket: { kind: 'raw' } },
    ])
    t.strictSame(built.entry?.subjectAltNames, [id('eastwest-gateway')])
  },
)

t.test('passthrough: a chain of its own, mesh workloads alone, and their ids for the callers', async (t) => {
  const pods = [{ address: '10.0.0.1' }, { address: '10.0.0.2', mesh: false }]
  const built = build(world(reviews(pods, { [MODE]: 'passthrough' })))
  t.match(built.exposure?.mode, {
    mode: 'passthrough',
    reason:
      /^Service\/bookinfo\/reviews metadata.annotations\["isthmus.io\/mode"\]; 1 of 2 ready endpoints are no mesh/,
  })
  t.match(built.explained, /; passthrough, caller: unverified: Service\/bookinfo\/reviews metadata/)
  t.notMatch(build(world(reviews(pods))).explained, /unverified/)
  const third = peer('cluster-3', bundles[2]?.pem ?? '')
  t.match(build(world(reviews(pods, { [MODE]: 'passthrough' }), third)).exposure?.mode, {
    mode: 'passthrough',
    reason: /reachability does not keep cluster-3 out here, the workload has to$/,
  })
  const [terminating, chain, ...more] = built.listener().chains
  t.equal(more.length, 0)
  t.equal(terminating?.mode, 'terminate')
  t.match(chain, {
    mode: 'passthrough',
    name: `passthrough ${NAME}`,
    upstream: NAME,
    sniCluster: false,
    rbac: [],
    match: {
      transportProtocol: 'tls',
      applicationProtocols: ['istio', 'istio-peer-exchange', 'istio-http/1.0', 'istio-http/1.1', 'istio-h2'],
    },
  })
  t.ok(chain?.match.serverNames.includes(NAME) && chain.match.serverNames.includes('reviews.bookinfo'))
  t.strictSame(
    built.endpoints.map(({ address, socketMetadata }) => [address.host, socketMetadata]),
    [['10.0.0.1', { tlsMode: 'istio' }]],
  )
  t.strictSame(built.upstream().socketMatches, [])
  t.strictSame(built.upstream().defaultSocket, { kind: 'raw' })
  t.strictSame(built.entry?.subjectAltNames, [id('reviews')])
})

t.test(
  'auto: passthrough where every ready endpoint is a mesh workload and reachability has nobody to keep out',
  async (t) => {
    const mode = (yaml: string) => build(yaml).exposure?.mode
    const auto = { [MODE]: 'auto' }
    const mesh = [{ address: '10.0.0.1' }, { address: '10.0.0.2', mesh: false, ready: false }]
    t.match(mode(world(reviews(mesh, auto))), {
      mode: 'passthrough',
      reason: /^auto \(Service.*every ready endpoint is/,
    })
    t.match(mode(world(reviews([...mesh, { address: '10.0.0.3', mesh: false }], auto))), {
      mode: 'terminate',
      reason: /pod reviews-2 is no mesh workload \(label security.istio.io\/tlsMode: istio\)/,
    })
    t.match(mode(world(reviews([], auto))), { mode: 'terminate', reason: /no endpoint is ready/ })
    const third = peer('cluster-3', bundles[2]?.pem ?? '')
    t.match(mode(world(reviews(mesh, auto), third)), {
      mode: 'terminate',
      reason: /reachability keeps cluster-3 out/,
    })
    const advertised = NETWORKS.replace(
      '"name":"default"',
      '"name":"default","annotations":{"isthmus.io/reachability":"advertise"}',
    )
    t.match(mode(world(reviews(mesh, auto), third, advertised)), { mode: 'passthrough' })
  },
)

t.test(
  'the Service’s annotation counts before the item’s; what is no mode is said and not followed',
  async (t) => {
    const item = (mode: string) =>
      setting().replace(
        '"workloadSelector"',
        `"configGenerationMetadata":{"annotations":{"${MODE}":"${mode}"}},"workloadSelector"`,
      )
    const pods = [{ address: '10.0.0.1' }]
    const withItem = (mode: string, annotations = {}) =>
      modelOf(
        reviews(pods, annotations) + gateway('203.0.113.10') + workspace + item(mode) + NETWORKS + PEERS,
      )
    t.match(withItem('passthrough').exposures.get(HOST)?.mode, {
      mode: 'passthrough',
      reason:
        'WorkspaceSetting/acme/eng/bookinfo-ws/bookinfo-ws-setting spec.defaultEastWestGatewaySettings[0].configGenerationMetadata.annotations["isthmus.io/mode"]',
    })
    t.match(withItem('passthrough', { [MODE]: 'terminate' }).exposures.get(HOST)?.mode, { mode: 'terminate' })
    const wrong = withItem('passthrough', { [MODE]: 'passthru' })
    t.match(wrong.exposures.get(HOST)?.mode, { mode: 'passthrough' })
    t.match(
      wrong.conditions.find(({ object, status }) => object === 'Service/bookinfo/reviews' && !status)
        ?.message,
      /isthmus.io\/mode"\]: expected one of terminate, passthrough, auto, found "passthru"/,
    )
    t.throws(() => withItem('passthru'), /one of terminate, passthrough, auto/)
  },
)

t.test('aliases: with the port always, without one where there is no other port', async (t) => {
  t.strictSame([...build(world(reviews([{ address: '10.0.0.1' }]))).upstream().aliases].sort(), [
    'reviews.bookinfo',
    'reviews.bookinfo.svc',
    'reviews.bookinfo.svc.cluster.local',
    'reviews.bookinfo.svc.cluster.local:9080',
    'reviews.bookinfo.svc:9080',
    'reviews.bookinfo:9080',
  ])
  const two = build(world(reviews([{ address: '10.0.0.1' }], {}, [9080, 9081])))
  t.strictSame([...two.upstream().aliases].sort(), [
    'reviews.bookinfo.svc.cluster.local:9080',
    'reviews.bookinfo.svc:9080',
    'reviews.bookinfo:9080',
  ])
})

t.test('PROXY protocol: ours is told the sources, an Envoy serves nobody else', async (t) => {
  const sources = gateway('203.0.113.10').replace(
    '"name":"eastwest-gateway","namespace":"bookinfo"}',
    '"name":"eastwest-gateway","namespace":"bookinfo","annotations":{"isthmus.io/proxy-protocol-sources":"10.0.0.0/8, 192.0.2.1"}}',
  )
  const yaml = reviews([{ address: '10.0.0.1' }]) + sources + workspace + setting() + NETWORKS + PEERS
  t.match(build(yaml).listener(), {
    proxyProtocol: {
      sources: [
        { address: '10.0.0.0', prefixLength: 8 },
        { address: '192.0.2.1', prefixLength: 32 },
      ],
    },
  })
  t.match(acceptListener(build(yaml, false).raw(TYPE.listener, 'eastwest')), {
    ok: false,
    error: { field: 'filter_chains[0].filter_chain_match.direct_source_prefix_ranges' },
  })
  t.throws(
    () => modelOf(sources.replace('192.0.2.1', 'lb.example')),
    /proxy-protocol-sources.*addresses or ranges/,
  )
})
