import fc from 'fast-check'
import t from 'tap'
import { computeModel } from '../../src/model/compute.ts'
import { type NetworkTransition, TRANSITION_MS } from '../../src/model/network-transition.ts'
import type { Model } from '../../src/model/types.ts'
import type { Manifest } from '../../src/objects/types.ts'
import { clusterObject, listOf, manifests, objects, organization, peerSecret } from './build.ts'

/** The objects that decide who may call whom: a network for each cluster, and the rules. */
interface State {
  readonly networks: Readonly<Record<string, string>>
  readonly rules: Readonly<Record<string, string>> | undefined
}

const CLUSTERS = ['c1', 'c2', 'c3']
const PEERS = [peerSecret('c2'), peerSecret('c3')]

function model(state: State, previous?: NetworkTransition, nowMs = 0): Model {
  const documents: Manifest[] = [
    ...PEERS,
    ...CLUSTERS.map((name) => clusterObject(name, state.networks[name] ?? '')),
  ]
  if (state.rules !== undefined) documents.push(organization(state.rules))
  const list = listOf(objects(manifests(...documents)))
  return computeModel({ cluster: 'c1', trustDomain: 'c1.local', list, transition: { previous, nowMs } })
}

type Pair = readonly [from: string, to: string]
const PAIRS: readonly Pair[] = [
  ['c2', 'c1'],
  ['c3', 'c1'],
  ['c1', 'c2'],
  ['c1', 'c3'],
]

function may({ clusters, mayCall }: Model, [from, to]: Pair): boolean {
  const [a, b] = [clusters.get(from), clusters.get(to)]
  return a !== undefined && b !== undefined && mayCall(a, b).allowed
}

/** What the objects alone say, whatever was before. */
const says = (state: State, pair: Pair): boolean => may(model(state), pair)

/** One object changes at a time, in this order: a cluster's network, or the rules. */
function* walk(before: State, after: State, order: readonly string[]): Generator<State> {
  let state = before
  for (const step of order) {
    state =
      step === 'rules'
        ? { ...state, rules: after.rules }
        : { ...state, networks: { ...state.networks, [step]: after.networks[step] ?? '' } }
    yield state
  }
}

const network = fc.constantFrom('n1', 'n2', 'n3')
const named = fc.record({ c1: network, c2: network, c3: network })
const rules = fc.dictionary(
  network,
  fc.uniqueArray(network, { minLength: 1, maxLength: 3 }).map((names) => names.join(', ')),
  { maxKeys: 3 },
)
const order = fc.shuffledSubarray([...CLUSTERS, 'rules'], { minLength: 4, maxLength: 4 })
const UNNAMED = { c1: '', c2: '', c3: '' }

t.test(
  'naming networks and adding rules, in any order, cuts nothing that both the old and the new state allow',
  async (t) => {
    let kept = 0
    fc.assert(
      fc.property(
        fc.option(rules, { nil: undefined }),
        named,
        rules,
        order,
        fc.integer({ min: 0, max: 50_000 }),
        (old, networks, added, order, gapMs) => {
          const [before, after] = [
            { networks: UNNAMED, rules: old },
            { networks, rules: added },
          ]
          const both = PAIRS.filter((pair) => says(before, pair) && says(after, pair))
          let current = model(before)
          let nowMs = 0
          for (const state of walk(before, after, order)) {
            nowMs += gapMs
            current = model(state, current.transition, nowMs)
            const lost = both.find((pair) => !may(current, pair))
            if (lost !== undefined) return false
            kept += both.filter((pair) => !says(state, pair)).length
          }
          // And the new state is in force as soon as it is whole.
          return (
            PAIRS.every((pair) => may(current, pair) === says(after, pair)) ||
            current.transition.pending.length > 0
          )
        },
      ),
      { seed: 5, numRuns: 400 },
    )
    t.ok(kept > 100, `${kept} times the objects alone would have cut`)
  },
)

