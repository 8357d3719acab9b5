import t from 'tap'
import { Settling } from '../../src/objects/settling.ts'

t.test('a state counts once it has stayed the same for long enough', async (t) => {
  const settling = new Settling()
  const at = (ms: number, state: string): boolean => settling.settled('f', state, ms, 40, 400)
  t.strictSame([at(0, 'x'), at(39, 'x'), at(40, 'x')], [false, false, true])
  t.notOk(settling.pending, 'the answer forgets')
  t.strictSame([at(100, 'x'), at(139, 'y'), at(178, 'y'), at(179, 'y')], [false, false, false, true])
})

t.test('a file that never rests is taken in the end', async (t) => {
  const settling = new Settling()
  const taken = [0, 30, 60, 390, 400].map((ms) => settling.settled('f', `v${ms}`, ms, 40, 400))
  t.strictSame(taken, [false, false, false, false, true])
})

t.test('what is as it was before, or no longer looked at, is not pending', async (t) => {
  const settling = new Settling()
  for (const path of ['a', 'b', 'c']) settling.settled(path, 'x', 0, 40, 400)
  settling.forget('a')
  settling.retain(new Set(['c']))
  t.strictSame(
    ['a', 'b', 'c'].map((path) => settling.isWaiting(path)),
    [false, false, true],
  )
  t.ok(settling.pending)
})
