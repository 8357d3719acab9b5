// What stays in force, and for how long, of what one peer offers: time and words are told.
import t from 'tap'
import { PeerOffers } from '../../src/discovery/peer-offers.ts'
import { VERSION } from '../../src/lib/version.ts'
import { type EntryConfig, encodeEntry } from '../../src/resources/service-entry.ts'

const PEER = {
  cluster: 'cluster-1',
  trustDomain: 'cluster-1.local',
  bundle: '',
  crl: '',
  adsAddress: '203.0.113.10:15443',
  source: 'Secret/isthmus-system/peer-cluster-1',
}
const WITHDRAW = { onPeerLoss: 'withdraw', leaseMs: 600_000 } as const

const entry = (name: string, change: Partial<EntryConfig> = {}): EntryConfig => ({
  namespace: 'xcp-multicluster',
  name,
  labels: {},
  annotations: {},
  hosts: [`${name}.bookinfo.svc.cluster.local`],
  location: 'MESH_INTERNAL',
  resolution: 'STATIC',
  ports: [{ name: 'http', number: 80, protocol: 'HTTP' }],
  endpoints: [
    { address: '203.0.113.10', ports: { http: 15443 }, labels: {}, network: '', locality: '', weight: 1 },
  ],
  exportTo: ['*'],
  subjectAltNames: ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'],
  ...change,
})
const nameOf = (name: string): string => `xcp-multicluster/${name}`
const said = (epoch: string, entries: number, complete = true) => ({
  cluster: 'cluster-1',
  allowed: true,
  version: VERSION,
  epoch,
  generation: 1,
  entries,
  complete,
})
const hosts = (offers: PeerOffers): string[] =>
  [...offers.inForce({ network: 'n1' }).keys()].map((host) => host.split('.')[0] ?? '').sort()

/** One that has heard all of `names` in epoch `e1`, at 0 ms. */
function heard(...names: string[]): PeerOffers {
  const offers = new PeerOffers(PEER, 'cluster-2', new Map(), 0)
  const upserted = names.map((name) => encodeEntry(entry(name)))
  t.strictSame(offers.take({ upserted, removed: [], identifier: said('e1', names.length) }, 0).problems, [])
  return offers
}

t.test('a deletion that the peer saw is a tombstone: it goes at once, and so may all of them', async (t) => {
  const offers = heard('a', 'b', 'c')
  offers.take({ upserted: [], removed: [nameOf('a')], identifier: said('e1', 2) }, 1)
  t.strictSame(hosts(offers), ['b', 'c'])
  offers.take({ upserted: [], removed: [nameOf('b'), nameOf('c')], identifier: said('e1', 0) }, 2)
  t.strictSame([hosts(offers), offers.frozen, offers.staleSinceMs], [[], 0, undefined])
})

t.test(
  'a peer that began anew: little that is missing goes, most of it is frozen until its lease ends',
  async (t) => {
    const little = heard('a', 'b', 'c')
    little.take({ upserted: [], removed: [nameOf('a')], identifier: said('e2', 2) }, 1)
    t.strictSame([hosts(little), little.frozen], [['b', 'c'], 0])

    const offers = heard('a', 'b', 'c')
    offers.take({ upserted: [], removed: ['a', 'b'].map(nameOf), identifier: said('e2', 1) }, 1_000)
    t.strictSame([hosts(offers), offers.frozen, offers.staleSinceMs], [['a', 'b', 'c'], 2, 1_000])
    t.equal(offers.refusals.get('MassLoss'), 1)
    t.equal(offers.expire(600_999, WITHDRAW), false)
    t.equal(offers.expire(601_000, WITHDRAW), true)
    t.strictSame([hosts(offers), offers.frozen, offers.staleSinceMs], [['c'], 0, undefined])
  },
)

t.test('what is missing piece by piece is summed up, and what comes back is thawed', async (t) => {
  const offers = heard('a', 'b', 'c', 'd')
  for (const [i, name] of ['a', 'b', 'c'].entries())
    offers.take({ upserted: [], removed: [nameOf(name)], identifier: said('e2', 9) }, 1_000 + i)
  t.strictSame([hosts(offers), offers.frozen], [['c', 'd'], 1])
  offers.take({ upserted: [encodeEntry(entry('c'))], removed: [], identifier: said('e2', 2) }, 2_000)
  t.strictSame([hosts(offers), offers.frozen], [['c', 'd'], 0])
})

t.test(
  'a store that was lost withdraws nothing, on a live stream neither; to be refused is a decision',
  async (t) => {
    const offers = heard('a', 'b', 'c')
    offers.take({ upserted: [], removed: ['a', 'b', 'c'].map(nameOf), identifier: said('e1', 0, false) }, 5)
    t.strictSame([hosts(offers), offers.frozen], [['a', 'b', 'c'], 3])
    const refused = heard('a', 'b', 'c')
    const identifier = { ...said('e2', 0), allowed: false, reason: 'nothing allows it' }
    refused.take({ upserted: [], removed: ['a', 'b', 'c'].map(nameOf), identifier }, 5)
    t.strictSame(hosts(refused), [])
  },
)

