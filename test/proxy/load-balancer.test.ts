import fc from 'fast-check'
import t from 'tap'
import type { Candidate } from '../../src/proxy/balance/pickers.ts'
import { priorityLoads } from '../../src/proxy/balance/priorities.ts'
import { type BalancingRules, LoadBalancer, type Locality } from '../../src/proxy/load-balancer.ts'
import type { BalancingConfig } from '../../src/resources/upstream-types.ts'

interface E extends Candidate {
  readonly name: string
  health: Candidate['health']
  active: number
}

const make = (name: string, over: Partial<E> = {}): E => ({
  name,
  weight: 1,
  health: 'healthy',
  active: 0,
  hashKey: name,
  ...over,
})
const sick = (name = 'sick') => make(name, { health: 'unhealthy' })
const at = (priority: number, endpoints: E[], weight = 1): Locality<E> => ({ priority, weight, endpoints })
const many = (n: number, over: Partial<E> = {}) => Array.from({ length: n }, (_, i) => make(`e${i}`, over))

const CONFIG: BalancingConfig = {
  policy: 'RANDOM',
  choiceCount: 2,
  activeRequestBias: 1,
  minimumRingSize: 1_024,
  maximumRingSize: 65_536,
  hashFunction: 'XX_HASH',
  tableSize: 65_537,
  useHostnameForHashing: false,
  localityWeighted: false,
  panicThreshold: 0,
  failTrafficOnPanic: false,
}
const rulesOf = (
  config: Partial<BalancingConfig> = {},
  rules: Partial<BalancingRules> = {},
): BalancingRules => ({
  config: { ...CONFIG, ...config },
  overprovisioningFactor: 140,
  weightedPriorityHealth: false,
  ...rules,
})

/** Deterministic numbers in [0, 1). */
function numbers(seed = 1): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function shares(localities: Locality<E>[], rules = rulesOf(), n = 4_000): Record<string, number> {
  const balancer = new LoadBalancer<E>(localities, rules, numbers())
  const counts: Record<string, number> = {}
  for (let i = 0; i < n; i += 1) {
    const name = balancer.choose()?.name ?? 'none'
    counts[name] = (counts[name] ?? 0) + 1 / n
  }
  return counts
}

const near = (value: number | undefined, expected: number) => Math.abs((value ?? 0) - expected) < 0.03

t.test('priority 0 takes all until too little of it is healthy', async (t) => {
  t.same(Object.keys(shares([at(0, [make('a')]), at(1, [make('b')])])), ['a'])
  t.same(Object.keys(shares([at(0, [sick()]), at(1, [make('b')])])), ['b'])
  t.same(Object.keys(shares([at(0, [sick()]), at(1, [sick()])])), ['none'], 'no panic')
  const half = shares([at(0, [make('a'), sick()]), at(1, [make('b')])])
  t.ok(near(half['a'], 0.7) && near(half['b'], 0.3), '1 of 2 healthy: 70 % stay')
  t.same(
    Object.keys(shares([at(0, [make('a'), make('b'), make('c'), sick()]), at(1, [make('far')])])).sort(),
    ['a', 'b', 'c'],
    '3 of 4: all stay',
  )
  const weighed = [at(0, [make('big', { weight: 9 }), sick()]), at(1, [make('b')])]
  t.same(
    Object.keys(shares(weighed, rulesOf({}, { weightedPriorityHealth: true }))),
    ['big'],
    'by weight 9 of 10 are',
  )
})

t.test('the loads of priorities are those of the tables in Envoy’s documentation', async (t) => {
  const level = (healthy: number, degraded = 0) => ({
    healthy,
    degraded,
    total: 100,
    endpoints: 100,
    usablePercent: healthy + degraded,
  })
  const loads = (levels: ReturnType<typeof level>[], panic = 0) => priorityLoads(levels, 140, panic)
  for (const [health, expected] of [
    [[100], [100]],
    [
      [72, 100],
      [100, 0],
    ],
    [
      [71, 100],
      [99, 1],
    ],
    [
      [50, 100],
      [70, 30],
    ],
    [
      [25, 100],
      [35, 65],
    ],
    [
      [25, 25],
      [50, 50],
    ],
    [
      [25, 25, 100],
      [35, 35, 30],
    ],
    [
      [0, 0],
      [0, 0],
    ],
  ] as const)
    t.same(loads(health.map((healthy) => level(healthy))).healthy, expected, `${health}`)
  const { healthy, degraded } = loads([level(5, 15), level(0, 5), level(60)])
  t.same(
    [healthy, degraded],
    [
      [7, 0, 84],
      [9, 0, 0],
    ],
    'healthy ones of all priorities before degraded ones',
  )
  t.same(loads([level(0), level(0)], 50).panic, [true, true])
  t.same(loads([level(10), level(100)], 50).panic, [false, false], 'others make up for it')
  const both = loads([level(20), level(20)], 50)
  t.same(
    [both.panic, both.healthy],
    [
      [true, true],
      [50, 50],
    ],
    'all in panic: by the number of endpoints',
  )
  const one = loads([level(20), level(50)], 50)
  t.same(one.panic, [true, false], '28 + 70 make 98: not whole, so the lower one is in panic')
})

