// Subsets of a service, from the DestinationRule that names them to the endpoints that answer, in the cluster that serves them and in the
// one that calls.
import t from 'tap'
import { formatServerName } from '../../src/model/server-name.ts'
import { annotatedSubsets, parseSubsets } from '../../src/model/subsets.ts'
import type { Model } from '../../src/model/types.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { gatewayRoutes } from '../../src/resources/gateway-upstreams.ts'
import { istioConfig } from '../../src/resources/istio-config.ts'
import { withParts } from '../../src/resources/policy-names.ts'
import { acceptEntry } from '../../src/resources/service-entry-accept.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { entryManifest, entryOf } from '../../src/resources/service-entry-manifest.ts'
import { mergeOffers, offersOf } from '../../src/resources/service-entry-merge.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import { bundlesOf, gateway, modelOf, reachability, setting, workspace, yamlOf } from './world.ts'

const HOST = 'reviews.bookinfo.svc.cluster.local'
const sni = (subset: string): string => `outbound_.9080_.${subset}_.${HOST}`

/** Service, pods and slice; a pod is `v1 10.0.0.1`, not ready with a `!` behind. */
const reviews = (...pods: string[]): string =>
  yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'reviews', namespace: 'bookinfo' },
      spec: { selector: { app: 'reviews' }, ports: [{ name: 'http', port: 9080 }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'r', namespace: 'bookinfo', labels: { 'kubernetes.io/service-name': 'reviews' } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 9080, protocol: 'TCP' }],
      endpoints: pods.map((pod, i) => ({
        addresses: [pod.split(' ')[1]?.replace('!', '')],
        conditions: { ready: !pod.endsWith('!') },
        targetRef: { kind: 'Pod', name: `r${i}` },
      })),
    },
    ...pods.map((pod, i) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: `r${i}`,
        namespace: 'bookinfo',
        labels: { app: 'reviews', version: pod.split(' ')[0] },
      },
      spec: { serviceAccountName: 'reviews', containers: [{ name: 'c' }] },
    })),
  )

const rule = (
  subsets: readonly object[] = [version('v1'), version('v2')],
  { host = 'reviews', name = 'reviews', namespace = 'bookinfo', exportTo = [] as string[] } = {},
): string =>
  yamlOf({
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name, namespace },
    spec: { host, subsets, exportTo },
  })
const version = (name: string) => ({ name, labels: { version: name } })
const exposing =
  gateway('203.0.113.10') + workspace + setting() + reachability(['cluster-1', 'cluster-2'], {})
const served = (yaml: string): Model => modelOf(yaml + exposing)
const exported = (model: Model) => exportEntries([...model.exposures.values()], model.gateways, model.self)
const said = ({ conditions }: Model, name: string): string[] =>
  conditions
    .filter(({ object }) => object === `DestinationRule/${name}`)
    .map(({ status, reason, message }) => `${status} ${reason} ${message}`)

t.test('each subset is a server name at the gateway, with the endpoints of its labels', async (t) => {
  const model = served(reviews('v1 10.0.0.1', 'v2 10.0.0.2', 'v2 10.0.0.3') + rule())
  const routes = gatewayRoutes(model, 'bookinfo/eastwest-gateway')
  t.strictSame(
    routes.map(({ name, endpoints }) => [name, endpoints.map(({ address }) => address)]),
    [
      [sni(''), ['10.0.0.1', '10.0.0.2', '10.0.0.3']],
      [sni('v1'), ['10.0.0.1']],
      [sni('v2'), ['10.0.0.2', '10.0.0.3']],
    ],
  )
  t.strictSame(
    routes.slice(1).flatMap(({ aliases }) => aliases),
    [],
    'gRPC clients know no subsets',
  )
})

t.test('a subset that nobody is ready in keeps its server name, and no endpoint', async (t) => {
  const model = served(reviews('v1 10.0.0.1') + rule())
  t.match(gatewayRoutes(model, 'bookinfo/eastwest-gateway')[2], { name: sni('v2'), endpoints: [] })
})

t.test(
  'a policy about the service is about its subsets and pods, denied or allowed, in any case',
  async (t) => {
    const policies = [
      {
        name: 'bookinfo/p',
        action: 'DENY' as const,
        rules: [
          {
            name: 'r',
            namespace: 'bookinfo',
            from: [],
            to: [],
            when: [
              {
                attribute: 'sni' as const,
                name: 'connection.sni',
                values: [sni('').toUpperCase(), 'x*'],
                negated: false,
              },
            ],
          },
        ],
      },
    ]
    const headless = reviews('v1 10.0.0.1')
      .replace('"selector"', '"clusterIP":"None","selector"')
      .replace('"targetRef"', '"hostname":"r-0","targetRef"')
    const routes = gatewayRoutes(served(headless + rule()), 'bookinfo/eastwest-gateway')
    const [policy] = withParts(policies, routes)
    t.strictSame(policy?.rules[0]?.when[0]?.values, [
      sni('').toUpperCase(),
      `outbound_.9080_._.r-0.${HOST}`,
      sni('v1'),
      sni('v2'),
      'x*',
    ])
    t.equal(
      withParts(policies, gatewayRoutes(served(reviews('v1 10.0.0.1')), 'bookinfo/eastwest-gateway')),
      policies,
    )
  },
)

