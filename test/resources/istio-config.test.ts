import t from 'tap'
import { computeModel } from '../../src/model/compute.ts'
import { ModelStages } from '../../src/model/model-stages.ts'
import { istioConfig, istioResources } from '../../src/resources/istio-config.ts'
import { decodeEntry, encodeEntry } from '../../src/resources/service-entry.ts'
import { entryOf } from '../../src/resources/service-entry-manifest.ts'
import { listOf, modelOf, parseYaml, reachability, service, yamlOf } from './world.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const NAME = 'global-gwinternal-productpage-bookinfo-svc-cluster-local'
const GATEWAY_ID = 'spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'

const entry = (endpoints: readonly object[] = [gateway('203.0.113.10')], ids = [GATEWAY_ID]): string =>
  yamlOf({
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: {
      name: NAME,
      namespace: 'xcp-multicluster',
      creationTimestamp: '2026-03-01T10:00:00Z',
      labels: { 'app.kubernetes.io/managed-by': 'isthmus' },
    },
    spec: {
      hosts: [HOST],
      location: 'MESH_INTERNAL',
      resolution: 'STATIC',
      ports: [{ number: 9080, name: 'web', protocol: 'HTTP' }],
      endpoints,
      subjectAltNames: ids,
      exportTo: ['*'],
    },
  })
const gateway = (address: string) => ({
  address,
  ports: { web: 15443 },
  locality: 'eu/a',
  weight: 2,
  labels: {
    network: 'cluster-1-network',
    'security.istio.io/tlsMode': 'istio',
    'xcp.tetrate.io/cluster': 'cluster-1',
  },
})
const pod = (name: string, account: string, mesh: boolean): string =>
  yamlOf({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'bookinfo',
      labels: { app: 'productpage', ...(mesh && { 'security.istio.io/tlsMode': 'istio' }) },
    },
    spec: { serviceAccountName: account, containers: [{ name: 'app' }] },
  })
const local = (mesh: boolean): string =>
  service({ name: 'productpage', pods: ['10.0.2.10:8080'] }).replace(
    '"conditions"',
    '"targetRef":{"kind":"Pod","name":"productpage-0"},"conditions"',
  ) + pod('productpage-0', 'bookinfo-productpage', mesh)

function configOf(yaml: string) {
  const model = modelOf(yaml + reachability(['cluster-1', 'cluster-2'], {}), 'cluster-2')
  return istioConfig(model, model.written.map(entryOf))
}

t.test('a host of other clusters alone: the entry as it is, and a rule without TLS of its own', async (t) => {
  const { serviceEntries, workloadEntries, destinationRules } = configOf(entry())
  t.match(serviceEntries, [{ name: NAME, hosts: [HOST], subjectAltNames: [GATEWAY_ID] }])
  t.strictSame(workloadEntries, [])
  t.match(destinationRules, [
    {
      namespace: 'xcp-multicluster',
      name: NAME.replace('gwinternal', 'drinternal'),
      host: HOST,
      subjectAltNames: [],
      failoverPriority: ['xcp.tetrate.io/cluster'],
    },
  ])
})

t.test('local mesh workloads beside a remote gateway: the ids of both are pinned', async (t) => {
  const { serviceEntries, workloadEntries, destinationRules } = configOf(entry() + local(true))
  t.strictSame(serviceEntries, [], 'the host has its Service')
  t.match(workloadEntries, [
    {
      namespace: 'bookinfo',
      address: '203.0.113.10',
      ports: { http: 15443 },
      endpointLabels: {
        app: 'productpage',
        'security.istio.io/tlsMode': 'istio',
        'xcp.tetrate.io/cluster': 'cluster-1',
      },
      locality: 'eu/a',
      weight: 2,
    },
  ])
  t.match(destinationRules, [
    {
      namespace: 'bookinfo',
      subjectAltNames: [GATEWAY_ID, 'spiffe://cluster-2.local/ns/bookinfo/sa/bookinfo-productpage'],
    },
  ])
})

t.test('nobody joins local endpoints in clear, by a host name, or without an id', async (t) => {
  const none = { serviceEntries: [], workloadEntries: [], destinationRules: [] }
  t.strictSame(configOf(entry() + local(false)), none)
  t.strictSame(configOf(entry([gateway('lb.example.com')]).replace('STATIC', 'DNS') + local(true)), none)
  t.strictSame(configOf(entry([gateway('203.0.113.10')], []) + local(true)), none)
})

t.test('a Service without a selector has no WorkloadEntries', async (t) => {
  const yaml = local(true).replace('"selector":{"app":"productpage"}', '"selector":{}')
  t.strictSame(configOf(entry() + yaml).workloadEntries, [])
})

t.test("a user's own entries are his own to give to Istio", async (t) => {
  t.strictSame(configOf(entry().replace('"isthmus"', '"helm"')).serviceEntries, [])
})

t.test('name, labels, annotations and age travel; the version is another when one of them is', async (t) => {
  const [first] = configOf(entry()).serviceEntries
  if (first === undefined) throw new Error('no entry')
  t.equal(first.createTime, '2026-03-01T10:00:00Z')
  const resource = encodeEntry(first)
  const decoded = decodeEntry(resource)
  t.strictSame(decoded, { ok: true, value: first })
  const versions = [
    first,
    { ...first, createTime: '2026-03-01T10:00:01Z' },
    { ...first, labels: {} },
    { ...first, annotations: { a: 'b' } },
    { ...first, exportTo: [] },
  ].map((each) => encodeEntry(each).version)
  t.equal(new Set(versions).size, versions.length)
  t.equal(encodeEntry({ ...first }).version, resource.version)
  t.strictSame(
    decodeEntry(encodeEntry({ ...first, createTime: 'yesterday' })).ok,
    true,
    'what is no time is left out',
  )
})

t.test('a host of which nothing changed is not made again', async (t) => {
  const list = listOf(parseYaml(entry() + local(true) + reachability(['cluster-1', 'cluster-2'], {})))
  const stages = new ModelStages()
  const compute = () => computeModel({ cluster: 'cluster-2', trustDomain: 'cluster-2.local', list }, stages)
  const first = istioResources(compute(), entryOf)
  const before = first.snapshot()
  const { encoded, derived } = first.counters
  const again = istioResources(compute(), entryOf, first)
  t.strictSame(again.counters, { encoded, derived })
  for (const [type, resources] of again.snapshot())
    for (const [name, resource] of resources)
      t.equal(resource, before.get(type)?.get(name), `${type} ${name}`)
})
