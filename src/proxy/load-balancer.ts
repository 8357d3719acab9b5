import type { BalancingConfig } from '../resources/upstream-types.ts'
import { EdfSchedule } from './balance/edf.ts'
import { type HashTable, hashTableOf, type Share } from './balance/hash-table.ts'
import { type Candidate, type Picker, pickerOf } from './balance/pickers.ts'
import { type PriorityHealth, type PriorityLoads, priorityLoads } from './balance/priorities.ts'

export interface Locality<E> {
  readonly priority: number
  /** 0: no traffic where localities are weighted. */
  readonly weight: number
  readonly endpoints: readonly E[]
}

export interface BalancingRules {
  readonly config: BalancingConfig
  /** Percent: a priority takes all traffic until less than 100 / this of it is usable. */
  readonly overprovisioningFactor: number
  /** Health of a priority is measured by weights of endpoints instead of by their number. */
  readonly weightedPriorityHealth: boolean
}

/** One priority's endpoints, sorted by what they may be used for. */
interface Level<E> {
  readonly all: readonly E[]
  readonly healthy: readonly E[]
  readonly degraded: readonly E[]
  readonly localities: readonly Locality<E>[]
  /** Built when first used; most are never. */
  readonly pickers: Map<'all' | 'healthy' | 'degraded', Picker<E>>
  table: HashTable<E> | undefined
}

const NOBODY: ReadonlySet<never> = new Set()
/** How often an endpoint that was not tried yet is hoped for before those are looked for one by one. */
const HOPES = 3

/**
 * Chooses endpoints as Envoy 1.40 does: by priority, then (with locality weights) by locality, then by policy. Built anew, in O(n),
 * when endpoints or their health change; a choice costs O(1), O(log n) where weights differ, and allocates nothing.
 */
export class LoadBalancer<E extends Candidate> {
  readonly #rules: BalancingRules
  readonly #random: () => number
  readonly #levels: readonly Level<E>[]
  readonly #loads: PriorityLoads

