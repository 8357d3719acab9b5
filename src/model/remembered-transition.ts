// An unfinished change of networks outlives the process that has seen its beginning: it is written into the status of the cluster's own
// Cluster object while it lasts, and read by the next one.
import type { Cluster } from '../objects/types.ts'
import { type NetworkTransition, TRANSITION_MS } from './network-transition.ts'

/** Member of `status` of the cluster's own Cluster. */
export const REMEMBERED = 'networkTransition'

/** A transition as JSON. */
export interface RememberedTransition {
  readonly step: string
  readonly steppedAtMs: number
  readonly settled: {
    readonly names: readonly (readonly [cluster: string, network: string])[]
    readonly rules: string
    readonly spoken: readonly string[]
    readonly flaws: readonly string[]
  }
  readonly allowed: readonly string[]
}

/** What the next process has to know; undefined where every change is whole, and the objects say all. */
export function rememberTransition(transition: NetworkTransition): RememberedTransition | undefined {
  const { pending, settled, step, steppedAtMs, allowed } = transition
  if (pending.length === 0) return undefined
  return {
    step,
    steppedAtMs,
    settled: {
      names: [...settled.names],
      rules: settled.rules,
      spoken: [...settled.spoken],
      flaws: [...settled.flaws],
    },
    allowed: [...allowed].sort(),
  }
}

/**
 * What was written into the status of cluster `self`, to go on from. Undefined where there is nothing, or nothing that can be read, where
 * its time is over, or where it is of a time to come: then the objects count as they are.
 */
export function recallTransition(
  clusters: readonly Cluster[],
  self: string,
  nowMs: number,
): NetworkTransition | undefined {
  const status = clusters.find(({ metadata }) => metadata.name === self)?.raw['status']
  const value = isMap(status) ? status[REMEMBERED] : undefined
  if (!isRemembered(value)) return undefined
  const { step, steppedAtMs, settled, allowed } = value
  if (steppedAtMs > nowMs || nowMs - steppedAtMs >= TRANSITION_MS) return undefined
  return {
    step,
    steppedAtMs,
    pending: [],
    allowed: new Set(allowed),
    settled: {
      names: new Map(settled.names),
      rules: settled.rules,
      spoken: new Set(settled.spoken),
      flaws: new Set(settled.flaws),
    },
  }
}

function isRemembered(value: unknown): value is RememberedTransition {
  if (!isMap(value) || !isMap(value['settled'])) return false
  const { names, rules, spoken, flaws } = value['settled']
  return (
    typeof value['step'] === 'string' &&
    typeof value['steppedAtMs'] === 'number' &&
    typeof rules === 'string' &&
    [value['allowed'], spoken, flaws].every(isTexts) &&
    Array.isArray(names) &&
    names.every((pair) => isTexts(pair) && pair.length === 2)
  )
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((each) => typeof each === 'string')
