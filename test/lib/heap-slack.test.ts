import { mock } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import t from 'tap'
import { heapGrowingPercent, keepHeapSlack } from '../../src/lib/heap-slack.ts'

const MB = 1_048_576

t.test('a small heap may grow by 64 MiB, a large one as V8 likes', async (t) => {
  t.equal(heapGrowingPercent(32 * MB), 200)
  t.equal(heapGrowingPercent(64 * MB), 100)
  t.equal(heapGrowingPercent(1 * MB), 400)
  t.equal(heapGrowingPercent(1_024 * MB), 0)
})

t.test('the flag follows the heap, and V8 takes it', async (t) => {
  const flags: string[] = []
  const v8 = {
    getHeapStatistics: () => ({ used_heap_size: (flags.length + 1) * 32 * MB }),
    setFlagsFromString: (flag: string) => {
      setFlagsFromString(flag)
      flags.push(flag)
    },
  }
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  keepHeapSlack(v8)
  t.same(flags, ['--heap-growing-percent=200'])
  mock.timers.tick(1_000)
  t.equal(flags.length, 1, 'the least of the last seconds counts: the rest may be garbage')
  mock.timers.tick(10_000)
  t.same(flags, ['--heap-growing-percent=200', '--heap-growing-percent=100'])
  setFlagsFromString('--heap-growing-percent=0')
})