t.test('panic: too few healthy endpoints in a priority, then all of it is used', async (t) => {
  const few = [at(0, [make('a'), sick('b'), sick('c')])]
  t.same(Object.keys(shares(few, rulesOf({ panicThreshold: 50 }))).sort(), ['a', 'b', 'c'])
  t.same(Object.keys(shares(few, rulesOf({ panicThreshold: 33 }))), ['a'], 'a third is more than 33 %')
  t.same(Object.keys(shares(few, rulesOf({ panicThreshold: 0 }))), ['a'], '0 = never')
  t.same(
    Object.keys(shares(few, rulesOf({ panicThreshold: 50, failTrafficOnPanic: true }))),
    ['none'],
    'or nothing at all',
  )
  t.same(
    Object.keys(shares([...few, at(1, [make('far')])], rulesOf({ panicThreshold: 50 }))).sort(),
    ['a', 'far'],
    'no panic while another priority makes up for it',
  )
  const pending = [at(0, [make('a'), make('b', { health: 'excluded' }), make('c', { health: 'excluded' })])]
  t.same(Object.keys(shares(pending, rulesOf({ panicThreshold: 50 }))), ['a'], 'the unchecked do not count')
  t.equal(new LoadBalancer(few, rulesOf({ panicThreshold: 50 })).panicking, true)
  t.equal(new LoadBalancer(few, rulesOf({ panicThreshold: 10 })).panicking, false)
})

t.test('degraded endpoints are used for what the healthy ones do not suffice for', async (t) => {
  const worn = make('worn', { health: 'degraded' })
  t.same(Object.keys(shares([at(0, [make('a'), make('b'), make('c'), worn])])).sort(), ['a', 'b', 'c'])
  t.same(Object.keys(shares([at(0, [worn])])), ['worn'])
  const half = shares([at(0, [make('a'), worn])])
  t.ok(near(half['a'], 0.7) && near(half['worn'], 0.3))
})

t.test('weights of endpoints and localities', async (t) => {
  const weighted = [at(0, [make('a', { weight: 3 }), make('b')])]
  for (const policy of ['ROUND_ROBIN', 'LEAST_REQUEST'] as const)
    t.ok(near(shares(weighted, rulesOf({ policy }))['a'], 0.75), policy)
  t.ok(near(shares(weighted)['a'], 0.5), 'RANDOM looks at no weights, as in Envoy')
  const rules = rulesOf({ localityWeighted: true })
  const localities = shares([at(0, [make('a')], 3), at(0, [make('b'), make('c')], 1)], rules)
  t.ok(near(localities['a'], 0.75) && near(localities['b'], 0.125))
  const sinking = shares([at(0, [make('a'), sick(), sick(), sick()], 1), at(0, [make('b')], 1)], rules)
  t.ok(near(sinking['a'], 0.35 / 1.35), 'a locality weighs less as it sinks')
  t.same(
    Object.keys(shares([at(0, [make('a')], 0), at(0, [make('b')], 1)], rules)),
    ['b'],
    'no weight, no traffic',
  )
  t.same(Object.keys(shares([at(0, [make('a')], 0)], rules)), ['a'], 'unless nobody has any')
})

t.test('round robin is exact, least request prefers the idle', async (t) => {
  const counted = (shared: Record<string, number>) =>
    Object.fromEntries(Object.entries(shared).map(([name, share]) => [name, Math.round(share * 400)]))
  const unequal = [at(0, [make('a', { weight: 2 }), make('b'), make('c')])]
  t.same(counted(shares(unequal, rulesOf({ policy: 'ROUND_ROBIN' }), 400)), { a: 200, b: 100, c: 100 })
  const equal = [at(0, [make('a'), make('b')])]
  t.same(counted(shares(equal, rulesOf({ policy: 'ROUND_ROBIN' }), 400)), { a: 200, b: 200 })
  const busy = [at(0, [make('busy', { active: 10 }), make('idle')])]
  t.ok(
    near(shares(busy, rulesOf({ policy: 'LEAST_REQUEST' }))['busy'], 0.25),
    'only when both of the two are busy',
  )
  const eight = shares(busy, rulesOf({ policy: 'LEAST_REQUEST', choiceCount: 8 }))
  t.ok((eight['busy'] ?? 0) < 0.02, 'hardly ever of eight')
  const loaded = [at(0, [make('big', { weight: 4, active: 1 }), make('small', { weight: 1 })])]
  t.ok(near(shares(loaded, rulesOf({ policy: 'LEAST_REQUEST' }))['big'], 2 / 3), 'weight / (active + 1)')
  const flat = rulesOf({ policy: 'LEAST_REQUEST', activeRequestBias: 0 })
  t.ok(near(shares(loaded, flat)['big'], 0.8), 'with a bias of 0 by weight alone')
})