t.test('a peer that is gone: in force for its lease, or for ever where its Cluster says keep', async (t) => {
  for (const [onPeerLoss, left] of [
    ['withdraw', []],
    ['keep', ['a']],
  ] as const) {
    const offers = heard('a')
    offers.silent(10)
    offers.silent(500)
    t.equal(offers.staleSinceMs, 10, 'the first silence counts')
    offers.expire(10 + WITHDRAW.leaseMs - 1, { ...WITHDRAW, onPeerLoss })
    t.strictSame(hosts(offers), ['a'])
    offers.expire(10 + WITHDRAW.leaseMs, { ...WITHDRAW, onPeerLoss })
    t.strictSame(hosts(offers), left)
  }
  const back = heard('a')
  back.silent(10)
  back.take({ upserted: [], removed: [], identifier: said('e2', 1) }, 1_000)
  t.equal(back.expire(10 + WITHDRAW.leaseMs, WITHDRAW), false)
  t.strictSame([hosts(back), back.staleSinceMs], [['a'], undefined])
})

t.test('what came through this cluster, or through too many, is refused by name', async (t) => {
  const offers = new PeerOffers(PEER, 'cluster-2', new Map(), 0)
  const labelled = (label: string, value: string): Partial<EntryConfig> => {
    const [endpoint] = entry('x').endpoints
    return { endpoints: endpoint === undefined ? [] : [{ ...endpoint, labels: { [label]: value } }] }
  }
  const upserted = [
    entry('ours', labelled('xcp.tetrate.io/cluster', 'cluster-2')),
    entry('round', { annotations: { 'isthmus.io/path': 'cluster-3,cluster-2' } }),
    entry('far', labelled('xcp.tetrate.io/hops', '5')),
    entry('odd', labelled('xcp.tetrate.io/hops', 'x')),
    entry('long', { annotations: { 'isthmus.io/path': 'a,b,c,d,e,f' } }),
    entry('near', labelled('xcp.tetrate.io/hops', '4')),
  ].map(encodeEntry)
  const { problems } = offers.take({ upserted, removed: [], identifier: said('e1', 6) }, 0)
  t.match(
    problems.map(({ message }) => message),
    [/^Loop: .*cluster-2/, /^Loop: /, /^HopLimit: .*5 clusters/, /^HopLimit: /, /^HopLimit: .*5 clusters/],
  )
  t.strictSame(hosts(offers), ['near'])
  t.strictSame(Object.fromEntries(offers.refusals), { Loop: 2, HopLimit: 3 })
})

t.test('one release apart is understood, two are refused by name and change nothing', async (t) => {
  const [major = 0, minor = 0] = VERSION.split('.').map(Number)
  for (const [version, understood] of [
    [`${major}.${minor + 1}.7`, true],
    [`${major + 1}.0.0`, true],
    [`${major}.${minor + 2}.0`, false],
    [`${major + 1}.1.0`, false],
    ['a release', true],
    [undefined, true],
  ] as const) {
    const offers = heard('a')
    const identifier = { ...said('e1', 2), ...(version === undefined ? {} : { version }), news: [1] }
    if (version === undefined) Reflect.deleteProperty(identifier, 'version')
    const taken = offers.take({ upserted: [encodeEntry(entry('b'))], removed: [nameOf('a')], identifier }, 7)
    t.equal(taken.fault, understood ? undefined : 'VersionSkew', String(version))
    t.strictSame(hosts(offers), understood ? ['b'] : ['a'])
    t.equal(offers.staleSinceMs, understood ? undefined : 7)
  }
})

t.test('more entries than one peer may have are refused whole, before any is read', async (t) => {
  const offers = heard('a')
  // Bodies that could not be read: nobody tried.
  const upserted = Array.from({ length: 1_000_000 }, (_, i) => ({
    name: `xcp-multicluster/n${i}`,
    version: '1',
    anyTypeUrl: '',
    body: new Uint8Array(),
  }))
  const taken = offers.take({ upserted, removed: [nameOf('a')], identifier: said('e1', 1_000_000) }, 3)
  t.match(taken, { fault: 'OverLimit', problems: [{ message: /^OverLimit: .*10000 entries/ }] })
  t.strictSame([taken.problems.length, hosts(offers), offers.fault?.fault], [1, ['a'], 'OverLimit'])
  offers.take({ upserted: [], removed: [], identifier: said('e1', 1) }, 4)
  t.equal(offers.fault, undefined)
})

t.test('a peer that offers few entries, each as large as a message, is refused by their bytes', async (t) => {
  const offers = heard('a')
  const large = (n: number) => entry(`l${n}`, { annotations: { padding: 'x'.repeat(3 * 1024 * 1024) } })
  const take = (n: number) =>
    offers.take({ upserted: [encodeEntry(large(n))], removed: [], identifier: said('e1', n + 2) }, n)
  for (let n = 0; n < 10; n++) t.equal(take(n).fault, undefined)
  t.equal(take(9).fault, undefined, 'the same again is not more')
  t.match(take(10), {
    fault: 'OverLimit',
    problems: [{ message: 'OverLimit: offers more than 33554432 bytes' }],
  })
  t.equal(offers.size, 11)
})

t.test('a thousand bad entries are a hundred lines', async (t) => {
  const offers = heard('a')
  const upserted = Array.from({ length: 1_000 }, (_, i) => encodeEntry(entry(`n${i}`, { hosts: [] })))
  const { problems } = offers.take({ upserted, removed: [], identifier: said('e1', 1_001) }, 3)
  t.strictSame(
    [problems.length, offers.refused.length, offers.refusals.get('InvalidEntry')],
    [100, 100, 1_000],
  )
})
