import t from 'tap'
import { HandshakeAdmission } from '../../src/proxy/admission.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

function recorder(limits: ConstructorParameters<typeof HandshakeAdmission>[0]) {
  const admission = new HandshakeAdmission(limits)
  const seen: string[] = []
  const enter = (name: string) =>
    admission.enter(
      () => seen.push(`start ${name}`),
      () => seen.push(`drop ${name}`),
    )
  return { admission, seen, enter }
}

t.test('so many in a turn, the newest first, the oldest of those waiting dropped', async (t) => {
  const { admission, seen, enter } = recorder({ inFlight: 9, perTurn: 2, waiting: 2 })
  const leave = ['a', 'b', 'c', 'd', 'e'].map(enter)
  t.same(seen, ['start a', 'start b', 'drop c'])
  t.same([admission.inFlight, admission.waiting], [2, 2])
  await turn()
  t.same(seen.slice(3), ['start e', 'start d'])
  for (const left of leave) left()
  for (const left of leave) left()
  t.same([admission.inFlight, admission.waiting], [0, 0], 'leaving twice is leaving once')
})

t.test('one that gives up waiting is forgotten', async (t) => {
  const { admission, seen, enter } = recorder({ inFlight: 9, perTurn: 1, waiting: 9 })
  const [a, b] = ['a', 'b'].map(enter)
  b?.()
  await turn()
  await turn()
  a?.()
  t.same(seen, ['start a'])
  t.same([admission.inFlight, admission.waiting], [0, 0])
})

t.test('too many in flight: the oldest makes room', async (t) => {
  const { admission, seen, enter } = recorder({ inFlight: 2, perTurn: 9, waiting: 9 })
  const leave = ['a', 'b', 'c'].map(enter)
  t.same(seen, ['start a', 'start b', 'drop a', 'start c'])
  for (const left of leave) left()
  t.equal(admission.inFlight, 0)
})
