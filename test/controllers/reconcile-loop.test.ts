import t from 'tap'
import { isSubset } from '../../src/controllers/manifest.ts'
import { ReconcileLoop } from '../../src/controllers/reconcile-loop.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'

const noop = (_count: number) => () => {}

t.test('passes never overlap; triggers during one make one more', async (t) => {
  let running = 0
  let most = 0
  let passes = 0
  const loop = new ReconcileLoop({
    name: 'test',
    logger: silentLogger,
    run: async () => {
      most = Math.max(most, ++running)
      if (passes++ === 0) for (let i = 0; i < 3; i++) loop.trigger()
      await new Promise((resolve) => setImmediate(resolve))
      running--
    },
  })
  loop.trigger()
  loop.trigger()
  await loop.idle()
  t.strictSame([most, passes], [1, 2])
  await loop.stop()
  loop.trigger()
  await loop.idle()
  t.equal(passes, 2, 'none begins after stop')
})

t.test('a failed pass is tried again', async (t) => {
  const timers: (() => void)[] = []
  const clock: Clock = { now: () => 0, after: (_ms, callback) => noop(timers.push(callback)) }
  let passes = 0
  const loop = new ReconcileLoop({
    name: 'test',
    logger: silentLogger,
    clock,
    run: async () => {
      if (++passes === 1) throw new Error('disk full')
    },
  })
  loop.trigger()
  await loop.idle()
  t.strictSame([passes, timers.length], [1, 1])
  timers[0]?.()
  await loop.idle()
  t.strictSame([passes, timers.length], [2, 1])
})

t.test('what a server fills in makes no difference', async (t) => {
  t.ok(isSubset({ a: 1, b: [{ c: 2 }] }, { a: 1, b: [{ c: 2, d: 3 }], status: {} }))
  for (const found of [{ a: 2 }, {}, null, [], { a: { b: 1 } }]) t.notOk(isSubset({ a: 1 }, found))
  t.notOk(isSubset({ a: [1] }, { a: [1, 2] }), 'a list is compared whole')
  t.notOk(isSubset({ toString: 'x' }, {}), 'inherited members are none')
})
