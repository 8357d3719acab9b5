import t from 'tap'
import { inSlices } from '../../src/lib/slices.ts'

/** A clock that a step moves on, and pauses that are counted. */
function world(stepMs: number) {
  let time = 0
  const log: string[] = []
  return {
    log,
    step: (item: number) => {
      time += stepMs
      log.push(String(item))
    },
    options: {
      sliceMs: 3,
      now: () => time,
      pause: (resume: () => void) => {
        log.push('pause')
        // Whatever others do meanwhile is not counted as ours.
        time += 100
        setImmediate(resume)
      },
    },
  }
}

t.test('steps in order, with a pause whenever a slice is used up', async (t) => {
  const { log, step, options } = world(1)
  await inSlices([1, 2, 3, 4, 5, 6, 7], step, options)
  t.same(log, ['1', '2', '3', 'pause', '4', '5', '6', 'pause', '7'])
})

t.test('a step that is longer than a slice is alone in it; none is cut', async (t) => {
  const { log, step, options } = world(10)
  await inSlices([1, 2], step, options)
  t.same(log, ['1', 'pause', '2'])
})

t.test('what fits into one slice needs no turn of the event loop', async (t) => {
  const done: number[] = []
  const all = inSlices([1, 2], (item) => void done.push(item))
  t.same(done, [1, 2])
  await all
})

t.test('a step that throws ends it', async (t) => {
  const done: number[] = []
  const step = (item: number) => {
    if (item === 2) throw new Error('no')
    done.push(item)
  }
  await t.rejects(inSlices([1, 2, 3], step), { message: 'no' })
  t.same(done, [1])
})
