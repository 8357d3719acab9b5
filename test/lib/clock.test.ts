import { mock } from 'node:test'
import t from 'tap'
import { systemClock } from '../../src/lib/clock.ts'

const HOUR_MS = 3_600_000
const NINETY_DAYS = 90 * 24

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
  hours(1 + 3)
  t.equal(rang, 1)
  hours(NINETY_DAYS)
  t.equal(rang, 1)
})
