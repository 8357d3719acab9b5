// The story's own YAML through the parser into the model: what cluster-1 exposes, to whom, and what it says meanwhile.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { canonicalJson } from '../../src/lib/canonical.ts'
import { explainClient, explainServing, servingTarget } from '../../src/model/explain.ts'
import { disagreement, exportsFor } from '../../src/model/export-of.ts'
import type { Model } from '../../src/model/types.ts'
import { gatewayService, manifests, modelOf, peerSecret, pod, said } from './build.ts'

const EXAMPLES = join(import.meta.dirname, '..', '..', 'deploy', 'examples', 'bookinfo')
const read = (...path: string[]): string =>
  readFileSync(join(EXAMPLES, ...path), 'utf8')
    .replaceAll(/\$\{ORG\}/g, 'acme')
    .replaceAll(/\$\{TEN\}/g, 'eng')
const story = (...names: string[]): string[] => names.map((name) => read('story', `${name}.yaml`))
const folder = (name: string): string[] => readdirSync(join(EXAMPLES, name)).map((file) => read(name, file))

/** What the EndpointSlice controller makes of one pod. */
const slice = (
  service: string,
  suffix: string,
  address: string,
  ports: Readonly<Record<string, number>>,
) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: {
    name: `${service}-${suffix}`,
    namespace: 'bookinfo',
    labels: { 'kubernetes.io/service-name': service },
  },
  addressType: 'IPv4',
  ports: Object.entries(ports).map(([name, port]) => ({ name, port })),
  endpoints: [{ addresses: [address] }],
})
const SLICES = manifests(
  slice('productpage', 'a', '10.1.0.1', { http: 9080 }),
  slice('details', 'a', '10.1.0.2', { http: 9080, 'http-admin': 9091 }),
  slice('reviews', 'a', '10.1.0.3', { http: 9080 }),
  slice('ratings', 'a', '10.1.0.4', { http: 8081 }),
  slice('ratings', 'b', '10.1.0.5', { http: 8082 }),
)
const cluster1 = (...more: string[]): Model =>
  modelOf([...folder('cluster-1'), SLICES, ...more].join('\n---\n'), 'cluster-1')
const LIVE = manifests(
  gatewayService('eastwest-gateway', 'bookinfo'),
  pod('gw-1', 'bookinfo', { app: 'eastwest-gateway' }, 'eastwest-gateway'),
)

const host = (name: string) => `${name}.bookinfo.svc.cluster.local`
const exposed = (model: Model): string[] =>
  [...model.exposures.values()].filter(({ decision }) => decision.allowed).map(({ service }) => service.name)

t.test('S2: nothing is exposed before anybody says so', async (t) => {
  const model = cluster1()
  t.same(exposed(model), [])
  t.equal(
    model.exposures.get(host('productpage'))?.decision.reason,
    'no Workspace selects namespace cluster-1/bookinfo',
  )
})

t.test('S3: a gateway without an address says what it awaits', async (t) => {
  const model = cluster1(
    ...story('eastwest-gateway'),
    manifests(gatewayService('eastwest-gateway', 'bookinfo', [])),
  )
  t.match(
    said(model, 'IngressGateway/bookinfo/eastwest-gateway').join('\n'),
    /Programmed=False AwaitingAddress: Service\/bookinfo\/eastwest-gateway has no status.loadBalancer.ingress yet/,
  )
})

t.test(
  'S4: every service of the workspace is exposed, by a named rule; ports keep their own numbers',
  async (t) => {
    const model = cluster1(...story('eastwest-gateway', 'bookinfo-ws', 'bookinfo-ws-eastwest'), LIVE)
    t.same(exposed(model), ['details', 'productpage', 'ratings', 'reviews'])
    t.match(model.exposures.get(host('ratings')), {
      rule: 'bookinfo-ws/bookinfo-ws-setting[0]',
      gateway: 'bookinfo/eastwest-gateway',
      decision: {
        reason:
          'WorkspaceSetting/acme/eng/bookinfo-ws/bookinfo-ws-setting spec.defaultEastWestGatewaySettings[0] exposes every service of the workspace',
      },
    })
    t.match(model.services.find((each) => each.name === 'ratings')?.ports, [
      {
        number: 80,
        protocol: 'http',
        endpoints: [
          { address: '10.1.0.4', port: 8081 },
          { address: '10.1.0.5', port: 8082 },
        ],
      },
    ])
    t.same(
      model.services
        .find((each) => each.name === 'details')
        ?.ports.map((port) => [port.number, port.endpoints[0]?.port]),
      [
        [9080, 9080],
        [9090, 9091],
      ],
    )
    t.match(model.gateways, [
      {
        spiffeIds: ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'],
        addresses: [{ address: '192.0.2.1', port: 15443 }],
        drainMs: 45_000,
      },
    ])
    t.same(
      model.conditions.filter((each) => !each.status && !each.object.startsWith('Service/')),
      [],
      'nothing is wrong',
    )
  },
)

