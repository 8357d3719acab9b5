// Networks are named one Cluster at a time and rules come in an object of their own, so what allows a call before and after may be
// nowhere in between. While a change of names and rules is visibly not whole, what was allowed stays allowed.
import { byText } from './labels.ts'
import type { ClusterInfo, Decision } from './types.ts'

/** How long a change may stay unfinished, milliseconds since its last step; after that what is there counts as meant. */
export const TRANSITION_MS = 60_000

/** network → the networks it may call; undefined: no rules at all. */
export type NetworkRules = ReadonlyMap<string, readonly string[]> | undefined

/** Names and rules as they were last taken for whole. */
interface Settled {
  readonly names: ReadonlyMap<string, string>
  /** The rules as text, and the networks that they speak of. */
  readonly rules: string
  readonly spoken: ReadonlySet<string>
  readonly flaws: ReadonlySet<string>
}

/** What is remembered from one model to the next. */
export interface NetworkTransition {
  readonly settled: Settled
  /** Names and rules of the last step, as text. */
  readonly step: string
  /** When that step came, and so until when the change may stay unfinished. */
  readonly steppedAtMs: number
  /** Why the change is not whole; empty: it is. */
  readonly pending: readonly string[]
  /** Pairs that may call, `from\nto` by cluster ids. */
  readonly allowed: ReadonlySet<string>
}

export interface TransitionInput {
  readonly self: ClusterInfo
  readonly clusters: ReadonlyMap<string, ClusterInfo>
  readonly rules: NetworkRules
  readonly reachable: (from: string, to: string) => Decision
}

const pairKey = (from: string, to: string): string => `${from}\n${to}`

/**
 * The next state of a transition, whose `allowed` holds the pairs of this cluster with every other one. It never has a pair that
 * neither the objects of this step allow nor those of every step before it back to the last whole state.
 */
export function stepTransition(
  previous: NetworkTransition | undefined,
  input: TransitionInput,
  nowMs: number,
): NetworkTransition {
  const clusters = [...input.clusters.values()].sort((a, b) => byText(a.id, b.id))
  const names = new Map(clusters.map(({ id, network }) => [id, network]))
  const rules = JSON.stringify([...(input.rules ?? [['', null]])])
  const step = JSON.stringify([...names, rules])
  const steppedAtMs = previous?.step === step ? previous.steppedAtMs : nowMs
  const flaws = flawsOf(names, input.rules)
  const fresh = previous === undefined ? [] : freshFlaws(previous.settled, names, rules, input.rules, flaws)
  const pending = nowMs - steppedAtMs < TRANSITION_MS ? fresh : []
  const settled =
    pending.length > 0 && previous !== undefined
      ? previous.settled
      : { names, rules, spoken: spokenOf(input.rules), flaws }
  const allowed = new Set<string>()
  for (const other of clusters) {
    for (const [from, to] of [
      [other, input.self],
      [input.self, other],
    ] as const) {
      const key = pairKey(from.id, to.id)
      const kept = pending.length > 0 && previous?.allowed.has(key) === true
      if (kept || input.reachable(from.network, to.network).allowed) allowed.add(key)
    }
  }
  return { settled, step, steppedAtMs, pending, allowed }
}

/** May callers of cluster `from` call cluster `to`, one of which is this one? */
export function mayCall(
  transition: NetworkTransition,
  reachable: TransitionInput['reachable'],
  from: ClusterInfo,
  to: ClusterInfo,
): Decision {
  const decision = reachable(from.network, to.network)
  if (decision.allowed || !transition.allowed.has(pairKey(from.id, to.id))) return decision
  const reason = `still allowed, as before: networks are being named (${transition.pending.join('; ')})`
  return { allowed: true, reason }
}

/** Rules for networks that no cluster has. */
function flawsOf(names: ReadonlyMap<string, string>, rules: NetworkRules): ReadonlySet<string> {
  const networks = new Set(names.values())
  const missing = [...spokenOf(rules)].filter((network) => !networks.has(network))
  return new Set(missing.map((network) => `a rule names network "${network}", which no cluster has`))
}

/** Every network that rules speak of. */
function spokenOf(rules: NetworkRules): ReadonlySet<string> {
  return new Set([...(rules ?? [])].flatMap(([from, targets]) => [from, ...targets]))
}

/**
 * What shows that a change is not whole, in words. Rules alone, when they speak of clusters where these are, are whole at once: a
 * reachability that is taken away must be gone. Names alone are not, for rules may follow; nor are names and rules as long as a
 * cluster is where others have left, or where the rules no longer look.
 */
function freshFlaws(
  settled: Settled,
  names: ReadonlyMap<string, string>,
  rulesText: string,
  rules: NetworkRules,
  flaws: ReadonlySet<string>,
): string[] {
  const fresh = [...flaws].filter((flaw) => !settled.flaws.has(flaw))
  const known = [...names].filter(([id]) => settled.names.has(id))
  const renamed = known.filter(([id, network]) => settled.names.get(id) !== network).map(([id]) => id)
  if (renamed.length === 0) return fresh
  if (rulesText === settled.rules)
    return [...fresh, `the network of ${renamed.join(', ')} changed, the rules did not yet`]
  const left = new Set(renamed.map((id) => settled.names.get(id)))
  const spoken = spokenOf(rules)
  for (const [id, network] of known) {
    if (renamed.includes(id)) continue
    if (left.has(network)) fresh.push(`${id} is still on ${called(network)}, which others have left`)
    else if (settled.spoken.has(network) && !spoken.has(network))
      fresh.push(`${id} is on ${called(network)}, of which the rules do not speak any more`)
  }
  return fresh
}

const called = (network: string): string => (network === '' ? 'the unnamed network' : `network "${network}"`)
