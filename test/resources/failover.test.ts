// In which order the endpoints of a service are tried, and how much of the traffic each gets.
import fc from 'fast-check'
import t from 'tap'
import { explainClient } from '../../src/model/explain.ts'
import { callableHosts } from '../../src/resources/callable.ts'
import type { EdsEndpoint } from '../../src/resources/endpoints.ts'
import { weigh } from '../../src/resources/traffic-weights.ts'
import { modelOf, service, workspace, yamlOf } from './world.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'

interface Remote {
  readonly cluster: string
  readonly address: string
  readonly locality?: string
  readonly weight?: number
  readonly labels?: Readonly<Record<string, string>>
}

const entry = (remotes: readonly Remote[]): string =>
  yamlOf({
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'ServiceEntry',
    metadata: { name: 'productpage', namespace: 'xcp-multicluster' },
    spec: {
      hosts: [HOST],
      resolution: 'STATIC',
      ports: [{ name: 'http', number: 9080, protocol: 'HTTP' }],
      subjectAltNames: ['spiffe://remote/ns/a/sa/b'],
      endpoints: remotes.map(({ cluster, address, locality = '', weight = 1, labels = {} }) => ({
        address,
        ports: { http: 15443 },
        locality,
        weight,
        labels: { 'xcp.tetrate.io/cluster': cluster, 'security.istio.io/tlsMode': 'istio', ...labels },
      })),
    },
  })

const clusterObject = (name: string, spec: object, metadata: object = {}): string =>
  yamlOf({
    apiVersion: 'api.tsb.tetrate.io/v2',
    kind: 'Cluster',
    metadata: { organization: 'acme', name, ...metadata },
    spec,
  })
const HERE = clusterObject('here', { locality: { region: 'eu', zone: 'eu-a' } })

const organization = (spec: object): string =>
  yamlOf({
    apiVersion: 'api.tsb.tetrate.io/v2',
    kind: 'OrganizationSetting',
    metadata: { organization: 'acme', name: 'default' },
    spec,
  })
const ofWorkspace = (spec: object): string =>
  workspace +
  yamlOf({
    apiVersion: 'api.tsb.tetrate.io/v2',
    kind: 'WorkspaceSetting',
    metadata: { organization: 'acme', tenant: 'eng', workspace: 'bookinfo-ws', name: 's' },
    spec,
  })

function endpointsOf(yaml: string): readonly EdsEndpoint[] {
  const host = callableHosts(modelOf(yaml, 'here'), true).find((each) => each.host === HOST)
  return host?.ports[0]?.endpoints ?? []
}

/** Addresses by priority: `['local', 'near,other', 'far']`. */
function order(yaml: string): string[] {
  const found: string[][] = []
  for (const { address, priority } of endpointsOf(yaml))
    found[priority] = [...(found[priority] ?? []), NAMES[address] ?? address]
  return found.map((names) => names.sort().join(','))
}

const NAMES: Readonly<Record<string, string>> = {
  '10.0.0.1': 'local',
  '10.1.0.1': 'same-zone',
  '10.2.0.1': 'same-region',
  '10.3.0.1': 'us',
  '10.4.0.1': 'asia',
}
const LOCAL = service({ name: 'productpage', pods: ['10.0.0.1:8080'] })
const ALL = entry([
  { cluster: 'c1', address: '10.1.0.1', locality: 'eu/eu-a' },
  { cluster: 'c2', address: '10.2.0.1', locality: 'eu/eu-b' },
  { cluster: 'c3', address: '10.3.0.1', locality: 'us/us-a' },
  { cluster: 'c4', address: '10.4.0.1', locality: 'asia' },
])

t.test('the own cluster first, then the nearer of the others', async (t) => {
  t.strictSame(order(HERE + LOCAL + ALL), ['local', 'same-zone', 'same-region', 'asia,us'])
  t.strictSame(order(LOCAL + ALL), ['local', 'asia,same-region,same-zone,us'], 'nobody said where we are')
})

t.test('a region fails over to the region that is named for it, and to no other', async (t) => {
  const to = (from: string) => organization({ regionalFailover: [{ from, to: 'us' }] })
  t.strictSame(order(HERE + LOCAL + ALL + to('eu')), ['local', 'same-zone', 'same-region', 'us', 'asia'])
  t.strictSame(order(HERE + LOCAL + ALL + to('asia')), ['local', 'same-zone', 'same-region', 'asia,us'])
})

