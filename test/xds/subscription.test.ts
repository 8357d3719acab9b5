// Random histories of view changes, requests, ACKs, NACKs, reconnects, against a client that believes the specification.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Push, Variant, XdsRequest } from '../../src/xds/messages.ts'
import { Subscription } from '../../src/xds/subscription.ts'
import type { View } from '../../src/xds/subscription-rules.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { plain, request } from './fixtures.ts'

const TYPE_URL = 'type.example/T'
const NAMES = ['n1', 'n2', 'n3', 'n4']

type Step =
  | { readonly do: 'set'; readonly name: string; readonly content: string }
  | { readonly do: 'delete'; readonly name: string }
  | { readonly do: 'want'; readonly name: string; readonly on: boolean }
  | { readonly do: 'pull' }
  | { readonly do: 'answer' }
  | { readonly do: 'reconnect' }

const nameArb = fc.constantFrom(...NAMES)
const stepArb: fc.Arbitrary<Step> = fc.oneof(
  // Content that starts with "bad" is refused by the client.
  fc.record({
    do: fc.constant('set' as const),
    name: nameArb,
    content: fc.constantFrom('1', '2', '3', 'bad1', 'bad2'),
  }),
  fc.record({ do: fc.constant('delete' as const), name: nameArb }),
  fc.record({ do: fc.constant('want' as const), name: fc.constantFrom('*', ...NAMES), on: fc.boolean() }),
  fc.record({ do: fc.constant('pull' as const) }),
  fc.record({ do: fc.constant('answer' as const) }),
  fc.record({ do: fc.constant('reconnect' as const) }),
)

/** One client and one server half, joined by hand; the client takes the good part of a response and names the bad. */
class Pair {
  readonly #variant: Variant
  readonly #wholeState: boolean
  subscription: Subscription
  view = new Map<string, XdsResource>()
  readonly held = new Map<string, XdsResource>()
  readonly wanted = new Set<string>()
  pending: Push | undefined
  /** name@version that were refused and neither asked for nor changed since. */
  readonly refused = new Set<string>()
  #nonce = 0
  sent: Push[] = []

  constructor(variant: Variant, wholeState: boolean) {
    this.#variant = variant
    this.#wholeState = wholeState
    this.subscription = this.#open()
  }

