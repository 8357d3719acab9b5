import t from 'tap'
import { Backoff } from '../../src/lib/backoff.ts'

t.test('twice as long each time up to the ceiling, and from the beginning after a success', async (t) => {
  const backoff = new Backoff({ baseMs: 100, maxMs: 1_000, random: () => 1 })
  const next = (count: number) => Array.from({ length: count }, () => backoff.next())
  t.strictSame(next(6), [100, 200, 400, 800, 1_000, 1_000])
  backoff.reset()
  t.strictSame(next(2), [100, 200])
})

t.test('half of each delay is chance, so that a thousand clients do not come back at once', async (t) => {
  const first = Array.from({ length: 1_000 }, () => new Backoff({ baseMs: 100 }).next())
  t.ok(first.every((ms) => ms >= 50 && ms < 100))
  t.ok(new Set(first.map((ms) => Math.floor((ms - 50) / 5))).size === 10, 'all of the range is used')
})
