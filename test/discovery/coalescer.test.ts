import t from 'tap'
import { Coalescer } from '../../src/discovery/coalescer.ts'
import type { Clock } from '../../src/lib/clock.ts'

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