t.test('two subsets never have one server name, as a long one and its short form would', async (t) => {
  const long = 'v'.repeat(63)
  const [, , short = ''] = formatServerName({ port: 9080, subset: long, host: HOST }).split('_.')
  const model = served(reviews('v1 10.0.0.1') + rule([version(long), version(short)]))
  const names = gatewayRoutes(model, 'bookinfo/eastwest-gateway').map(({ name }) => name)
  t.strictSame(names, [sni(''), sni(short)])
  t.match(said(model, 'bookinfo/reviews').join(), /InvalidSubset spec.subsets\[1\].*has this name in TLS/)
})

t.test('a policy means the service by an alias and by a pattern too, and its parts with it', async (t) => {
  const routes = gatewayRoutes(served(reviews('v1 10.0.0.1') + rule()), 'bookinfo/eastwest-gateway')
  const rules = (value: string) => {
    const when = [{ attribute: 'sni' as const, name: 'connection.sni', values: [value], negated: false }]
    return [{ name: 'r', namespace: 'bookinfo', from: [], to: [], when }]
  }
  const parts = (value: string): string[] => {
    const [policy] = withParts([{ name: 'bookinfo/p', action: 'DENY', rules: rules(value) }], routes)
    return policy?.rules[0]?.when[0]?.values.slice(1) ?? []
  }
  for (const value of [
    'reviews.bookinfo:9080',
    'Reviews.Bookinfo.svc',
    HOST,
    `${sni('').slice(0, -5)}*`,
    '*.svc',
  ])
    t.strictSame(parts(value), [sni('v1'), sni('v2')], value)
  t.strictSame(parts(sni('v1')), [], 'a part is not the whole')
  t.strictSame(parts('reviews.bookinfo:9081'), [])
})

t.test(
  'which rules count: of the own namespace, else of the root namespace; what is no subset is said',
  async (t) => {
    const pods = reviews('v1 10.0.0.1')
    const subsetsIn = (yaml: string): string[] =>
      (served(pods + yaml).services.find(({ host }) => host === HOST)?.subsets ?? []).map(({ name }) => name)
    t.strictSame(subsetsIn(rule([version('v1')], { host: HOST })), ['v1'], 'the whole name')
    t.strictSame(
      subsetsIn(rule([version('v1')], { host: 'reviews.bookinfo' })),
      [],
      'as Istio reads it: another host',
    )
    const root = rule([version('v9')], { host: HOST, namespace: 'istio-system' })
    t.strictSame(subsetsIn(root), ['v9'])
    t.strictSame(subsetsIn(root + rule([version('v1')])), ['v1'])
    t.strictSame(subsetsIn(rule([version('v1')], { host: HOST, namespace: 'elsewhere' })), [])
    t.strictSame(subsetsIn(rule([version('v1')], { exportTo: ['.'] })), [])

    const model = served(
      pods +
        rule([version('v1'), version('V2'), version('v1'), { name: 'x'.repeat(63) }]) +
        rule([version('v9')], { host: HOST, name: 'far', namespace: 'elsewhere' }) +
        rule([version('v8')], { name: 'hidden', exportTo: ['.'] }),
    )
    t.match(
      said(model, 'bookinfo/reviews').join('\n'),
      /InvalidSubset spec\.subsets\[1\]\.name: "V2": cannot be named in TLS/,
    )
    t.match(said(model, 'elsewhere/far'), [/^true SubsetsOfAnotherNamespace .*"bookinfo", where a rule does/])
    t.match(said(model, 'bookinfo/hidden'), [/^false NotExported/])
    const many = Array.from({ length: 40 }, (_, i) => version(`v${i}`))
    t.equal(subsetsIn(rule(many)).length, 32)
  },
)

t.test('a peer is told of the subsets, and how many of each are ready', async (t) => {
  const entries = exported(
    served(reviews('v1 10.0.0.1', 'v2 10.0.0.2', 'v2 10.0.0.3', 'v1 10.0.0.4!') + rule()),
  )
  t.match(entries, [
    {
      annotations: { 'isthmus.io/subsets': '{"v1":{"version":"v1"},"v2":{"version":"v2"}}' },
      endpoints: [{ labels: { 'subset.isthmus.io/v1': '1', 'subset.isthmus.io/v2': '2' } }],
    },
  ])
  const peer = { cluster: 'cluster-1', trustDomain: 'cluster-1.local', network: 'n' }
  const accepted = entries.map((entry) => acceptEntry(entry, peer))
  const offers = new Map(accepted.flatMap((each) => (each.ok ? [[HOST, each.value] as const] : [])))
  const merged = mergeOffers(new Map([['cluster-1', offers]]))
  t.strictSame(annotatedSubsets(merged[0]?.annotations ?? {}), [version('v1'), version('v2')])
  t.strictSame(offersOf(merged, peer).get(HOST)?.annotations, offers.get(HOST)?.annotations, 'and back')
})