t.test('topologyChoice LOCALITY: by place, whatever the cluster', async (t) => {
  const locality = organization({ failoverSettings: { topologyChoice: 'LOCALITY' } })
  t.strictSame(order(HERE + LOCAL + ALL + locality), ['local,same-zone', 'same-region', 'asia,us'])
  t.strictSame(
    order(LOCAL + ALL + locality),
    ['local', 'asia,same-region,same-zone,us'],
    'without a region of our own, our own cluster is the only place that is near',
  )
})

t.test('the workspace of the host overrides the organization, and any of its clusters counts', async (t) => {
  const general = organization({ regionalFailover: [{ from: 'eu', to: 'asia' }] })
  const special = ofWorkspace({ failoverSettings: { topologyChoice: 'LOCALITY' } })
  t.strictSame(order(HERE + LOCAL + ALL + general + special), ['local,same-zone', 'same-region', 'asia,us'])
  const elsewhere = special.replace('*/bookinfo', 'c3/bookinfo')
  t.strictSame(order(HERE + LOCAL + ALL + general + elsewhere), ['local,same-zone', 'same-region', 'asia,us'])
  const silent = ofWorkspace({ defaultEastWestGatewaySettings: [] })
  t.strictSame(
    order(HERE + LOCAL + ALL + general + silent)[3],
    'asia',
    'one that says nothing leaves it to the organization',
  )
})

t.test(
  'failoverPriority: a label counts only where all before it match; it overrides the topology',
  async (t) => {
    const remotes = entry([
      {
        cluster: 'c1',
        address: '10.1.0.1',
        labels: { 'failover.tetrate.io/domain': 'a', 'failover.tetrate.io/tier': 'x' },
      },
      { cluster: 'c2', address: '10.2.0.1', labels: { 'failover.tetrate.io/domain': 'a' } },
      { cluster: 'c3', address: '10.3.0.1', labels: { 'failover.tetrate.io/tier': 'x' } },
    ])
    const here = clusterObject('here', {}, { labels: { 'failover.tetrate.io/domain': 'a' } })
    const local = service({
      name: 'productpage',
      pods: ['10.0.0.1:8080'],
      labels: { 'failover.tetrate.io/domain': 'b' },
    })
    const by = (...failoverPriority: string[]) =>
      organization({ failoverSettings: { failoverPriority, topologyChoice: 'CLUSTER' } })
    t.strictSame(
      order(here + local + remotes + by('failover.tetrate.io/domain', 'failover.tetrate.io/tier=x')),
      ['same-zone', 'same-region', 'local,us'],
      'whoever fails at the first label is last, whatever his second',
    )
    t.strictSame(
      order(here + local + remotes + by('topology.istio.io/cluster', 'failover.tetrate.io/domain')),
      ['local', 'same-region,same-zone,us'],
      'labels of topology need not be written anywhere',
    )
  },
)

t.test('automaticLoadBalancing: near and far share, by what is ready', async (t) => {
  const shared = organization({ failoverSettings: { automaticLoadBalancing: { enabled: { value: true } } } })
  const endpoints = endpointsOf(
    HERE +
      service({ name: 'productpage', pods: ['10.0.0.1:8080', '10.0.0.2:8080'] }) +
      entry([
        { cluster: 'c1', address: '10.1.0.1', weight: 3 },
        { cluster: 'c1', address: '10.1.0.2', weight: 3 },
        { cluster: 'c2', address: '10.2.0.1', weight: 1 },
      ]) +
      shared,
  )
  t.strictSame(
    endpoints.map(({ address, priority, weight }) => [address, priority, weight]),
    [
      ['10.1.0.1', 0, 3],
      ['10.1.0.2', 0, 3],
      ['10.2.0.1', 0, 2],
      ['10.0.0.1', 0, 2],
      ['10.0.0.2', 0, 2],
    ],
    'a gateway with two addresses stands for three pods, not for six',
  )
})

