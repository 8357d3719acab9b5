import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Arrivals } from '../../src/load/arrivals.ts'
import { type FlowPlan, type LoadPlan, shareOf, spanOf } from '../../src/load/plan.ts'
import { get } from '../../src/load/run.ts'

const request = get('/')
const many = fc.integer({ min: 1, max: 500 })
const rated = fc.option(fc.double({ min: 0.5, max: 1e5, noNaN: true }), { nil: undefined })
const withRate = (rate: number | undefined) => (rate === undefined ? {} : { rate })

const flow: fc.Arbitrary<FlowPlan> = fc.oneof(
  fc.record({ connections: many, rate: rated, apart: fc.boolean() }).map(
    ({ connections, rate, apart }): FlowPlan => ({
      ...{ kind: 'requests', name: 'a', request, connections, apart },
      ...withRate(rate),
    }),
  ),
  many.map((connections): FlowPlan => ({ kind: 'idle', name: 'b', request, connections })),
  many.map(
    (rate): FlowPlan => ({ kind: 'churn', name: 'c', request, rate, lifeSeconds: 1, thinkSeconds: 1 }),
  ),
)

const planOf = (flows: readonly FlowPlan[]): LoadPlan => ({
  target: { address: '127.0.0.1', port: 1 },
  phases: [{ name: 'load', seconds: 1 }],
  flows,
})

const sum = (flows: readonly FlowPlan[], key: 'connections' | 'rate'): number =>
  flows.reduce((total, each) => total + ((each as unknown as Record<string, number>)[key] ?? 0), 0)

t.test('the shares of all processes together are the whole, and who is apart is alone', async () => {
  fc.assert(
    fc.property(
      fc.array(flow, { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 9 }),
      (flows, count) => {
        const plan = planOf(flows)
        const shares = Array.from({ length: count }, (_, index) => shareOf(plan, index, count).flows)
        assert.equal(sum(shares.flat(), 'connections'), sum(flows, 'connections'))
        assert.ok(
          Math.abs(
            sum(shares.flat(), 'rate') / (sum(flows, 'rate') || 1) - (sum(flows, 'rate') > 0 ? 1 : 0),
          ) < 1e-9,
        )
        for (const share of shares.slice(count > 1 ? 0 : 1))
          assert.ok(share.every(({ apart }) => apart === true) || share.every(({ apart }) => apart !== true))
      },
    ),
    { numRuns: 200 },
  )
})

t.test('phases that do not follow each other are no span', async (t) => {
  const phases = ['before', 'storm', 'after'].map((name) => ({ name, seconds: 2 }))
  const of = (names: readonly string[]) =>
    spanOf({ kind: 'idle', name: 'x', request, connections: 1, phases: names }, phases)
  t.same(of(['storm']), { fromMs: 2_000, untilMs: 4_000 })
  t.same(of(['storm', 'after']), { fromMs: 2_000, untilMs: 6_000 })
  for (const bad of [['before', 'after'], ['storm', 'before'], ['calm'], ['after', 'calm'], []])
    t.throws(() => of(bad), /flow x: .* no consecutive phases/, bad.join(' '))
})

t.test(
  'a schedule has as many begins as rate and time say, at equal distances, whatever the rate',
  async () => {
    const part = fc.double({ min: 0, max: 0.999, noNaN: true })
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5_000 }),
        fc.integer({ min: 1, max: 5 }),
        part,
        (rate, seconds, offset) => {
          const arrivals = new Arrivals(rate, 1_000, 1_000 + seconds * 1_000, offset)
          let count = 0
          let last = 0
          for (; arrivals.nextMs < Number.POSITIVE_INFINITY; arrivals.take()) {
            if (count > 0) assert.ok(Math.abs(arrivals.nextMs - last - arrivals.periodMs) < 1e-6)
            last = arrivals.nextMs
            count++
          }
          assert.equal(count, rate * seconds)
        },
      ),
      { numRuns: 50 },
    )
  },
)
