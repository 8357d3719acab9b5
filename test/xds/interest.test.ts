import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Interest } from '../../src/xds/interest.ts'

/** The model of go-control-plane's subscription.go, in the plainest form: what is wanted after a history of requests. */
class Oracle {
  wildcard: boolean
  legacy: boolean
  names = new Set<string>()

  constructor(legacyAllowed: boolean, firstIsEmpty: boolean) {
    this.legacy = legacyAllowed
    this.wildcard = legacyAllowed && firstIsEmpty
  }

  replace(names: readonly string[]) {
    if (this.legacy && names.length === 0) return
    this.legacy = false
    this.wildcard = names.includes('*')
    this.names = new Set(names.filter((name) => name !== '*'))
  }

  update(subscribe: readonly string[], unsubscribe: readonly string[]) {
    for (const name of subscribe) {
      if (name === '*') this.wildcard = true
      else this.names.add(name)
    }
    for (const name of unsubscribe) {
      if (name === '*') this.wildcard = false
      else this.names.delete(name)
    }
  }
}

const name = fc.constantFrom('*', 'a', 'b', 'c')
const names = fc.uniqueArray(name, { maxLength: 3 })

t.test('what is wanted follows the model, SotW', async (t) => {
  fc.assert(
    fc.property(fc.boolean(), fc.array(names, { minLength: 1, maxLength: 8 }), (legacy, history) => {
      const interest = new Interest(legacy)
      const oracle = new Oracle(legacy, history[0]?.length === 0)
      for (const wanted of history) {
        const before = { wildcard: interest.wildcard, names: new Set(interest.names) }
        const change = interest.replace(wanted)
        oracle.replace(wanted)
        assert.equal(interest.wildcard, oracle.wildcard)
        assert.deepEqual([...interest.names].sort(), [...oracle.names].sort())
        assert.deepEqual(
          [...change.asked].sort(),
          [...oracle.names].filter((one) => !before.names.has(one)).sort(),
        )
        assert.equal(
          change.wildcard,
          before.wildcard === oracle.wildcard ? 'same' : oracle.wildcard ? 'on' : 'off',
        )
        for (const one of change.dropped) assert.ok(!interest.covers(one))
      }
    }),
    { seed: 1, numRuns: 300 },
  )
  t.pass()
})

t.test('what is wanted follows the model, Delta', async (t) => {
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(fc.tuple(names, names), { minLength: 1, maxLength: 8 }),
      (legacy, history) => {
        const interest = new Interest(legacy)
        const oracle = new Oracle(legacy, history[0]?.[0].length === 0)
        for (const [subscribe, unsubscribe] of history) {
          const change = interest.update(subscribe, unsubscribe)
          oracle.update(subscribe, unsubscribe)
          assert.equal(interest.wildcard, oracle.wildcard)
          assert.deepEqual([...interest.names].sort(), [...oracle.names].sort())
          for (const one of subscribe)
            if (one !== '*' && interest.covers(one))
              assert.ok(change.asked.includes(one), 'every name in subscribe is answered')
          for (const one of change.dropped) assert.ok(!interest.covers(one))
        }
      },
    ),
    { seed: 2, numRuns: 300 },
  )
  t.pass()
})

t.test('how long the names are together is known at any time', async (t) => {
  const some = fc.array(fc.string({ maxLength: 6 }), { maxLength: 6 })
  fc.assert(
    fc.property(fc.boolean(), fc.array(fc.tuple(some, some), { maxLength: 8 }), (sotw, steps) => {
      const interest = new Interest(true)
      for (const [add, drop] of steps) {
        if (sotw) interest.replace(add)
        else interest.update(add, drop)
        const length = [...interest.names].reduce((sum, name) => sum + name.length, 0)
        assert.deepEqual(interest.size, { names: interest.names.size, length })
      }
    }),
    { seed: 41, numRuns: 300 },
  )
  t.pass()
})

t.test('the examples of the specification', async (t) => {
  const sotw = new Interest(true)
  t.equal(sotw.replace([]).wildcard, 'on', 'an empty first request is the legacy wildcard')
  t.equal(sotw.replace([]).wildcard, 'same', 'and stays it')
  t.match(sotw.replace(['*', 'a']), { asked: ['a'], wildcard: 'same' })
  t.match(sotw.replace(['a']), { wildcard: 'off' }, '"*" and "A", then "A" drops the wildcard')
  t.match(sotw.replace([]), { dropped: ['a'] }, 'after a name, empty means nothing')
  t.notOk(sotw.covers('a'))

  const delta = new Interest(true)
  delta.update([], [])
  t.equal(delta.update(['a'], []).wildcard, 'same', 'a name after the legacy wildcard keeps the wildcard')
  t.match(
    delta.update([], ['a']),
    { asked: ['a'], dropped: [] },
    'a name under the wildcard is answered when it goes',
  )
  t.match(delta.update([], ['x']), { asked: [], dropped: [] }, 'what was never named cannot go')
  t.equal(delta.update([], ['*']).wildcard, 'off')

  const nothing = new Interest(true)
  t.match(
    nothing.update(['*'], ['*']),
    { wildcard: 'same' },
    'Istio: subscribe and unsubscribe "*" is nothing yet',
  )
  t.notOk(nothing.covers('a'))
  const named = new Interest(false)
  t.equal(named.replace([]).wildcard, 'same', 'an empty first request for EDS wants nothing')
})
