import fc from 'fast-check'
import t from 'tap'
import { type Candidate, LoadBalancer, type Locality, priorityLoads } from '../../src/proxy/load-balancer.ts'

interface E extends Candidate {
  readonly name: string
}

const make = (name: string, over: Partial<Candidate> = {}): E => ({
  name,
  weight: 1,
  available: true,
  active: 0,
  ...over,
})
const at = (priority: number, endpoints: E[], weight = 1): Locality<E> => ({ priority, weight, endpoints })

/** Deterministic numbers in [0, 1). */
function numbers(seed = 1): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function shares(
  localities: Locality<E>[],
  rules: Partial<ConstructorParameters<typeof LoadBalancer<E>>[1]> = {},
  n = 4_000,
) {
  const balancer = new LoadBalancer<E>(
    localities,
    { policy: 'RANDOM', localityWeighted: false, overprovisioningFactor: 140, ...rules },
    (e) => e,
    numbers(),
  )
  const counts: Record<string, number> = {}
  for (let i = 0; i < n; i += 1) {
    const name = balancer.choose(new Set())?.name ?? 'none'
    counts[name] = (counts[name] ?? 0) + 1 / n
  }
  return counts
}

const near = (value: number | undefined, expected: number) => Math.abs((value ?? 0) - expected) < 0.03

t.test('priority 0 takes all until too little of it is healthy', async (t) => {
  const sick = make('sick', { available: false })
  t.same(Object.keys(shares([at(0, [make('a')]), at(1, [make('b')])])), ['a'])
  t.same(Object.keys(shares([at(0, [sick]), at(1, [make('b')])])), ['b'])
  t.same(Object.keys(shares([at(0, [sick]), at(1, [sick])])), ['none'], 'no panic')
  const half = shares([at(0, [make('a'), sick]), at(1, [make('b')])])
  t.ok(near(half['a'], 0.7) && near(half['b'], 0.3), '1 of 2 healthy: 70 % stay')
  t.same(
    Object.keys(shares([at(0, [make('a'), make('b'), make('c'), sick]), at(1, [make('far')])])).sort(),
    ['a', 'b', 'c'],
    '3 of 4: all stay',
  )
  t.same(priorityLoads([0.5, 0.25]), [2 / 3, 1 / 3], 'not whole together: in proportion')
  t.same(priorityLoads([0, 0]), [0, 0])
})

t.test('weights of endpoints and localities', async (t) => {
  const weighted = shares([at(0, [make('a', { weight: 3 }), make('b')])])
  t.ok(near(weighted['a'], 0.75))
  const localities = shares([at(0, [make('a')], 3), at(0, [make('b'), make('c')], 1)], {
    localityWeighted: true,
  })
  t.ok(near(localities['a'], 0.75) && near(localities['b'], 0.125))
  const sick = make('sick', { available: false })
  const sinking = shares([at(0, [make('a'), sick, sick, sick], 1), at(0, [make('b')], 1)], {
    localityWeighted: true,
  })
  t.ok(near(sinking['a'], 0.35 / 1.35), 'a locality weighs less as it sinks')
})

t.test('round robin is exact, least request prefers the idle', async (t) => {
  const robin = shares(
    [at(0, [make('a', { weight: 2 }), make('b'), make('c')])],
    { policy: 'ROUND_ROBIN' },
    400,
  )
  t.same(Object.fromEntries(Object.entries(robin).map(([name, share]) => [name, Math.round(share * 400)])), {
    a: 200,
    b: 100,
    c: 100,
  })
  const least = shares([at(0, [make('busy', { active: 10 }), make('idle')])], { policy: 'LEAST_REQUEST' })
  t.ok(near(least['busy'], 0.25), 'only when both of the two are busy')
})

t.test('never one that is unavailable or was tried, always one that is left', async (t) => {
  const endpoint = fc.record({
    weight: fc.integer({ min: 1, max: 9 }),
    available: fc.boolean(),
    active: fc.nat(5),
    tried: fc.boolean(),
  })
  const locality = fc.record({
    priority: fc.nat(3),
    weight: fc.integer({ min: 1, max: 9 }),
    endpoints: fc.array(endpoint, { maxLength: 5 }),
  })
  const policy = fc.constantFrom('RANDOM' as const, 'ROUND_ROBIN' as const, 'LEAST_REQUEST' as const)
  fc.assert(
    fc.property(
      fc.array(locality, { maxLength: 5 }),
      policy,
      fc.boolean(),
      fc.integer({ min: 1 }),
      (localities, policy, localityWeighted, seed) => {
        const all = localities.flatMap(({ endpoints }) => endpoints)
        const tried = new Set(all.filter((e) => e.tried))
        const balancer = new LoadBalancer(
          localities,
          { policy, localityWeighted, overprovisioningFactor: 140 },
          (e) => e,
          numbers(seed),
        )
        const chosen = balancer.choose(tried)
        const left = all.filter((e) => e.available && !tried.has(e))
        return chosen === undefined ? left.length === 0 : left.includes(chosen)
      },
    ),
    { seed: 4, numRuns: 2_000 },
  )
  t.pass()
})
