// Whose turn it is, and which rounds count.
import t from 'tap'
import { inTurn, type Round, Steadiness } from '../../bench/steadiness.ts'

/** Calibrations in order; the last stays. */
const calibrations = (values: readonly number[]): (() => Promise<number>) => {
  let next = 0
  return async () => values[Math.min(next++, values.length - 1)] ?? 0
}

/** Rounds that say how often they were done. */
function counted(names: readonly string[]): { readonly rounds: Round<string>[]; readonly done: string[] } {
  const done: string[] = []
  const rounds = names.map((name, index) => ({
    name,
    async measure() {
      done.push(`${name}${index}`)
      return `${name}${index} for the ${done.filter((each) => each === `${name}${index}`).length}.`
    },
  }))
  return { rounds, done }
}

t.test('rounds go forwards, backwards, and forwards again', async (t) => {
  const order = [0, 1, 2, 3].map((round) => inTurn(['a', 'b', 'c'], round).join(''))
  t.same(order, ['abc', 'cba', 'abc', 'cba'])
  // Each stands before each other as often as behind it, and as early in the sum.
  const places = (target: string): number => order.reduce((sum, round) => sum + round.indexOf(target), 0)
  t.equal(new Set(['a', 'b', 'c'].map(places)).size, 1)
})

t.test('a quiet machine: every round once', async (t) => {
  const steadiness = new Steadiness({ calibrate: calibrations([100, 101, 99, 103, 98]) })
  const { rounds, done } = counted(['a', 'a', 'a', 'a'])
  const { kept, discarded, unsteady } = await steadiness.measure(rounds, 4)
  t.same(done, ['a0', 'a1', 'a2', 'a3'])
  t.equal(kept.length, 4)
  t.same([discarded, unsteady], [0, 0])
})

t.test('a round that ran on a slower machine is done again, and what it said is forgotten', async (t) => {
  // Before the first, after each of five, and quiet from then on: the second and the third have the slow one at one end.
  const steadiness = new Steadiness({ calibrate: calibrations([100, 100, 120, 100, 100, 100]) })
  const { rounds, done } = counted(['a', 'a', 'a', 'a', 'a'])
  const { kept, discarded, unsteady } = await steadiness.measure(rounds, 5)
  t.same(done.slice(5).sort(), ['a1', 'a2'])
  t.same(kept, ['a0 for the 1.', 'a1 for the 2.', 'a2 for the 2.', 'a3 for the 1.', 'a4 for the 1.'])
  t.same([discarded, unsteady], [2, 0])
  t.equal(steadiness.rounds, 5)
})

t.test('a faster machine is as bad as a slower one', async (t) => {
  const steadiness = new Steadiness({ calibrate: calibrations([100, 100, 80, 80, 100, 100, 100]) })
  const { rounds } = counted(['a', 'a', 'a', 'a', 'a'])
  t.ok((await steadiness.measure(rounds, 5)).discarded > 0)
})

t.test('a round beside which somebody else used the machine is done again', async (t) => {
  // Asked before and after each round: somebody used a thousand seconds during the second.
  const used = [0, 0, 0, 1e9]
  let next = 0
  const steadiness = new Steadiness({
    calibrate: async () => 100,
    foreign: () => used[Math.min(next++, used.length - 1)] ?? 0,
  })
  const { rounds, done } = counted(['a', 'a', 'a', 'a'])
  const { kept, discarded } = await steadiness.measure(rounds, 4)
  t.equal(discarded, 1)
  t.equal(done.length, 5)
  t.equal(kept.length, 4)
})

t.test('repeats are bounded; what still deviates is left out', async (t) => {
  // The third and what follows it never comes to rest, the repeats neither.
  const steadiness = new Steadiness({
    calibrate: calibrations([100, 100, 100, 100, 100, 100, 130, 130, 200]),
  })
  const { rounds, done } = counted(['a', 'a', 'a', 'a', 'a', 'a'])
  const { kept, discarded, unsteady } = await steadiness.measure(rounds, 1)
  t.equal(done.length, 7)
  t.equal(kept.length, 5)
  t.same([discarded, unsteady], [2, 0])
})

t.test('half of the rounds of each kind are kept, however bad, and that is said', async (t) => {
  const wild = [100, 150, 70, 140, 60, 170, 80, 130, 90, 160, 50, 180]
  const steadiness = new Steadiness({ calibrate: calibrations([...wild, ...wild, ...wild]) })
  const { rounds } = counted(['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b'])
  const { kept, unsteady } = await steadiness.measure(rounds, 2)
  for (const name of ['a', 'b']) t.ok(kept.filter((value) => value.startsWith(name)).length >= 2, name)
  t.ok(unsteady > 0)
  t.equal(steadiness.unsteady, unsteady)
})