t.test('renaming networks and their rules, in any order, cuts nothing either', async () => {
  // Each old name has a new one; the rules are the same but for the names.
  const renamed = (text: string) => text.replaceAll('n', 'new-')
  fc.assert(
    fc.property(named, rules, order, (networks, old, order) => {
      const before = { networks, rules: old }
      const after = {
        networks: Object.fromEntries(Object.entries(networks).map(([id, name]) => [id, renamed(name)])),
        rules: Object.fromEntries(Object.entries(old).map(([from, to]) => [renamed(from), renamed(to)])),
      }
      const both = PAIRS.filter((pair) => says(before, pair))
      let current = model(before)
      for (const state of walk(before, after, order)) {
        current = model(state, current.transition, 1_000)
        if (both.some((pair) => !may(current, pair))) return false
      }
      return (
        PAIRS.every((pair) => may(current, pair) === says(after, pair)) ||
        current.transition.pending.length > 0
      )
    }),
    { seed: 6, numRuns: 400 },
  )
})

t.test('no step lets in whom neither the old state nor the objects of now allow', async () => {
  const any = fc.record({
    networks: fc.record({
      c1: fc.option(network, { nil: '' }),
      c2: fc.option(network, { nil: '' }),
      c3: fc.option(network, { nil: '' }),
    }),
    rules: fc.option(rules, { nil: undefined }),
  })
  fc.assert(
    fc.property(any, fc.array(any, { maxLength: 5 }), (first, others) => {
      let current = model(first)
      let allowed = PAIRS.filter((pair) => says(first, pair))
      for (const [i, state] of others.entries()) {
        current = model(state, current.transition, i * 1_000)
        const now = PAIRS.filter((pair) => may(current, pair))
        if (now.some((pair) => !says(state, pair) && !allowed.includes(pair))) return false
        allowed = now
      }
      return true
    }),
    { seed: 7, numRuns: 300 },
  )
})

t.test('a change that stays unfinished counts as meant after a while', async (t) => {
  const before = model({ networks: UNNAMED, rules: undefined })
  const half = { networks: { ...UNNAMED, c1: 'n1' }, rules: undefined }
  const begun = model(half, before.transition, 1_000)
  t.ok(may(begun, ['c2', 'c1']))
  t.match(
    begun.mayCall(begun.clusters.get('c2') as never, begun.self).reason,
    /still allowed, as before: networks are being named \(the network of c1 changed, the rules did not yet/,
  )
  const late = model(half, begun.transition, 1_000 + TRANSITION_MS - 1)
  t.ok(may(late, ['c2', 'c1']))
  const over = model(half, late.transition, 1_000 + TRANSITION_MS)
  t.notOk(may(over, ['c2', 'c1']))
  t.strictSame(over.transition.pending, [])
})

t.test('a reachability that is taken away is gone at once', async (t) => {
  const networks = { c1: 'n1', c2: 'n2', c3: 'n3' }
  const before = model({ networks, rules: { n2: 'n1', n3: 'n1' } })
  const after = model({ networks, rules: { n3: 'n1' } }, before.transition, 1)
  t.notOk(may(after, ['c2', 'c1']))
  t.ok(may(after, ['c3', 'c1']))
  const none = model({ networks, rules: undefined }, after.transition, 2)
  t.notOk(may(none, ['c3', 'c1']))
})

t.test('advertise: not told of, but let in', async (t) => {
  const advertised = {
    ...organization({}),
    metadata: {
      organization: 'acme',
      name: 'default',
      annotations: { 'isthmus.io/reachability': 'advertise' },
    },
  }
  const documents = [...PEERS, ...CLUSTERS.map((name) => clusterObject(name, `of-${name}`)), advertised]
  const { admits, mayCall, clusters, self } = computeModel({
    cluster: 'c1',
    trustDomain: 'c1.local',
    list: listOf(objects(manifests(...documents))),
  })
  const c2 = clusters.get('c2') as NonNullable<ReturnType<typeof clusters.get>>
  t.notOk(mayCall(c2, self).allowed)
  t.match(admits(c2), { allowed: true, reason: /isthmus.io\/reachability"\] is "advertise"/ })
  t.throws(
    () =>
      objects(
        manifests({
          ...advertised,
          metadata: { ...advertised.metadata, annotations: { 'isthmus.io/reachability': 'off' } },
        }),
      ),
    /one of enforce, advertise/,
  )
})
