import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Histogram, merged, RELATIVE_ERROR } from '../../src/load/histogram.ts'

/** Microseconds, of every magnitude. */
const latency = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.integer({ min: 0, max: 100_000 }),
  fc.integer({ min: 0, max: 2 ** 31 - 1 }),
)
const latencies = fc.array(latency, { minLength: 1, maxLength: 300 })
const part = fc.double({ min: 0, max: 1, noNaN: true })

const of = (values: readonly number[]): Histogram => {
  const histogram = new Histogram()
  for (const value of values) histogram.record(value)
  return histogram
}

const exactQuantile = (values: readonly number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.max(1, Math.ceil(q * values.length)) - 1] ?? Number.NaN

t.test('a quantile is never under the exact one, and over it by the stated part at most', async () => {
  fc.assert(
    fc.property(latencies, part, (values, q) => {
      const exact = exactQuantile(values, q)
      const found = of(values).quantile(q)
      return found >= exact && found <= exact * (1 + RELATIVE_ERROR)
    }),
    { numRuns: 500 },
  )
})

t.test('below 256 microseconds it is exact, and the ends and the mean are always', async () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1 }), part, (values, q) => {
      return of(values).quantile(q) === exactQuantile(values, q)
    }),
  )
  fc.assert(
    fc.property(latencies, (values) => {
      const { min, max, mean, count } = of(values)
      const exactMean = values.reduce((sum, value) => sum + value, 0) / values.length
      assert.equal(count, values.length)
      return min === Math.min(...values) && max === Math.max(...values) && Math.abs(mean - exactMean) < 1e-3
    }),
    { numRuns: 50 },
  )
})

t.test('those of several processes are what one would have been', async () => {
  fc.assert(
    fc.property(fc.array(latencies, { minLength: 1, maxLength: 4 }), (parts) => {
      const travelled = parts.map((values) => JSON.parse(JSON.stringify(of(values).encode())))
      assert.deepEqual(merged(travelled).encode(), of(parts.flat()).encode())
    }),
    { numRuns: 50 },
  )
})

t.test('what is over a bound is counted, to the width of a bucket', async () => {
  fc.assert(
    fc.property(latencies, latency, (values, bound) => {
      const above = of(values).countAbove(bound)
      const wide = bound * (1 + RELATIVE_ERROR)
      return (
        above <= values.filter((value) => value > bound).length &&
        above >= values.filter((value) => value > wide).length
      )
    }),
    { numRuns: 300 },
  )
})

t.test('nothing recorded is zero, and what no clock can mean is the nearest that it can', async (t) => {
  const empty = new Histogram()
  t.same([empty.count, empty.min, empty.max, empty.mean, empty.quantile(0.99)], [0, 0, 0, 0, 0])
  t.same(of([5]).addEncoded(empty.encode()).encode(), of([5]).encode())
  t.same([of([-3]).max, of([1e12]).max, of([0.4]).max, of([0.5]).max], [0, 2 ** 31 - 1, 0, 1])
  const cleared = of([1, 2, 3])
  cleared.clear()
  t.same(cleared.encode(), empty.encode())
})
