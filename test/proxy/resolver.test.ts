import t from 'tap'
import type { Clock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { NameResolver } from '../../src/proxy/resolver.ts'

/** A clock whose one timer is fired by hand. */
function handClock(): Clock & { fire(): void; readonly pending: number } {
  const timers = new Set<() => void>()
  return {
    now: () => 0,
    after(_ms, callback) {
      timers.add(callback)
      return () => timers.delete(callback)
    },
    fire() {
      for (const timer of [...timers]) {
        timers.delete(timer)
        timer()
      }
    },
    get pending() {
      return timers.size
    },
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

t.test('the last good answer stays while a name does not resolve', async (t) => {
  const clock = handClock()
  let answer: string[] | Error = new Error('SERVFAIL')
  let changes = 0
  const resolver = new NameResolver({
    clock,
    logger: silentLogger,
    onChange: () => {
      changes += 1
    },
    resolve: async () => {
      if (answer instanceof Error) throw answer
      return answer
    },
  })
  resolver.watch(new Set(['lb.example', '10.0.0.1']), 5_000)
  t.same(resolver.addresses('10.0.0.1'), ['10.0.0.1'], 'an address is its own answer')
  await turn()
  t.same(resolver.addresses('lb.example'), [])
  t.match(resolver.error('lb.example'), /lb\.example does not resolve: SERVFAIL/)
  for (const [next, expected] of [
    [
      ['192.0.2.2', '192.0.2.1'],
      ['192.0.2.1', '192.0.2.2'],
    ],
    [new Error('timeout'), ['192.0.2.1', '192.0.2.2']],
    [[], ['192.0.2.1', '192.0.2.2']],
    [
      ['192.0.2.1', '192.0.2.2'],
      ['192.0.2.1', '192.0.2.2'],
    ],
    [['192.0.2.3'], ['192.0.2.3']],
  ] as [string[] | Error, string[]][]) {
    answer = next
    clock.fire()
    await turn()
    t.same(resolver.addresses('lb.example'), expected)
  }
  t.equal(changes, 2, 'only a change is told')
  t.equal(resolver.error('lb.example'), '')
  resolver.watch(new Set(), 5_000)
  t.same(resolver.addresses('lb.example'), [], 'forgotten')
  t.equal(clock.pending, 0, 'and not asked for again')
})