t.test('hashing: the same hash leads to the same endpoint, in proportion to weights', async (t) => {
  for (const policy of ['RING_HASH', 'MAGLEV'] as const) {
    const rules = rulesOf({ policy, minimumRingSize: 8_192 })
    const endpoints = many(10)
    const before = new LoadBalancer([at(0, endpoints)], rules, numbers())
    const hashes = Array.from({ length: 2_000 }, (_, i) => (BigInt(i + 1) * 0x9e3779b97f4a7c15n) % 2n ** 64n)
    const chosen = hashes.map((hash) => before.choose(new Set(), hash)?.name)
    t.same(
      hashes.map((hash) => before.choose(new Set(), hash)?.name),
      chosen,
      `${policy}: again and again`,
    )
    const after = new LoadBalancer([at(0, endpoints.slice(1))], rules, numbers())
    const moved = hashes.filter(
      (hash, i) => chosen[i] !== endpoints[0]?.name && after.choose(new Set(), hash)?.name !== chosen[i],
    )
    // A ring gives each of nine more places than each of ten, so some move between those that stay.
    t.ok(moved.length < 250, `${policy}: when one of ten goes, ${moved.length} of 1,800 others move`)
    const weighted = new LoadBalancer([at(0, [make('a', { weight: 3 }), make('b')])], rules, numbers())
    const a = hashes.filter((hash) => weighted.choose(new Set(), hash)?.name === 'a').length / hashes.length
    t.ok(Math.abs(a - 0.75) < 0.05, `${policy}: three quarters by weight, found ${a}`)
    const first = before.choose(new Set(), 1n)
    const next = before.choose(new Set(first === undefined ? [] : [first]), 1n)
    t.ok(next !== undefined && next !== first, `${policy}: a retry goes to another one`)
    t.equal(
      before.choose(new Set(first === undefined ? [] : [first]), 1n),
      next,
      `${policy}: and always to the same`,
    )
    t.equal(before.choose(new Set(endpoints), 1n), undefined, `${policy}: nobody is left`)
    t.ok(new LoadBalancer([at(0, many(3))], rules, numbers()).choose(), `${policy}: without a hash anybody`)
  }
})

t.test('never one that is unavailable or was tried, always one that is left', async (t) => {
  const endpoint = fc.record({
    weight: fc.integer({ min: 1, max: 9 }),
    health: fc.constantFrom(
      'healthy' as const,
      'degraded' as const,
      'unhealthy' as const,
      'excluded' as const,
    ),
    active: fc.nat(5),
    hashKey: fc.string(),
    tried: fc.boolean(),
  })
  const locality = fc.record({
    priority: fc.nat(3),
    weight: fc.nat(9),
    endpoints: fc.array(endpoint, { maxLength: 5 }),
  })
  const policy = fc.constantFrom('RANDOM', 'ROUND_ROBIN', 'LEAST_REQUEST', 'RING_HASH', 'MAGLEV')
  const property = fc.property(
    fc.array(locality, { maxLength: 5 }),
    policy,
    fc.boolean(),
    fc.boolean(),
    fc.integer({ min: 1 }),
    (localities, policy, localityWeighted, panics, seed) => {
      const all = localities.flatMap(({ endpoints }) => endpoints)
      const tried = new Set(all.filter((e) => e.tried))
      const config = {
        policy,
        localityWeighted,
        minimumRingSize: 16,
        tableSize: 31,
        panicThreshold: panics ? 100 : 0,
      } as const
      const balancer = new LoadBalancer(localities, rulesOf(config), numbers(seed))
      const usable = (e: (typeof all)[number]) => e.health === 'healthy' || e.health === 'degraded'
      const chosen = balancer.choose(tried)
      const left = all.filter((e) => (panics || usable(e)) && !tried.has(e))
      // Hashing knows no degraded ones beside healthy ones, and a table of one priority is all that a first choice looks at.
      if (policy === 'RING_HASH' || policy === 'MAGLEV') return chosen === undefined || left.includes(chosen)
      // In panic of one priority alone the others go on with what is healthy there.
      if (panics) return chosen === undefined || left.includes(chosen)
      return chosen === undefined ? left.length === 0 : left.includes(chosen)
    },
  )
  fc.assert(property, { seed: 4, numRuns: 3_000 })
  t.pass()
})

t.test('a choice among thousands costs no more than a choice among few', async (t) => {
  const cost = (n: number, policy: BalancingConfig['policy']): number => {
    const endpoints = many(n).map((e, i) => ({ ...e, weight: policy === 'ROUND_ROBIN' ? 1 + (i % 3) : 1 }))
    const balancer = new LoadBalancer([at(0, endpoints)], rulesOf({ policy }), numbers())
    const rounds = 20_000
    let best = Number.POSITIVE_INFINITY
    for (let round = 0; round < 5; round += 1) {
      const began = performance.now()
      for (let i = 0; i < rounds; i += 1) balancer.choose()
      best = Math.min(best, performance.now() - began)
    }
    return best
  }
  for (const policy of ['RANDOM', 'ROUND_ROBIN', 'LEAST_REQUEST'] as const) {
    cost(8, policy)
    const ratio = cost(8_000, policy) / cost(8, policy)
    // A scan of all would be a thousand times as much.
    t.ok(ratio < 20, `${policy}: ${ratio.toFixed(1)} times`)
  }
})