const LIMITED = [
  ...story('bookinfo-ws', 'bookinfo-ws-limited'),
  read('more', 'gateway-in-eastwest.yaml'),
  manifests(
    gatewayService('eastwest-gateway', 'eastwest'),
    pod('gw-1', 'eastwest', { app: 'eastwest-gateway' }, 'eastwest-gateway'),
  ),
]

t.test('S8: only what the labels select stays', async (t) => {
  const model = cluster1(...LIMITED)
  for (const { service, decision } of model.exposures.values()) {
    if (service.namespace !== 'bookinfo') continue
    const selected = service.labels['app'] === 'details' || service.labels['failover'] === 'enable'
    t.equal(decision.allowed, selected, service.name)
  }
  t.ok(exposed(model).includes('details'))
  t.notOk(exposed(model).includes('reviews'))
})

t.test('S8: without a gateway in eastwest nothing is exposed, and it is said', async (t) => {
  const model = cluster1(...story('eastwest-gateway', 'bookinfo-ws', 'bookinfo-ws-limited'), LIVE)
  t.same(exposed(model), [])
  t.match(
    said(model, 'WorkspaceSetting/acme/eng/bookinfo-ws/bookinfo-ws-setting').join('\n'),
    /NoMatchingPods: .*\[0\].workloadSelector app=eastwest-gateway matches no gateway pods in namespace "eastwest"/,
  )
})

const WIDE = [...story('eastwest-gateway', 'bookinfo-ws', 'bookinfo-ws-eastwest'), LIVE]
const NETWORKS = [
  ...story('reachability'),
  read('more', 'cluster-3.yaml'),
  manifests(peerSecret('cluster-2'), peerSecret('cluster-3')),
]

t.test('S9: the network decides who is told', async (t) => {
  const model = cluster1(...WIDE, ...NETWORKS)
  const to = (id: string) => exportsFor(model, model.clusters.get(id) ?? model.self)
  t.equal(to('cluster-2').allowed.allowed, true)
  t.equal(to('cluster-2').services.length, 4)
  t.match(to('cluster-3'), {
    allowed: { allowed: false, reason: /has no entry for network "cluster-3-network"/ },
    services: [],
  })
  t.notOk(model.reachable('cluster-1-network', 'cluster-2-network').allowed, 'one direction only')
})

t.test('S11: while the gateway awaits its address the entries are withheld, with the reason', async (t) => {
  const model = cluster1(
    ...story('eastwest-gateway', 'bookinfo-ws', 'bookinfo-ws-eastwest'),
    ...NETWORKS,
    manifests(gatewayService('eastwest-gateway', 'bookinfo', [])),
  )
  const exports = exportsFor(model, model.clusters.get('cluster-2') ?? model.self)
  t.same(exports.services, [])
  t.match(
    exports.withheld.map((each) => each.reason)[0],
    /^AwaitingAddress: Service\/bookinfo\/eastwest-gateway has no status.loadBalancer.ingress yet/,
  )
  t.match(
    said(model, 'WorkspaceSetting/acme/eng/bookinfo-ws/bookinfo-ws-setting').join('\n'),
    /Programmed=False AwaitingAddress/,
  )
  const broken = explainServing(model, 'cluster-2', 'productpage.bookinfo', 9080).find((hop) => !hop.ok)
  t.match(broken, {
    hop: 'address',
    code: 'AwaitingAddress',
    detail: /AwaitingAddress: gateway bookinfo\/eastwest-gateway/,
    fix: /status.loadBalancer.ingress/,
  })
})

t.test('S12: without the gateway nothing is exposed', async (t) => {
  const model = cluster1(...story('bookinfo-ws', 'bookinfo-ws-eastwest'), ...NETWORKS)
  t.same(exposed(model), [])
  t.match(explainServing(model, 'cluster-2', 'productpage.bookinfo', 9080)[0], {
    hop: 'exposed',
    ok: false,
    code: 'NotExposed',
    fix: /workloadSelector/,
  })
})

