// Medians, and how sure one may be of them.

/** The q-quantile by linear interpolation between order statistics; values that are no numbers are left out; NaN where there are none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = numbers(values)
  const at = (sorted.length - 1) * q
  const below = sorted[Math.floor(at)] ?? Number.NaN
  const above = sorted[Math.ceil(at)] ?? Number.NaN
  return below + (above - below) * (at - Math.floor(at))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

export interface Interval {
  readonly low: number
  readonly high: number
  /** Probability that the true median lies within, whatever the distribution; below what was asked where there are too few values. */
  readonly coverage: number
}

/**
 * Interval for the median by order statistics: the narrowest pair x(k) … x(n+1−k) whose coverage, 1 − 2·P(B(n, ½) < k), is at least
 * `confidence`. It supposes nothing of the distribution but independence, so a round that was disturbed moves it little. Under six
 * values no pair covers 95 %: then it is all of them, and `coverage` says how much that is.
 */
export function medianInterval(values: readonly number[], confidence = 0.95): Interval {
  const sorted = numbers(values)
  const n = sorted.length
  if (n === 0) return { low: Number.NaN, high: Number.NaN, coverage: 0 }
  let rank = 1
  let coverage = 1 - 2 * binomialBelow(n, 1)
  for (let k = 2; k <= n / 2; k++) {
    const next = 1 - 2 * binomialBelow(n, k)
    if (next < confidence) break
    rank = k
    coverage = next
  }
  return {
    low: sorted[rank - 1] ?? Number.NaN,
    high: sorted[n - rank] ?? Number.NaN,
    coverage: Math.max(coverage, 0),
  }
}

/** P(B(n, ½) < k). */
function binomialBelow(n: number, k: number): number {
  let term = 0.5 ** n
  let sum = 0
  for (let i = 0; i < k; i++) {
    sum += term
    term = (term * (n - i)) / (i + 1)
  }
  return sum
}

function numbers(values: readonly number[]): number[] {
  return values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b)
}
