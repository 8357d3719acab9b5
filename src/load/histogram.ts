/** Values from here on share buckets; below, each microsecond has its own. */
const EXACT = 256
const HALF = EXACT / 2
/** Buckets for each power of two are 2^7. */
const HALF_BITS = 7
/** Half an hour and a bit; what takes longer counts as this. */
const LONGEST = 2 ** 31 - 1
/** Powers of two from 2^8 to 2^30, and the exact part. */
const BUCKETS = EXACT + (30 - HALF_BITS) * HALF

/** By how much a quantile may be over the true one, as a part of it: the width of a bucket. Never under it. */
export const RELATIVE_ERROR = 1 / HALF

/** A histogram as it travels between processes: `[bucket, count, …]` of the buckets that are not empty. */
export interface EncodedHistogram {
  readonly buckets: readonly number[]
  readonly sum: number
  readonly min: number
  readonly max: number
}

/**
 * Latencies in microseconds, as HdrHistogram keeps them: log-linear buckets, so that a quantile is at most `RELATIVE_ERROR` over the
 * true one (and exact to the microsecond below 256 µs), recording is a few instructions without garbage, and merging is adding.
 *
 * `perf_hooks.createHistogram` is not it: its counts cannot be read, so those of several processes cannot be merged exactly.
 */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS)
  #count = 0
  #sum = 0
  #min = LONGEST
  #max = 0

  get count(): number {
    return this.#count
  }

  /** Microseconds; 0 where nothing was recorded, as for all below. */
  get min(): number {
    return this.#count === 0 ? 0 : this.#min
  }

  get max(): number {
    return this.#max
  }

  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count
  }

  /** Rounded to the microsecond; less than nothing, which a clock that was set makes, counts as nothing. */
  record(microseconds: number): void {
    const value = microseconds > 0 ? (microseconds < LONGEST ? (microseconds + 0.5) | 0 : LONGEST) : 0
    const index = indexOf(value)
    this.#counts[index] = (this.#counts[index] as number) + 1
    this.#count++
    this.#sum += value
    if (value < this.#min) this.#min = value
    if (value > this.#max) this.#max = value
  }

  /** The smallest value that a part `q` (0 to 1) of all values does not exceed. */
  quantile(q: number): number {
    const rank = Math.min(this.#count, Math.max(1, Math.ceil(q * this.#count)))
    let seen = 0
    for (let index = 0; index < BUCKETS && rank > 0; index++) {
      seen += this.#counts[index] as number
      if (seen >= rank) return Math.min(highestOf(index), this.#max)
    }
    return this.#max
  }

  /** How many values are over so many microseconds, to the width of a bucket. */
  countAbove(microseconds: number): number {
    let above = 0
    for (let index = BUCKETS - 1; index >= 0 && lowestOf(index) > microseconds; index--)
      above += this.#counts[index] as number
    return above
  }

  add(other: Histogram): this {
    return this.addEncoded(other.encode())
  }

  addEncoded({ buckets, sum, min, max }: EncodedHistogram): this {
    for (let at = 0; at + 1 < buckets.length; at += 2) {
      const index = buckets[at] as number
      const count = buckets[at + 1] as number
      this.#counts[index] = (this.#counts[index] as number) + count
      this.#count += count
    }
    if (buckets.length === 0) return this
    this.#sum += sum
    this.#min = Math.min(this.#min, min)
    this.#max = Math.max(this.#max, max)
    return this
  }

  encode(): EncodedHistogram {
    const buckets: number[] = []
    for (const [index, count] of this.#counts.entries()) if (count > 0) buckets.push(index, count)
    return { buckets, sum: this.#sum, min: this.min, max: this.#max }
  }

  clear(): void {
    if (this.#count > 0) this.#counts.fill(0)
    this.#count = 0
    this.#sum = 0
    this.#min = LONGEST
    this.#max = 0
  }
}

/** All of them together. */
export function merged(histograms: Iterable<EncodedHistogram>): Histogram {
  const sum = new Histogram()
  for (const each of histograms) sum.addEncoded(each)
  return sum
}

function indexOf(value: number): number {
  if (value < EXACT) return value
  const shift = 31 - HALF_BITS - Math.clz32(value)
  return (shift << HALF_BITS) + (value >> shift)
}

function lowestOf(index: number): number {
  if (index < EXACT) return index
  return (HALF + (index & (HALF - 1))) << ((index >> HALF_BITS) - 1)
}

function highestOf(index: number): number {
  return index < EXACT ? index : lowestOf(index) + (1 << ((index >> HALF_BITS) - 1)) - 1
}
