import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { parseManifest } from '../../src/objects/parse.ts'
import type { ServiceEntry } from '../../src/objects/types.ts'
import { decodeEntry, type EntryConfig, encodeEntry } from '../../src/resources/service-entry.ts'
import { acceptEntry } from '../../src/resources/service-entry-accept.ts'
import { entryNames, exportEntries } from '../../src/resources/service-entry-export.ts'
import { entryManifest, entryOf } from '../../src/resources/service-entry-manifest.ts'
import { mergeOffers, offersOf } from '../../src/resources/service-entry-merge.ts'
import { gateway, modelOf, reachability, service, setting, workspace } from './world.ts'

const SEED = 20_261_123
const HOST = 'productpage.bookinfo.svc.cluster.local'
const world = (address?: string): string =>
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  gateway(address) +
  workspace +
  setting() +
  reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })

function exportsOf(address?: string, cluster = 'cluster-1'): EntryConfig[] {
  const model = modelOf(world(address).replaceAll('cluster-1', cluster), cluster)
  return exportEntries([...model.exposures.values()], model.gateways, model.self)
}
const first = (entries: readonly EntryConfig[]): EntryConfig => {
  const [entry] = entries
  if (entry === undefined) throw new Error('no entry')
  return entry
}
const peer = (cluster = 'cluster-1') => ({
  cluster,
  trustDomain: `${cluster}.local`,
  network: `${cluster}-network`,
})

t.test('an exposed service is exported as the reference product writes it', async (t) => {
  const entry = first(exportsOf('203.0.113.10'))
  t.strictSame(entryManifest(entry), {
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'ServiceEntry',
    metadata: {
      name: 'global-gwinternal-productpage-bookinfo-svc-cluster-local',
      namespace: 'xcp-multicluster',
      labels: { 'app.kubernetes.io/managed-by': 'isthmus' },
      annotations: { 'isthmus.io/exposed-by': entry.annotations['isthmus.io/exposed-by'] },
    },
    spec: {
      hosts: [HOST],
      location: 'MESH_INTERNAL',
      resolution: 'STATIC',
      ports: [{ number: 9080, name: 'http', protocol: 'HTTP' }],
      endpoints: [
        {
          address: '203.0.113.10',
          ports: { http: 15443 },
          labels: {
            network: 'cluster-1-network',
            'security.istio.io/tlsMode': 'istio',
            'xcp.tetrate.io/cluster': 'cluster-1',
            'xcp.tetrate.io/hops': '0',
            'xcp.tetrate.io/serviceType': 'remoteGateway',
          },
          locality: 'region-of-cluster-1',
          weight: 1,
        },
      ],
      exportTo: ['*'],
      subjectAltNames: ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'],
    },
  })
})

t.test('nothing is exported while the gateway awaits its address', async (t) => {
  t.strictSame(exportsOf(), [])
})

t.test('the manifest is read back as what it was made from', async (t) => {
  const entry = first(exportsOf('203.0.113.10'))
  const parsed = parseManifest(entryManifest(entry), 'test.yaml')
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.error))
  t.strictSame(entryOf(parsed.value as ServiceEntry), entry)
})

const text = fc.string({ maxLength: 12 })
const record = fc.dictionary(
  text.filter((key) => key !== '__proto__'),
  text,
  { maxKeys: 4, noNullPrototype: true },
)
const uint = fc.nat({ max: 2 ** 32 - 1 })
const PLAIN = { noNullPrototype: true } as const
const config: fc.Arbitrary<EntryConfig> = fc.record(
  {
    namespace: fc.constantFrom('a', 'xcp-multicluster'),
    name: fc.constantFrom('b', 'c-d'),
    labels: record,
    annotations: record,
    hosts: fc.array(text),
    location: fc.constantFrom('MESH_EXTERNAL', 'MESH_INTERNAL'),
    resolution: fc.constantFrom('NONE', 'STATIC', 'DNS'),
    ports: fc.array(fc.record({ name: text, number: uint, protocol: text }, PLAIN), { maxLength: 3 }),
    endpoints: fc.array(
      fc.record(
        {
          address: text,
          ports: fc.dictionary(
            text.filter((key) => key !== '__proto__'),
            uint,
            { noNullPrototype: true },
          ),
          labels: record,
          network: text,
          locality: text,
          weight: uint,
        },
        PLAIN,
      ),
      { maxLength: 3 },
    ),
    exportTo: fc.array(text, { maxLength: 2 }),
    subjectAltNames: fc.array(text, { maxLength: 2 }),
  },
  PLAIN,
)

