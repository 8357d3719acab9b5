import type { UpstreamConfig } from '../resources/accept-types.ts'

/** What the balancer must know of an endpoint. */
export interface Candidate {
  readonly weight: number
  readonly available: boolean
  readonly active: number
}

export interface Locality<E> {
  readonly priority: number
  readonly weight: number
  readonly endpoints: readonly E[]
}

type Rules = Pick<UpstreamConfig, 'policy' | 'localityWeighted'> & { readonly overprovisioningFactor: number }

interface Level<E> {
  readonly priority: number
  readonly localities: readonly Locality<E>[]
  /** Share of the traffic, 0 to 1. */
  load: number
}

/**
 * Chooses endpoints as Envoy does with panic routing off: by priority, then (with locality weights) by locality, then by policy.
 * Built anew when endpoints or their health change; choosing allocates nothing but for retries.
 */
export class LoadBalancer<E extends object> {
  readonly #localities: readonly Locality<E>[]
  readonly #rules: Rules
  readonly #view: (endpoint: E) => Candidate
  readonly #random: () => number
  readonly #levels: readonly Level<E>[]
  /** Smooth weighted round robin: what each endpoint is owed. */
  readonly #credit = new WeakMap<E, number>()

  constructor(
    localities: readonly Locality<E>[],
    rules: Rules,
    view: (endpoint: E) => Candidate,
    random: () => number = Math.random,
  ) {
    this.#localities = localities
    this.#rules = rules
    this.#view = view
    this.#random = random
    this.#levels = this.#build(new Set())
  }

  /** An available endpoint that is not among those `tried`; undefined when there is none. */
  choose(tried: ReadonlySet<E>): E | undefined {
    const level = pickWeighted(
      tried.size === 0 ? this.#levels : this.#build(tried),
      ({ load }) => load,
      this.#random,
    )
    if (level === undefined) return undefined
    if (!this.#rules.localityWeighted)
      return this.#byPolicy(level.localities.flatMap(({ endpoints }) => endpoints))
    const locality = pickWeighted(level.localities, ({ weight }) => weight, this.#random)
    return locality && this.#byPolicy(locality.endpoints)
  }

  /** Levels with what is available only; a locality weighs less as less of it is available. */
  #build(tried: ReadonlySet<E>): Level<E>[] {
    const priorities = [...new Set(this.#localities.map(({ priority }) => priority))].sort((a, b) => a - b)
    const health: number[] = []
    const levels = priorities.map((priority): Level<E> => {
      const all = this.#localities.filter((locality) => locality.priority === priority)
      const localities = all.map((locality) => {
        const endpoints = locality.endpoints.filter((e) => !tried.has(e) && this.#view(e).available)
        const share = this.#healthShare(endpoints.length, locality.endpoints.length)
        return { ...locality, endpoints, weight: locality.weight * share }
      })
      health.push(this.#healthShare(count(localities), count(all)))
      return { priority, localities: localities.filter(({ endpoints }) => endpoints.length > 0), load: 0 }
    })
    priorityLoads(health).forEach((load, index) => {
      const level = levels[index]
      if (level !== undefined) level.load = load
    })
    return levels
  }

  #healthShare(available: number, total: number): number {
    return total === 0 ? 0 : Math.min(1, (available / total) * (this.#rules.overprovisioningFactor / 100))
  }

  #byPolicy(endpoints: readonly E[]): E | undefined {
    switch (this.#rules.policy) {
      case 'RANDOM':
        return this.#byWeight(endpoints)
      case 'ROUND_ROBIN':
        return this.#roundRobin(endpoints)
      case 'LEAST_REQUEST':
        return this.#leastRequest(endpoints)
    }
  }

  #byWeight(endpoints: readonly E[]): E | undefined {
    return pickWeighted(endpoints, (endpoint) => this.#view(endpoint).weight, this.#random)
  }

  /** Of two taken by weight, the one with fewer connections for its weight. */
  #leastRequest(endpoints: readonly E[]): E | undefined {
    const [one, other] = [this.#byWeight(endpoints), this.#byWeight(endpoints)]
    if (one === undefined || other === undefined) return one
    const load = (endpoint: E): number => {
      const { active, weight } = this.#view(endpoint)
      return (active + 1) / weight
    }
    return load(other) < load(one) ? other : one
  }

  #roundRobin(endpoints: readonly E[]): E | undefined {
    let best: E | undefined
    let bestCredit = Number.NEGATIVE_INFINITY
    let total = 0
    for (const endpoint of endpoints) {
      const { weight } = this.#view(endpoint)
      const credit = (this.#credit.get(endpoint) ?? 0) + weight
      this.#credit.set(endpoint, credit)
      total += weight
      if (credit > bestCredit) [best, bestCredit] = [endpoint, credit]
    }
    if (best !== undefined) this.#credit.set(best, bestCredit - total)
    return best
  }
}

/**
 * Envoy's rule: each priority takes as much as its health (0 to 1, overprovisioned) allows of what the better ones left; where
 * all together are not whole, everybody gets more in proportion. The shares add up to 1, or are all 0.
 */
export function priorityLoads(health: readonly number[]): number[] {
  const total = Math.min(
    1,
    health.reduce((sum, share) => sum + share, 0),
  )
  let left = 1
  return health.map((share) => {
    const load = total === 0 ? 0 : Math.min(left, share / total)
    left = Math.max(0, left - load)
    return load
  })
}

function count(localities: readonly { readonly endpoints: readonly unknown[] }[]): number {
  return localities.reduce((sum, { endpoints }) => sum + endpoints.length, 0)
}

/** One item with a chance in proportion to its weight; undefined when all weigh nothing. */
function pickWeighted<T>(
  items: readonly T[],
  weigh: (item: T) => number,
  random: () => number,
): T | undefined {
  let total = 0
  for (const item of items) total += weigh(item)
  if (total <= 0) return undefined
  let at = random() * total
  let last: T | undefined
  for (const item of items) {
    const weight = weigh(item)
    if (weight <= 0) continue
    last = item
    at -= weight
    if (at < 0) return item
  }
  // Rounding can leave a rest after the last one.
  return last
}
