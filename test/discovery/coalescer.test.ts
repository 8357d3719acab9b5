import t from 'tap'
import { Coalescer } from '../../src/discovery/coalescer.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { HandClock } from '../proxy/hand-clock.ts'

/** A clock whose only timers are the ones that the test runs. */
function manualClock() {
  const timers = new Set<() => void>()
  const clock: Clock = {
    now: () => 0,
    after: (_ms, callback) => {
      timers.add(callback)
      return () => timers.delete(callback)
    },
  }
  const elapse = (): void => {
    for (const timer of [...timers]) {
      timers.delete(timer)
      timer()
    }
  }
  return { clock, elapse }
}

t.test('the first change acts at once, a burst after it once more', async (t) => {
  const { clock, elapse } = manualClock()
  let runs = 0
  const coalescer = new Coalescer(clock, 50, () => runs++)
  coalescer.trigger()
  t.equal(runs, 1)
  for (let i = 0; i < 10; i++) coalescer.trigger()
  t.equal(runs, 1)
  elapse()
  t.equal(runs, 2)
  elapse()
  t.equal(runs, 2, 'nothing new, nothing done')
  coalescer.trigger()
  t.equal(runs, 3, 'at rest again')
})

t.test('a change that comes while it runs is not lost, and none after stop acts', async (t) => {
  const { clock, elapse } = manualClock()
  let runs = 0
  const coalescer = new Coalescer(clock, 50, () => {
    if (runs++ === 0) coalescer.trigger()
  })
  coalescer.trigger()
  elapse()
  t.equal(runs, 2)
  coalescer.trigger()
  coalescer.stop()
  elapse()
  t.equal(runs, 2)
})

t.test('flush does what is waited with, and nothing when there is nothing', async (t) => {
  const { clock, elapse } = manualClock()
  let runs = 0
  const coalescer = new Coalescer(clock, 50, () => runs++)
  coalescer.flush()
  t.equal(runs, 0)
  coalescer.trigger()
  coalescer.trigger()
  coalescer.flush()
  t.equal(runs, 2)
  elapse()
  coalescer.flush()
  t.equal(runs, 2)
})

for (const runMs of [0, 20, 200, 390]) {
  t.test(
    `50 changes a second, a run takes ${runMs} ms: every change is in force within a second`,
    async (t) => {
      const hand = new HandClock()
      /** Time that runs have taken, on top of the hand's. */
      let spentMs = 0
      const clock: Clock = {
        now: () => hand.now() + spentMs,
        after: (ms, callback) => hand.after(ms, callback),
      }
      const waiting: number[] = []
      const lags: number[] = []
      let runs = 0
      const coalescer = new Coalescer(clock, 50, () => {
        runs++
        const seen = waiting.splice(0)
        spentMs += runMs
        lags.push(...seen.map((atMs) => clock.now() - atMs))
      })
      let changes = 0
      let nextMs = 0
      while (clock.now() < 20_000) {
        // Changes come at their own times, also while something runs.
        for (; nextMs <= clock.now(); nextMs += 20) {
          waiting.push(nextMs)
          changes++
          coalescer.trigger()
        }
        hand.advance(1)
      }
      // Those of the last second may be under way.
      t.ok(lags.length > changes - 60, `${lags.length} of ${changes} changes in ${runs} runs`)
      t.ok(Math.max(...lags) <= 1_000, `at most ${Math.max(...lags)} ms`)
      t.ok(runs < changes / 2, 'in far fewer runs')
    },
  )
}

t.test('what a run has set going counts as part of it', async (t) => {
  let nowMs = 0
  const windows: number[] = []
  let elapse = (): void => {}
  const clock: Clock = {
    now: () => nowMs,
    after: (ms, callback) => {
      windows.push(ms)
      elapse = callback
      return () => {}
    },
  }
  let settle = (): void => {}
  const coalescer = new Coalescer(
    clock,
    50,
    () => {},
    (callback) => {
      settle = callback
    },
  )
  for (const tookMs of [10, 100, 1_000]) {
    coalescer.trigger()
    nowMs += tookMs
    coalescer.trigger()
    settle()
    coalescer.flush()
    const late = settle
    elapse()
    late()
  }
  t.ok(windows.includes(100) && windows.includes(200), `${windows}`)
  t.notOk(
    windows.some((ms) => ms < 50 || ms > 200),
    `${windows}`,
  )
})