t.test('every entry survives the wire', async () => {
  fc.assert(
    fc.property(config, (entry) => {
      return isDeepStrictEqual(decodeEntry(encodeEntry(entry)), { ok: true, value: entry })
    }),
    { seed: SEED, numRuns: 200 },
  )
})

t.test('any bytes give a Problem or an entry, never an exception', async () => {
  const anyTypeUrl = 'type.googleapis.com/istio.mcp.v1alpha1.Resource'
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (body) => {
      return !decodeEntry({ name: 'a/b', version: '1', anyTypeUrl, body }).ok
    }),
    { seed: SEED, numRuns: 500 },
  )
})

t.test('what a peer claims counts only where it is its own', async (t) => {
  const entry = first(exportsOf('203.0.113.10'))
  const claimed = {
    ...entry.endpoints[0]?.labels,
    'xcp.tetrate.io/cluster': 'cluster-9',
    network: 'elsewhere',
  }
  const endpoints = entry.endpoints.map((endpoint) => ({ ...endpoint, labels: claimed }))
  t.match(acceptEntry({ ...entry, endpoints }, peer()), {
    ok: true,
    value: {
      endpoints: [{ labels: { 'xcp.tetrate.io/cluster': 'cluster-1', network: 'cluster-1-network' } }],
    },
  })
  const refused: [Partial<EntryConfig>, RegExp][] = [
    [{ hosts: ['www.example.com'] }, /expected one name\.namespace\.svc\.cluster\.local/],
    [{ hosts: [HOST, 'b.c.svc.cluster.local'] }, /expected one/],
    [{ hosts: ['*.bookinfo.svc.cluster.local'] }, /expected one/],
    [
      { subjectAltNames: ['spiffe://cluster-2.local/ns/a/sa/b'] },
      /expected ids of trust domain cluster-1\.local/,
    ],
    [{ subjectAltNames: ['spiffe://cluster-1.local.evil/ns/a/sa/b'] }, /expected ids of trust domain/],
    [{ subjectAltNames: [] }, /is empty, expected ids/],
    [{ ports: [{ name: 'http', number: 70_000, protocol: 'TCP' }] }, /from 1 to 65535/],
  ]
  for (const [change, message] of refused)
    t.match(acceptEntry({ ...entry, ...change }, peer()), { ok: false, error: { message } })
})

t.test('offers of two peers for one host are one entry, and come apart again', async (t) => {
  const offers = new Map(
    ['cluster-1', 'cluster-3'].map((cluster, i) => {
      const entry = first(exportsOf(`203.0.113.${i + 10}`, cluster))
      // cluster-3 calls the port differently and has one more.
      const own = cluster === 'cluster-1' ? entry : withPorts(entry)
      const accepted = acceptEntry(own, peer(cluster))
      if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
      return [cluster, new Map([[HOST, accepted.value]])]
    }),
  )
  const [merged, ...more] = mergeOffers(offers)
  t.strictSame(more, [])
  t.strictSame(
    merged?.ports.map(({ name, number }) => [name, number]),
    [
      ['http', 9080],
      ['admin', 9090],
    ],
  )
  t.strictSame(
    merged?.endpoints.map(({ address, ports }) => [address, ports]),
    [
      ['203.0.113.10', { http: 15443 }],
      ['203.0.113.11', { http: 15443, admin: 15443 }],
    ],
  )
  for (const cluster of ['cluster-1', 'cluster-3']) {
    const back = new Map(
      [...offers.keys()].map((each) => [each, offersOf(merged ? [merged] : [], peer(each))]),
    )
    t.strictSame(
      back.get(cluster)?.get(HOST)?.subjectAltNames,
      offers.get(cluster)?.get(HOST)?.subjectAltNames,
    )
    t.strictSame(mergeOffers(back), [merged], 'what is read back merges to the same')
  }
})

function withPorts(entry: EntryConfig): EntryConfig {
  return {
    ...entry,
    ports: [
      { name: 'web', number: 9080, protocol: 'HTTP' },
      { name: 'admin', number: 9090, protocol: 'TCP' },
    ],
    endpoints: entry.endpoints.map((endpoint) => ({ ...endpoint, ports: { web: 15443, admin: 15443 } })),
  }
}

t.test('two hosts that read the same with dashes have two names', async (t) => {
  const names = entryNames(['a-b.c.svc.cluster.local', 'a.b-c.svc.cluster.local', HOST])
  t.equal(new Set(names.values()).size, 3)
  t.equal(names.get(HOST), 'global-gwinternal-productpage-bookinfo-svc-cluster-local')
  t.match(names.get('a-b.c.svc.cluster.local'), /^global-gwinternal-a-b-c-svc-cluster-local-[0-9a-f]{8}$/)
})
