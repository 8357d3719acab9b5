import { Socket } from 'node:net'
import t from 'tap'
import { passOnGathered, RecordGatherer } from '../../src/proxy/record-gatherer.ts'

/** What a sink was given, each time, as one character and how often it stands there. */
function gatherer(): {
  readonly take: (letter: string, length: number) => boolean
  readonly given: string[]
} {
  const given: string[] = []
  const one = new RecordGatherer(new Socket(), {
    take(chunk) {
      given.push(
        chunk.toString('latin1').replace(/(.)\1*/g, (run, letter: string) => `${letter}${run.length} `),
      )
      return true
    },
  })
  return { given, take: (letter, length) => one.take(Buffer.alloc(length, letter)) }
}

t.test(
  'a record for which there is no room left waits for what came before it, and loses nothing',
  async (t) => {
    const { take, given } = gatherer()
    for (const letter of 'abc') t.ok(take(letter, 16_384))
    t.same(given, [])
    take('d', 20_000)
    t.same(given, ['a16384 b16384 c16384 ', 'd20000 '])
    take('e', 100_000)
    t.same(given.slice(2), ['e100000 '])
  },
)

t.test('records of two connections are never put together', async (t) => {
  const [one, other] = [gatherer(), gatherer()]
  one.take('a', 16_384)
  other.take('b', 16_384)
  t.same([one.given, other.given], [['a16384 '], []])
  one.take('c', 16_384)
  t.same(other.given, ['b16384 '])
  one.take('d', 5)
  t.same(one.given, ['a16384 ', 'c16384 d5 '])
  passOnGathered()
  t.same([one.given.length, other.given.length], [2, 1])
})