t.test('explain, the serving half', async (t) => {
  const model = cluster1(...WIDE, ...NETWORKS)
  const ask = (from: string, name: string, port: number) => explainServing(model, from, name, port)
  for (const name of [
    'productpage.bookinfo',
    'productpage.bookinfo.svc',
    host('productpage'),
    'ProductPage.Bookinfo.',
  ]) {
    t.same(
      ask('cluster-2', name, 9080).map((hop) => [hop.hop, hop.ok]),
      [
        ['exposed', true],
        ['reachable', true],
        ['address', true],
        ['backend', true],
      ],
      name,
    )
  }
  t.match(servingTarget(model, 'productpage.bookinfo', 9080), {
    sni: `outbound_.9080_._.${host('productpage')}`,
    gateway: { name: 'eastwest-gateway' },
  })
  const broken = (from: string, name: string, port: number) => ask(from, name, port).find((hop) => !hop.ok)
  t.match(broken('cluster-2', 'nothing.bookinfo', 9080), {
    hop: 'exposed',
    code: 'NoService',
    detail: /namespace "bookinfo" has details, /,
  })
  t.match(broken('cluster-2', 'ratings.bookinfo', 9080), {
    hop: 'exposed',
    code: 'NoPort',
    detail: /no TCP port 9080; it has 80 \(http\)/,
  })
  t.match(broken('cluster-3', 'ratings.bookinfo', 80), {
    hop: 'reachable',
    code: 'NotReachable',
    fix: /networkReachability\["cluster-3-network"\]: add "cluster-1-network"/,
  })
  t.match(broken('cluster-9', 'ratings.bookinfo', 80), { hop: 'reachable', code: 'UnknownCluster' })
  const trustless = cluster1(...WIDE, ...story('reachability'))
  t.match(explainServing(trustless, 'cluster-2', 'ratings.bookinfo', 80)[1], {
    hop: 'reachable',
    ok: false,
    code: 'NoPeer',
    fix: /isthmus.io\/peer/,
  })
})

t.test('explain, backends that are not ready', async (t) => {
  const notReady = (conditions: object) => {
    const down = {
      ...slice('productpage', 'a', '10.1.0.1', { http: 9080 }),
      endpoints: [{ addresses: ['10.1.0.1'], conditions }],
    }
    const model = modelOf(
      [...folder('cluster-1'), manifests(down), ...WIDE, ...NETWORKS].join('\n---\n'),
      'cluster-1',
    )
    return explainServing(model, 'cluster-2', 'productpage.bookinfo', 9080).at(-1)
  }
  t.match(notReady({ ready: false }), { hop: 'backend', ok: false, code: 'NotReady', fix: /10.1.0.1/ })
  t.match(notReady({ ready: false, serving: true, terminating: true }), {
    hop: 'backend',
    ok: true,
    detail: /terminating but still serve/,
  })
})

const ENTRY = `apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: global-gwinternal-productpage-bookinfo-svc-cluster-local, namespace: xcp-multicluster}
spec:
  hosts: [productpage.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{name: http, number: 9080, protocol: HTTP}]
  endpoints: [{address: 192.0.2.1, ports: {http: 15443}, labels: {network: cluster-1-network, security.istio.io/tlsMode: istio, xcp.tetrate.io/cluster: cluster-1}}]
`

t.test('explain, the client half', async (t) => {
  const cluster2 = (...more: string[]) =>
    modelOf([...folder('cluster-2'), ...more].join('\n---\n'), 'cluster-2')
  const there = cluster2(ENTRY, ...story('reachability'))
  t.same(
    explainClient(there, 'productpage.bookinfo', 9080).map((hop) => [hop.hop, hop.ok]),
    [
      ['reachable', true],
      ['entry', true],
      ['address', true],
    ],
  )
  t.match(explainClient(there, 'productpage.bookinfo', 80).at(-1), {
    hop: 'entry',
    ok: false,
    code: 'NoPort',
  })
  t.match(explainClient(there, 'reviews.bookinfo', 9080, 'cluster-1').at(-1), {
    hop: 'entry',
    code: 'NoEntry',
    detail: /no ServiceEntry for reviews.bookinfo.svc.cluster.local/,
  })
  t.match(explainClient(there, 'productpage.bookinfo', 9080, 'cluster-3').at(-1), {
    hop: 'address',
    code: 'NoEndpoints',
  })
  const local = cluster1(ENTRY)
  t.same(
    explainClient(local, 'productpage.bookinfo', 9080).map((hop) => [hop.hop, hop.ok]),
    [
      ['entry', true],
      ['backend', true],
    ],
    'ready here: the whole way',
  )
})

t.test('a disagreement of the two copies is one sentence', async (t) => {
  const yes = { allowed: true, reason: 'A lists it' }
  const no = { allowed: false, reason: 'B does not' }
  t.equal(disagreement(yes, yes), undefined)
  t.equal(disagreement(no, undefined), undefined)
  t.match(disagreement(yes, no), /this one allows it \(A lists it\), the other refuses it \(B does not\)/)
  t.match(disagreement(no, yes), /this one refuses it \(B does not\), the other allows it/)
})

t.test('equal objects in any order give equal models', async (t) => {
  const parts = [...folder('cluster-1'), SLICES, ...WIDE, ...NETWORKS]
  const report = (order: string[]) => canonicalJson(modelOf(order.join('\n---\n'), 'cluster-1'))
  t.equal(report(parts), report(parts.toReversed()))
})