  #open(): Subscription {
    return new Subscription({
      typeUrl: TYPE_URL,
      variant: this.#variant,
      wholeState: this.#wholeState,
      resumesNamed: true,
      tellsNotFound: false,
    })
  }

  #request(fields: Partial<XdsRequest>): void {
    const names = this.#variant === 'sotw' ? { names: [...this.wanted] } : {}
    this.subscription.request(request({ typeUrl: TYPE_URL, ...names, ...fields }), this.view)
  }

  covers(name: string): boolean {
    return this.wanted.has('*') || this.wanted.has(name)
  }

  /** A first request with nothing in it would be the legacy wildcard; these clients speak the explicit one. */
  start(): void {
    this.pending = undefined
    this.subscription = this.#open()
    const initialVersions = new Map([...this.held].map(([name, one]) => [name, one.version]))
    const names = [...this.wanted]
    if (this.#variant === 'sotw') this.#request({})
    else if (names.length > 0) this.#request({ names, initialVersions })
    else this.#request({ names: ['*'], unsubscribe: ['*'] })
  }

  apply(step: Step): void {
    if (step.do === 'set') this.#change(step.name, plain(step.name, step.content))
    else if (step.do === 'delete') this.#change(step.name, undefined)
    else if (step.do === 'want') this.#want(step.name, step.on)
    else if (step.do === 'pull') this.pull()
    else if (step.do === 'answer') this.answer()
    else {
      this.refused.clear()
      this.start()
    }
  }

  #change(name: string, resource: XdsResource | undefined): void {
    const before = this.view.get(name)
    if (before?.version === resource?.version) return
    this.view = new Map(this.view)
    if (resource === undefined) this.view.delete(name)
    else this.view.set(name, resource)
    for (const key of this.refused) if (key.startsWith(`${name}@`)) this.refused.delete(key)
    this.subscription.changed([name])
  }

  #want(name: string, on: boolean): void {
    if (this.wanted.has(name) === on) return
    if (on) this.wanted.add(name)
    else this.wanted.delete(name)
    for (const held of [...this.held.keys()]) if (!this.covers(held)) this.held.delete(held)
    this.refused.clear()
    if (this.#variant === 'sotw') this.#request({ responseNonce: 'stale' })
    else this.#request(on ? { names: [name] } : { unsubscribe: [name] })
  }

  pull(): boolean {
    const limits = { nonce: String(++this.#nonce), budget: 200 }
    const push =
      this.subscription.next('make', this.view, limits) ?? this.subscription.next('break', this.view, limits)
    if (push === undefined) return false
    assert.equal(this.pending, undefined, 'one response at a time')
    this.pending = push
    this.sent.push(push)
    if (!this.#full)
      for (const one of push.resources)
        assert.ok(
          !this.refused.has(`${one.name}@${one.version}`),
          'what was refused is not sent again unchanged',
        )
    const names = [...push.resources.map((one) => one.name), ...push.removed]
    assert.equal(new Set(names).size, names.length, 'no name twice')
    return true
  }

  get #full(): boolean {
    return this.#variant === 'sotw' && this.#wholeState
  }

  answer(): void {
    const push = this.pending
    if (push === undefined) return
    this.pending = undefined
    const bad: string[] = []
    if (this.#full)
      for (const name of [...this.held.keys()])
        if (!push.resources.some((one) => one.name === name)) this.held.delete(name)
    for (const one of push.resources) {
      if (!this.covers(one.name)) continue
      if (Buffer.from(one.body).toString().includes('bad')) {
        bad.push(one.name)
        this.refused.add(`${one.name}@${one.version}`)
      } else this.held.set(one.name, one)
    }
    for (const name of push.removed) this.held.delete(name)
    const errorDetail = bad.length > 0 ? `refused: ${bad.join(', ')}` : undefined
    this.#request({ responseNonce: push.nonce, errorDetail })
  }

  settle(): void {
    for (let turns = 0; turns < 50; turns++) {
      this.answer()
      if (!this.pull()) return
    }
    assert.fail('never comes to rest')
  }
}

const isBad = (one: XdsResource) => Buffer.from(one.body).toString().includes('bad')

function check(pair: Pair, deletes: boolean): void {
  for (const name of NAMES) {
    const there: XdsResource | undefined = (pair.view as View).get(name)
    const held = pair.held.get(name)
    if (!pair.covers(name)) assert.equal(held, undefined)
    else if (there === undefined) {
      if (deletes) assert.equal(held, undefined, `${name} was deleted and the client knows`)
    } else if (!isBad(there)) assert.equal(held?.version, there.version, `${name} has reached the client`)
  }
}

for (const { variant, wholeState } of [
  { variant: 'delta', wholeState: true },
  { variant: 'delta', wholeState: false },
  { variant: 'sotw', wholeState: true },
  { variant: 'sotw', wholeState: false },
] as const) {
  t.test(
    `${variant}, ${wholeState ? 'complete state' : 'by name'}: whatever happens, the client ends with the view`,
    async (t) => {
      fc.assert(
        fc.property(fc.array(stepArb, { maxLength: 40 }), (steps) => {
          const pair = new Pair(variant, wholeState)
          pair.wanted.add(wholeState ? '*' : 'n1')
          pair.start()
          for (const step of steps) pair.apply(step)
          pair.settle()
          check(pair, variant === 'delta' || wholeState)
          const before = pair.sent.length
          pair.settle()
          assert.equal(pair.sent.length, before, 'and then there is silence')
        }),
        { seed: 3, numRuns: 1_000 },
      )
      t.pass()
    },
  )
}

t.test('Delta: a reconnect with versions sends only the difference', async (t) => {
  fc.assert(
    fc.property(
      fc.array(stepArb, { maxLength: 20 }),
      fc.array(stepArb, { maxLength: 6 }),
      (history, away) => {
        const pair = new Pair('delta', true)
        pair.wanted.add('*')
        pair.start()
        for (const step of history) if (step.do === 'set' || step.do === 'delete') pair.apply(step)
        pair.settle()
        const had = new Map(pair.held)
        for (const step of away) if (step.do === 'set' || step.do === 'delete') pair.apply(step)
        pair.sent = []
        pair.refused.clear()
        pair.start()
        pair.settle()
        const different = [...pair.view.values()].filter((one) => had.get(one.name)?.version !== one.version)
        const gone = [...had.keys()].filter((name) => !pair.view.has(name))
        assert.deepEqual(
          pair.sent.flatMap((one) => one.resources.map((r) => r.name)).sort(),
          different.map((r) => r.name).sort(),
        )
        assert.deepEqual(pair.sent.flatMap((one) => one.removed).sort(), gone.sort())
      },
    ),
    { seed: 4, numRuns: 300 },
  )
  t.pass()
})

t.test('a batch that is refused whole without a name loses nobody for good', async (t) => {
  const subscription = new Subscription({
    typeUrl: TYPE_URL,
    variant: 'delta',
    wholeState: true,
    resumesNamed: true,
    tellsNotFound: false,
  })
  let view = new Map([plain('a', '1'), plain('b', 'bad')].map((one) => [one.name, one]))
  let nonce = 0
  const pull = () => subscription.next('make', view, { nonce: String(++nonce), budget: 10_000 })
  const names = (push: Push | undefined) => push?.resources.map((one) => one.name)
  subscription.request(request({ typeUrl: TYPE_URL }), view)
  t.same(names(pull()), ['a', 'b'])
  t.equal(
    subscription.request(request({ typeUrl: TYPE_URL, responseNonce: '1', errorDetail: 'no' }), view),
    'nack',
  )
  t.equal(pull(), undefined, 'not again unchanged')
  view = new Map(view).set('b', plain('b', '2'))
  subscription.changed(['b'])
  t.same(names(pull()), ['b'], 'the corrected one alone')
  subscription.request(request({ typeUrl: TYPE_URL, responseNonce: String(nonce) }), view)
  t.same(names(pull()), ['a'], 'it was the culprit: the other gets its second chance')
  subscription.request(request({ typeUrl: TYPE_URL, responseNonce: String(nonce) }), view)
  t.equal(pull(), undefined)
})

t.test(
  'content that reverts to what was good is sent, since nobody knows what the client runs on',
  async (t) => {
    for (const variant of ['sotw', 'delta'] as const) {
      const subscription = new Subscription({
        typeUrl: TYPE_URL,
        variant,
        wholeState: true,
        resumesNamed: false,
        tellsNotFound: false,
      })
      const good = new Map([['a', plain('a', '1')]])
      const bad = new Map([['a', plain('a', 'bad')]])
      subscription.request(request({ typeUrl: TYPE_URL }), good)
      t.ok(subscription.next('make', good, { nonce: '1', budget: 1_000 }))
      subscription.request(request({ typeUrl: TYPE_URL, responseNonce: '1' }), good)
      subscription.changed(['a'])
      t.ok(subscription.next('make', bad, { nonce: '2', budget: 1_000 }))
      subscription.request(request({ typeUrl: TYPE_URL, responseNonce: '2', errorDetail: 'a is bad' }), bad)
      subscription.changed(['a'])
      t.equal(subscription.next('make', bad, { nonce: '3', budget: 1_000 }), undefined)
      subscription.changed(['a'])
      t.match(subscription.next('make', good, { nonce: '3', budget: 1_000 })?.resources, [{ name: 'a' }])
      t.match(subscription.status(), { nackedVersion: /./, lastError: 'a is bad' })
    }
  },
)