  constructor(localities: readonly Locality<E>[], rules: BalancingRules, random: () => number = Math.random) {
    this.#rules = rules
    this.#random = random
    const priorities = [...new Set(localities.map(({ priority }) => priority))].sort((a, b) => a - b)
    this.#levels = priorities.map((priority) =>
      levelOf(localities.filter((locality) => locality.priority === priority)),
    )
    this.#loads = priorityLoads(
      this.#levels.map((level) => healthOf(level, rules.weightedPriorityHealth)),
      rules.overprovisioningFactor,
      rules.config.panicThreshold,
    )
  }

  /** Whether traffic of any priority goes to all endpoints, whatever their health. */
  get panicking(): boolean {
    return this.#loads.panic.some((panic, index) => panic && (this.#loads.healthy[index] ?? 0) > 0)
  }

  /** Endpoints of priorities that get nothing, since better ones take everything. */
  get passedOver(): readonly E[] {
    const load = (index: number): number =>
      (this.#loads.healthy[index] ?? 0) + (this.#loads.degraded[index] ?? 0)
    const first = this.#levels.findIndex((_, index) => load(index) > 0)
    if (first < 0) return []
    return this.#levels.flatMap((level, index) => (index > first && load(index) === 0 ? level.all : []))
  }

  /** An endpoint that is not among those `tried`; undefined when none may be used. `hash` counts for hashing policies. */
  choose(tried: ReadonlySet<E> = NOBODY, hash?: bigint): E | undefined {
    const { policy } = this.#rules.config
    if (policy === 'RING_HASH' || policy === 'MAGLEV') return this.#byHash(tried, hash ?? this.#anyHash())
    for (let hope = 0; hope < HOPES; hope += 1) {
      const endpoint = this.#pick()
      if (endpoint === undefined) break
      if (!tried.has(endpoint)) return endpoint
      if (tried.size === 0) break
    }
    return tried.size === 0 ? undefined : this.#left(tried)
  }

  #pick(): E | undefined {
    const { healthy, degraded, panic } = this.#loads
    let at = this.#random() * 100
    for (let index = 0; index < this.#levels.length; index += 1) {
      at -= healthy[index] ?? 0
      if (at < 0) return this.#pickIn(index, panic[index] === true ? 'all' : 'healthy')
    }
    for (let index = 0; index < this.#levels.length; index += 1) {
      at -= degraded[index] ?? 0
      if (at < 0) return this.#pickIn(index, panic[index] === true ? 'all' : 'degraded')
    }
    return undefined
  }

  #pickIn(index: number, source: 'all' | 'healthy' | 'degraded'): E | undefined {
    const level = this.#levels[index]
    if (level === undefined) return undefined
    if (source === 'all' && this.#rules.config.failTrafficOnPanic) return undefined
    let picker = level.pickers.get(source)
    if (picker === undefined) {
      picker = this.#pickerFor(level, source)
      level.pickers.set(source, picker)
    }
    return picker.pick()
  }

  #pickerFor(level: Level<E>, source: 'all' | 'healthy' | 'degraded'): Picker<E> {
    const { config } = this.#rules
    const weighed = source === 'all' || !config.localityWeighted ? [] : this.#weighLocalities(level, source)
    // In panic, and where no locality weighs anything, localities do not count.
    if (weighed.length === 0) return pickerOf(level[source], config, this.#random)
    const pickers = weighed.map(({ endpoints, weight }) => ({
      weight,
      picker: pickerOf(endpoints, config, this.#random),
    }))
    const schedule = new EdfSchedule(pickers, ({ weight }) => weight)
    return { pick: () => schedule.pick()?.picker.pick() }
  }

  /** A locality weighs less as less of it is usable. */
  #weighLocalities(level: Level<E>, health: 'healthy' | 'degraded'): Locality<E>[] {
    const found: Locality<E>[] = []
    for (const { priority, weight, endpoints } of level.localities) {
      const usable = endpoints.filter((endpoint) => endpoint.health === health)
      const counted = endpoints.filter((endpoint) => endpoint.health !== 'excluded').length
      if (usable.length === 0 || weight === 0) continue
      const share = Math.min(1, (usable.length / counted) * (this.#rules.overprovisioningFactor / 100))
      found.push({ priority, weight: weight * share, endpoints: usable })
    }
    return found
  }

  /** For a connect that failed: whoever is left, in the priority that is due where it has anybody. */
  #left(tried: ReadonlySet<E>): E | undefined {
    const levels = this.#levels.map((level, index) => {
      if (this.#loads.panic[index] === true)
        return this.#rules.config.failTrafficOnPanic ? [] : level.all.filter((e) => !tried.has(e))
      const healthy = level.healthy.filter((e) => !tried.has(e))
      return healthy.length > 0 ? healthy : level.degraded.filter((e) => !tried.has(e))
    })
    const load = (index: number): number =>
      levels[index]?.length ? (this.#loads.healthy[index] ?? 0) + (this.#loads.degraded[index] ?? 0) : 0
    let at = this.#random() * levels.reduce((total, _, index) => total + load(index), 0)
    const due = levels.find((_, index) => {
      at -= load(index)
      return at < 0
    })
    const from = due ?? levels.find(({ length }) => length > 0) ?? []
    return from[Math.floor(this.#random() * from.length)]
  }

  /** As Envoy: one table over a priority's healthy endpoints, or all of them in panic; the hash also chooses the priority. */
  #byHash(tried: ReadonlySet<E>, hash: bigint): E | undefined {
    let at = Number(hash % 100n)
    const order: number[] = []
    for (let index = 0; index < this.#levels.length; index += 1) {
      const load = (this.#loads.healthy[index] ?? 0) + (this.#loads.degraded[index] ?? 0)
      if (at >= 0 && at < load) order.unshift(index)
      else order.push(index)
      at -= load
    }
    for (const index of tried.size === 0 ? order.slice(0, 1) : order) {
      const found = this.#tableAt(index)?.find(hash, tried)
      if (found !== undefined) return found
    }
    return undefined
  }

  #tableAt(index: number): HashTable<E> | undefined {
    const level = this.#levels[index]
    if (level === undefined) return undefined
    if (level.table === undefined) {
      const { config } = this.#rules
      const panic = this.#loads.panic[index] === true
      if (panic && config.failTrafficOnPanic) return undefined
      const shares = panic ? sharesOf([{ weight: 1, endpoints: level.all }]) : this.#healthyShares(level)
      if (shares.length === 0) return undefined
      level.table = hashTableOf(shares, config)
    }
    return level.table
  }

  #healthyShares(level: Level<E>): Share<E>[] {
    const weighed = this.#rules.config.localityWeighted ? this.#weighLocalities(level, 'healthy') : []
    const usable = level.healthy.length > 0 ? level.healthy : level.degraded
    return sharesOf(weighed.length > 0 ? weighed : [{ weight: 1, endpoints: usable }])
  }

  #anyHash(): bigint {
    const word = (): bigint => BigInt(Math.floor(this.#random() * 2 ** 32))
    return (word() << 32n) | word()
  }
}

function levelOf<E extends Candidate>(localities: readonly Locality<E>[]): Level<E> {
  const all = localities.flatMap(({ endpoints }) => endpoints)
  const healthy = all.filter(({ health }) => health === 'healthy')
  const degraded = all.filter(({ health }) => health === 'degraded')
  return { all, healthy, degraded, localities, pickers: new Map(), table: undefined }
}

function healthOf<E extends Candidate>(level: Level<E>, weighted: boolean): PriorityHealth {
  const measure = (endpoints: readonly E[]): number =>
    weighted ? endpoints.reduce((sum, { weight }) => sum + weight, 0) : endpoints.length
  const counted = level.all.filter(({ health }) => health !== 'excluded')
  const usable = level.healthy.length + level.degraded.length
  return {
    healthy: measure(level.healthy),
    degraded: measure(level.degraded),
    total: measure(counted),
    endpoints: level.all.length,
    usablePercent: counted.length === 0 ? 0 : (100 * usable) / counted.length,
  }
}

function sharesOf<E extends Candidate>(
  localities: readonly Pick<Locality<E>, 'weight' | 'endpoints'>[],
): Share<E>[] {
  const total = localities.reduce((sum, { weight }) => sum + weight, 0)
  return localities.flatMap(({ weight, endpoints }) => {
    const sum = endpoints.reduce((all, endpoint) => all + endpoint.weight, 0)
    return endpoints.map((endpoint) => ({ endpoint, share: (weight / total) * (endpoint.weight / sum) }))
  })
}
