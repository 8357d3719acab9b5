import { mock } from 'node:test'
import t from 'tap'
import { type Clock, onClockJump, systemClock } from '../../src/lib/clock.ts'

const HOUR_MS = 3_600_000
const NINETY_DAYS = 90 * 24
/** At most so many timers, one after the other, make up a long one. */
const PIECES = 10

t.test('a timer of ninety days goes off after ninety days, once, unless it is cancelled', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  let rang = 0
  systemClock.after(NINETY_DAYS * HOUR_MS, () => rang++)
  const cancel = systemClock.after(NINETY_DAYS * HOUR_MS, () => t.fail('it was cancelled'))
  const hours = (count: number): void => {
    for (let hour = 0; hour < count; hour++) mock.timers.tick(HOUR_MS)
  }
  hours(NINETY_DAYS - 1)
  t.equal(rang, 0)
  cancel()
  // What is armed again inside a tick counts from the tick's end: up to an hour more for each time.
  hours(1 + PIECES)
  t.equal(rang, 1)
  hours(NINETY_DAYS)
  t.equal(rang, 1)
})

t.test('durations that hardly differ share one list of timers, and are waited for to the end', async (t) => {
  const set: number[] = []
  const real = globalThis.setTimeout
  t.teardown(() => {
    globalThis.setTimeout = real
  })
  globalThis.setTimeout = ((callback: () => void, ms: number) => {
    set.push(ms)
    // Each piece is over at once.
    if (set.length < 50) callback()
    return real(() => {}, 0)
  }) as typeof setTimeout
  const piecesOf = (ms: number): number[] => {
    set.length = 0
    let rang = 0
    systemClock.after(ms, () => rang++)
    t.equal(rang, 1, `${ms}: once`)
    t.equal(
      set.reduce((sum, piece) => sum + piece, 0),
      ms,
      `${ms}: no less, no more`,
    )
    return [...set]
  }
  const first = new Set(Array.from({ length: 100 }, (_, taken) => piecesOf(4_992 - 20 + (taken % 20))[0]))
  t.equal(first.size, 1)
  for (const ms of [0, 1, 64, 65, 999, 3_600_000, 2 ** 31, 5 * 2 ** 31])
    t.ok(piecesOf(ms).length <= 10, `${ms}`)
})
t.test(
  'a clock that is set, either way, is noticed; one that is busy or corrected little by little is not',
  async (t) => {
    const due: (() => void)[] = []
    let now = 1_000_000
    const clock: Clock = {
      now: () => now,
      after: (_ms, callback) => {
        due.push(callback)
        return () => due.splice(0)
      },
    }
    const jumps: number[] = []
    const cancel = onClockJump(clock, (byMs) => jumps.push(byMs))
    for (const passed of [500, 700, 1_900, 60_500, -3_600_000, 500, 400]) {
      now += passed
      due.shift()?.()
    }
    t.same(jumps, [60_000, -3_600_500])
    cancel()
    t.same(due, [])
  },
)