t.test('a Cluster’s own weight is its share among equals; 0 is none at all', async (t) => {
  const weighed = (text: string) => clusterObject('c2', {}, { annotations: { 'isthmus.io/weight': text } })
  const remotes = entry([
    { cluster: 'c1', address: '10.1.0.1', weight: 2 },
    { cluster: 'c2', address: '10.2.0.1', weight: 2 },
  ])
  const weights = (yaml: string) => endpointsOf(yaml).map(({ address, weight }) => [NAMES[address], weight])
  t.strictSame(weights(remotes + weighed('50')), [
    ['same-zone', 4],
    ['same-region', 2],
  ])
  t.strictSame(weights(remotes + weighed('0')), [['same-zone', 2]])
  const last = service({ name: 'productpage', pods: ['10.0.0.1:8080!'] })
  const only = endpointsOf(last + entry([{ cluster: 'c2', address: '10.2.0.1' }]) + weighed('0'))
  t.match(only, [{ address: '10.0.0.1', draining: false }], 'who gets nothing is nobody to leave it to')
  t.throws(() => weights(remotes + weighed('half')), /isthmus.io\/weight.*percentage/)
})

t.test(
  'any shares: a cluster’s part is its ready endpoints times its percentage, whole numbers, none too big',
  async () => {
    const share = fc.record({
      percent: fc.constantFrom(0, 1, 10, 25, 50, 100, 1_000),
      ready: fc.integer({ min: 1, max: 10_000 }),
      addresses: fc.integer({ min: 1, max: 12 }),
    })
    fc.assert(
      fc.property(fc.array(share, { minLength: 1, maxLength: 6 }), (shares) => {
        const found = weigh(
          shares.map(({ percent, ready, addresses }, i) => ({
            percent,
            sameBehindEach: true,
            endpoints: Array.from({ length: addresses }, (_, k) => ({
              ...ENDPOINT,
              address: `10.${i}.0.${k}`,
              weight: ready,
            })),
          })),
        )
        const sums = shares.map((_, i) =>
          found
            .filter(({ address }) => address.startsWith(`10.${i}.`))
            .reduce((sum, { weight }) => sum + weight, 0),
        )
        const due = shares.map(({ percent, ready }) => percent * ready)
        const top = due.indexOf(Math.max(...due))
        if (due[top] === 0) return found.length === 0
        const sane = found.every(({ weight }) => Number.isInteger(weight) && weight >= 1 && weight <= 10_000)
        // Rounding costs each address half a unit at most, and nobody who may have any is left with nothing.
        const fair = sums.every((sum, i) => {
          const exact = ((due[i] ?? 0) / (due[top] ?? 1)) * (sums[top] ?? 0)
          const slack =
            (shares[i]?.addresses ?? 0) + ((shares[top]?.addresses ?? 0) * exact) / (sums[top] ?? 1)
          return due[i] === 0 ? sum === 0 : Math.abs(sum - exact) <= slack
        })
        return sane && fair
      }),
      { seed: 4, numRuns: 300 },
    )
  },
)

t.test('explain tells the order, whose word it is, and where calls go now', async (t) => {
  const told = (yaml: string) =>
    explainClient(modelOf(yaml, 'here'), 'productpage.bookinfo', 9080)
      .map(({ detail }) => detail)
      .join('\n')
  t.match(
    told(HERE + LOCAL + ALL),
    /the own cluster first, then the same zone, .* \(the default\): 1\. here in eu \(1 ready\), 2\. c1 in eu \(1 ready\), .*; calls go to here$/m,
  )
  const down = service({ name: 'productpage', pods: ['10.0.0.1:8080!'] }).replace(
    '"serving":true',
    '"serving":false',
  )
  t.match(told(HERE + down + ALL), /1\. here in eu \(0 ready\), .*; calls go to c1$/m)
  const shared = organization({ failoverSettings: { automaticLoadBalancing: { enabled: { value: true } } } })
  t.match(
    told(HERE + LOCAL + ALL + shared),
    /OrganizationSetting\/acme\/default spec\.failoverSettings.*calls go to here and c1/,
  )
})

const ENDPOINT: EdsEndpoint = {
  address: '',
  port: 15443,
  region: '',
  zone: '',
  priority: 0,
  weight: 1,
  draining: false,
  mtls: true,
}
