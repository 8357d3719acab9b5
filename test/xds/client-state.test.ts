// The client's half against the server's, message by message, in any order that the wire allows.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { AdsStream } from '../../src/xds/ads-stream.ts'
import { ClientType, type Wanted } from '../../src/xds/client-state.ts'
import type { Variant, XdsRequest, XdsResponse } from '../../src/xds/messages.ts'
import { isWholeState } from '../../src/xds/type-rules.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { NODE, plain } from './fixtures.ts'

const NAMES = ['a', 'b', 'c']

type Step =
  | { readonly do: 'set'; readonly name: string; readonly content: string }
  | { readonly do: 'delete'; readonly name: string }
  | { readonly do: 'want'; readonly wanted: Wanted }
  | { readonly do: 'to server' | 'to client' | 'reconnect' }

const name = fc.constantFrom(...NAMES)
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('set' as const), name, content: fc.constantFrom('1', '2', 'bad') }),
  fc.record({ do: fc.constant('delete' as const), name }),
  fc.record({
    do: fc.constant('want' as const),
    wanted: fc.oneof(fc.constant('*' as const), fc.uniqueArray(name, { minLength: 1 })),
  }),
  fc.record({ do: fc.constantFrom('to server' as const, 'to client' as const, 'reconnect' as const) }),
)

class Wire {
  readonly #variant: Variant
  readonly client: ClientType
  wanted: Wanted = '*'
  view = new Map<string, XdsResource>()
  #stream: AdsStream
  #up: XdsRequest[] = []
  #down: XdsResponse[] = []

  constructor(variant: Variant, typeUrl: string) {
    this.#variant = variant
    this.client = new ClientType(typeUrl, variant, isWholeState(typeUrl), new Map())
    this.client.want('*')
    this.#stream = this.#open()
  }

  #open(): AdsStream {
    this.#up = []
    this.#down = []
    this.#stream = new AdsStream({ variant: this.#variant, view: () => this.view })
    this.#stream.serve({ resumesNamed: true, ttl: false, resourceErrors: false })
    this.client.opened()
    this.#say()
    return this.#stream
  }

  #say(): void {
    const request = this.client.request(NODE)
    if (request !== undefined) this.#up.push(request)
  }

  apply(one: Step): void {
    if (one.do === 'set') this.#change(one.name, plain(one.name, one.content))
    else if (one.do === 'delete') this.#change(one.name, undefined)
    else if (one.do === 'want') {
      this.wanted = one.wanted
      this.client.want(one.wanted)
      this.#say()
    } else if (one.do === 'to server') this.#toServer()
    else if (one.do === 'to client') this.#toClient()
    else this.#open()
  }

  #change(name: string, resource: XdsResource | undefined): void {
    this.view = new Map(this.view)
    if (resource === undefined) this.view.delete(name)
    else this.view.set(name, resource)
    this.#stream.changed(this.client.typeUrl, new Set([name]))
  }

  #nowMs = 0

  #toServer(): boolean {
    const request = this.#up.shift()
    // Long enough after each other that no refusal is waited for.
    this.#nowMs += 10_000
    if (request !== undefined) this.#stream.request(request, this.#nowMs)
    this.#nowMs += 10_000
    for (let push = this.#stream.pull(this.#nowMs); push !== undefined; push = this.#stream.pull(this.#nowMs))
      this.#down.push({ ...push, identifier: '' })
    return request !== undefined
  }

  #toClient(): boolean {
    const response = this.#down.shift()
    if (response === undefined) return false
    const update = this.client.update(response)
    const isBad = (one: XdsResource) => Buffer.from(one.body).toString().endsWith('bad')
    const bad = update.upserted.filter(isBad).map((one) => one.name)
    this.client.accept(update, (name) => bad.includes(name))
    this.#up.push(this.client.answer(response, bad.length === 0 ? undefined : `refused ${bad.join(' ')}`))
    return true
  }

  settle(): void {
    for (let turn = 0; turn < 200; turn++) {
      const moved = [this.#toServer(), this.#toClient()]
      if (!moved.includes(true) && this.#down.length === 0) return
    }
    assert.fail('never comes to rest')
  }
}

for (const variant of ['delta', 'sotw'] as const) {
  for (const typeUrl of [TYPE.cluster, TYPE.secret]) {
    t.test(`${variant}, ${typeUrl}: both halves end with the same`, async (t) => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
          const wire = new Wire(variant, typeUrl)
          for (const one of steps) wire.apply(one)
          wire.settle()
          for (const name of NAMES) {
            const there = wire.view.get(name)
            const version = wire.client.versions.get(name)
            if (wire.wanted !== '*' && !wire.wanted.includes(name)) assert.equal(version, undefined)
            else if (there === undefined) {
              // SotW has no word for the removal of what is wanted by name.
              if (variant === 'delta' || isWholeState(typeUrl))
                assert.equal(version, undefined, `${name} is gone`)
            } else if (!Buffer.from(there.body).toString().endsWith('bad'))
              assert.equal(version, there.version, name)
            else assert.notEqual(version, there.version, `${name} was refused`)
          }
        }),
        { seed: 10, numRuns: 1_000 },
      )
      t.pass()
    })
  }
}

t.test('after a refusal, a return to the form that is in force is news', async (t) => {
  for (const variant of ['sotw', 'delta'] as const) {
    const client = new ClientType(TYPE.secret, variant, false, new Map())
    client.want(['a'])
    const receive = (content: string, bad = false): string[] => {
      const resource = { ...plain('a', content) }
      const update = client.update({
        typeUrl: TYPE.secret,
        version: '',
        nonce: '',
        identifier: '',
        resources: [resource],
        removed: [],
      })
      client.accept(update, () => bad)
      return update.upserted.map(({ name: upserted }) => upserted)
    }
    t.same(receive('1'), ['a'])
    t.same(receive('2', true), ['a'])
    t.same(receive('1'), ['a'], 'the receiver may forget what was wrong')
    t.same(receive('1'), variant === 'sotw' ? [] : ['a'])
  }
})