t.test('an annotation that a peer wrote is read strictly', async (t) => {
  const [entry] = exported(served(reviews('v1 10.0.0.1') + rule()))
  if (entry === undefined) throw new Error('no entry')
  const peer = { cluster: 'cluster-1', trustDomain: 'cluster-1.local', network: 'n' }
  const bad = ['{', '[]', '{"v1":[]}', '{"V1":{}}', '{"v1":{"a b":"c"}}', '{"v1":{"a":1}}', '{"":{}}']
  for (const text of bad) {
    const found = acceptEntry({ ...entry, annotations: { 'isthmus.io/subsets': text } }, peer)
    t.match(found, { ok: false, error: { field: 'metadata.annotations["isthmus.io/subsets"]' } }, text)
  }
  const many = Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`v${i}`, {}]))
  t.match(parseSubsets(JSON.stringify(many)), { ok: false, error: /at most 32/ })
  t.strictSame(parseSubsets('{"__proto__":{"a":"b"}}').ok, false)
})

/** The importing cluster's resources for its sidecars; `local` are its own pods. */
function calling(serving: string, local = '') {
  const imported = yamlOf(...exported(served(serving)).map(entryManifest))
  const model = modelOf(imported + local + reachability(['cluster-1', 'cluster-2'], {}), 'cluster-2')
  const bind = parseBindRange('127.240.0.0/16')
  if (!bind.ok) throw new Error(bind.error)
  const options = { bind: bind.value, bundles, secrets: false, hostNames: true, credentialFile: '' }
  const snapshot = sidecarResources(model, options).snapshot()
  const endpointsOf = (subset: string) => {
    const resource = snapshot.get(TYPE.endpoints)?.get(`outbound|9080|${subset}|${HOST}`)
    const accepted = resource === undefined ? undefined : acceptEndpoints(resource)
    if (accepted?.ok !== true) throw new Error(`no endpoints of "${subset}"`)
    return accepted.value
  }
  return { model, snapshot, endpointsOf }
}
const bundles = await bundlesOf('cluster-1', 'cluster-2')

t.test('a sidecar has an upstream for each subset, with the server name of the subset', async (t) => {
  const { snapshot, endpointsOf } = calling(reviews('v1 10.0.0.1', 'v2 10.0.0.2') + rule())
  const upstream = snapshot.get(TYPE.cluster)?.get(`outbound|9080|v2|${HOST}`)
  t.match(upstream && acceptUpstream(upstream), {
    ok: true,
    value: { socketMatches: [{ socket: { tls: { sni: sni('v2') } } }, {}] },
  })
  t.match(JSON.stringify(endpointsOf('v2')), /203\.0\.113\.10/)
})

t.test(
  'failover is by subset: v2 fails over when its own pods are gone, though v1 is healthy here',
  async (t) => {
    const { endpointsOf } = calling(
      reviews('v1 10.0.0.1', 'v2 10.0.0.2') + rule(),
      reviews('v1 10.1.0.1', 'v2 10.1.0.2!') + rule(),
    )
    const text = (subset: string): string => JSON.stringify(endpointsOf(subset))
    t.match(text('v1'), /10\.1\.0\.1.*203\.0\.113\.10/)
    t.notMatch(text('v2'), /10\.1\.0\.2/)
    t.match(text('v2'), /203\.0\.113\.10/)
    t.match(text(''), /10\.1\.0\.1.*203\.0\.113\.10/)
  },
)

t.test('a gateway that nobody of a subset is ready behind is known and not chosen', async (t) => {
  const { endpointsOf } = calling(reviews('v1 10.0.0.1', 'v2 10.0.0.2!') + rule())
  t.match(JSON.stringify(endpointsOf('v2')), /unhealthy/i)
  t.notMatch(JSON.stringify(endpointsOf('v1')), /unhealthy/i)
})

t.test('the labels of the Service here say which of its pods are a subset', async (t) => {
  const { endpointsOf } = calling(
    reviews('v1 10.0.0.1') + rule([version('v1')]),
    reviews('blue 10.1.0.1') + rule([{ name: 'v1', labels: { version: 'blue' } }]),
  )
  t.match(JSON.stringify(endpointsOf('v1')), /10\.1\.0\.1.*203\.0\.113\.10/)
})

t.test('Istio is told of each subset with the labels of its pods, and a rule that names them', async (t) => {
  const imported = yamlOf(
    ...exported(served(reviews('v1 10.0.0.1', 'v2 10.0.0.2', 'v2 10.0.0.3') + rule())).map(entryManifest),
  )
  const managed = modelOf(imported + reachability(['cluster-1', 'cluster-2'], {}), 'cluster-2')
  const { serviceEntries, destinationRules } = istioConfig(managed, managed.written.map(entryOf))
  t.match(destinationRules, [{ host: HOST, subsets: [version('v1'), version('v2')] }])
  t.match(
    serviceEntries[0]?.endpoints.map(({ labels, weight }) => [labels['version'], weight]),
    [
      [undefined, 3],
      ['v1', 1],
      ['v2', 2],
    ],
  )
})
