/** What one priority has, as counts (or as weights, where the assignment says `weighted_priority_health`). */
export interface PriorityHealth {
  readonly healthy: number
  readonly degraded: number
  /** All that are not excluded. */
  readonly total: number
  /** Endpoints of any kind. */
  readonly endpoints: number
  /** Healthy and degraded endpoints in percent of those not excluded: what panic is decided by. */
  readonly usablePercent: number
}

/** How traffic is spread over the priorities. Percentages; both lists together add up to 100, or are all 0. */
export interface PriorityLoads {
  readonly healthy: readonly number[]
  readonly degraded: readonly number[]
  /** Priorities whose traffic goes to all endpoints, whatever their health. */
  readonly panic: readonly boolean[]
}

/**
 * Envoy's rule, in whole percents as there. Each priority takes as much as its health (overprovisioned) allows of what the better
 * ones left, first with healthy endpoints, then with degraded ones; where all together are not whole, everybody gets more in
 * proportion. A priority under the panic threshold uses all its endpoints, unless the others make up for it; where all are in panic,
 * each takes its share by the number of its endpoints. A threshold of 0 means no panic ever.
 */
export function priorityLoads(
  priorities: readonly PriorityHealth[],
  overprovisioningFactor: number,
  panicThreshold: number,
): PriorityLoads {
  const percent = (part: number, total: number): number =>
    total === 0 ? 0 : Math.min(100, Math.floor((overprovisioningFactor * part) / total))
  const healthy = priorities.map((level) => percent(level.healthy, level.total))
  const degraded = priorities.map((level) => percent(level.degraded, level.total))
  const available = Math.min(100, sum(healthy) + sum(degraded))
  const panic = priorities.map(
    ({ usablePercent }) => panicThreshold > 0 && available < 100 && usablePercent < panicThreshold,
  )
  if (panic.length > 0 && panic.every(Boolean)) {
    return { healthy: byEndpoints(priorities), degraded: degraded.map(() => 0), panic }
  }
  return { ...distribute(healthy, degraded, available), panic }
}

function distribute(
  healthy: readonly number[],
  degraded: readonly number[],
  available: number,
): Pick<PriorityLoads, 'healthy' | 'degraded'> {
  if (available === 0) return { healthy: healthy.map(() => 0), degraded: degraded.map(() => 0) }
  let left = 100
  const take = (share: number): number => {
    const load = Math.min(left, Math.floor((share * 100) / available))
    left -= load
    return load
  }
  const loads = { healthy: healthy.map(take), degraded: degraded.map(take) }
  // What rounding left goes to the first that has anything.
  const [first, index] = loads.healthy.some((load) => load > 0)
    ? [loads.healthy, loads.healthy.findIndex((load) => load > 0)]
    : [loads.degraded, loads.degraded.findIndex((load) => load > 0)]
  if (index >= 0) first[index] = (first[index] ?? 0) + left
  return loads
}

function byEndpoints(priorities: readonly PriorityHealth[]): number[] {
  const total = sum(priorities.map(({ endpoints }) => endpoints))
  if (total === 0) return priorities.map(() => 0)
  const loads = priorities.map(({ endpoints }) => Math.floor((100 * endpoints) / total))
  const first = loads.findIndex((_, index) => (priorities[index]?.endpoints ?? 0) > 0)
  loads[first] = (loads[first] ?? 0) + 100 - sum(loads)
  return loads
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
