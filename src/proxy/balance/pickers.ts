import type { BalancingConfig } from '../../resources/upstream-types.ts'
import { EdfSchedule } from './edf.ts'

/** What the balancer must know of an endpoint; looked at anew for every choice. */
export interface Candidate {
  /** At least 1. */
  readonly weight: number
  /** Excluded ones do not count at all, not even as unhealthy: their first health check is still to come. */
  readonly health: 'healthy' | 'degraded' | 'unhealthy' | 'excluded'
  /** Connections open and being opened. */
  readonly active: number
  readonly hashKey: string
}

/** Chooses among a fixed set of endpoints; a set whose members change gets a new one. */
export interface Picker<E> {
  pick(): E | undefined
}

/** The picker of a policy that does not hash, over endpoints that may all be used. Built in O(n). */
export function pickerOf<E extends Candidate>(
  endpoints: readonly E[],
  config: BalancingConfig,
  random: () => number,
): Picker<E> {
  const first = endpoints[0]
  if (first === undefined) return { pick: () => undefined }
  if (endpoints.length === 1) return { pick: () => first }
  // Envoy's RANDOM does not look at weights.
  if (config.policy === 'RANDOM') return { pick: () => oneOf(endpoints, random) }
  const equal = endpoints.every(({ weight }) => weight === first.weight)
  if (config.policy === 'LEAST_REQUEST')
    return equal
      ? { pick: () => leastActive(endpoints, config.choiceCount, random) }
      : scheduled(endpoints, leastRequestWeight(config.activeRequestBias), random)
  return equal ? rotation(endpoints, random) : scheduled(endpoints, ({ weight }: E) => weight, random)
}

function oneOf<E>(endpoints: readonly E[], random: () => number): E | undefined {
  return endpoints[Math.floor(random() * endpoints.length)]
}

/** Of some taken at random, the one with the fewest connections; the first of equals. */
function leastActive<E extends Candidate>(
  endpoints: readonly E[],
  choices: number,
  random: () => number,
): E | undefined {
  let best = oneOf(endpoints, random)
  for (let choice = 1; choice < choices; choice += 1) {
    const other = oneOf(endpoints, random)
    if (best === undefined || (other !== undefined && other.active < best.active)) best = other
  }
  return best
}

/** Begins anywhere, so that many proxies do not all begin with the same endpoint. */
function rotation<E>(endpoints: readonly E[], random: () => number): Picker<E> {
  let next = Math.floor(random() * endpoints.length)
  return {
    pick() {
      const endpoint = endpoints[next]
      next = next + 1 === endpoints.length ? 0 : next + 1
      return endpoint
    },
  }
}

function scheduled<E>(
  endpoints: readonly E[],
  weigh: (endpoint: E) => number,
  random: () => number,
): Picker<E> {
  const schedule = new EdfSchedule(endpoints, weigh)
  for (let skip = Math.floor(random() * endpoints.length); skip > 0; skip -= 1) schedule.pick()
  return schedule
}

function leastRequestWeight(bias: number): (endpoint: Candidate) => number {
  if (bias === 0) return ({ weight }) => weight
  if (bias === 1) return ({ weight, active }) => weight / (active + 1)
  return ({ weight, active }) => weight / (active + 1) ** bias
}
