// Medians and their intervals, held against distributions whose median is known.
import t from 'tap'
import { median, medianInterval, quantile } from '../../bench/statistics.ts'

/** Numbers in [0, 1) that are the same in every run (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

t.test('quantiles of values in any order, with what is no number left out', async (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, Number.NaN, 1, 2, 3]), 2.5)
  t.equal(quantile([5, 1, 2, 3, 4], 0.25), 2)
  t.equal(quantile([0, 10], 0.99), 9.9)
  t.ok(Number.isNaN(median([])))
})

t.test('ranks of the interval are those of the binomial tables', async (t) => {
  const ranks = (n: number): number[] => {
    const { low, high } = medianInterval(Array.from({ length: n }, (_, i) => i + 1))
    return [low, high]
  }
  // Conover, Practical Nonparametric Statistics, and every table after it.
  t.same(ranks(6), [1, 6])
  t.same(ranks(8), [1, 8])
  t.same(ranks(9), [2, 8])
  t.same(ranks(12), [3, 10])
  t.same(ranks(20), [6, 15])
  t.same(ranks(30), [10, 21])
  t.ok(Math.abs(medianInterval([1, 2, 3, 4, 5, 6]).coverage - 0.96875) < 1e-12)
})

t.test('too few values: all of them, and how little that is', async (t) => {
  t.same(medianInterval([2, 1, 3]), { low: 1, high: 3, coverage: 0.75 })
  t.same(medianInterval([7]), { low: 7, high: 7, coverage: 0 })
  t.equal(medianInterval([]).coverage, 0)
})

t.test('the interval holds the true median as often as it says, whatever the distribution', async (t) => {
  const random = seeded(20)
  const distributions: readonly (readonly [string, number, () => number])[] = [
    ['uniform', 0.5, random],
    ['exponential', Math.LN2, () => -Math.log(1 - random())],
    // Without a mean: a few values far away, as a disturbed round makes them.
    ['Cauchy', 0, () => Math.tan(Math.PI * (random() - 0.5))],
  ]
  const trials = 4_000
  for (const [name, truth, draw] of distributions) {
    for (const n of [6, 9, 12]) {
      let held = 0
      let coverage = 0
      for (let i = 0; i < trials; i++) {
        const interval = medianInterval(Array.from({ length: n }, draw))
        coverage = interval.coverage
        if (interval.low <= truth && truth <= interval.high) held++
      }
      t.ok(coverage >= 0.95)
      // Four standard deviations of a share of that many trials.
      const slack = 4 * Math.sqrt((coverage * (1 - coverage)) / trials)
      t.ok(
        Math.abs(held / trials - coverage) < slack,
        `${name}, ${n} values: ${held / trials} for ${coverage}`,
      )
    }
  }
})
