// A random life of one client: what it asks, answers, leaves unanswered; what changes at the server meanwhile; when it reads, when
// it does not, and when it comes back. Every word goes past the oracle.
import fc from 'fast-check'
import type { AdsStream, AdsStreamOptions } from '../../src/xds/ads-stream.ts'
import type { Push, Variant, XdsRequest } from '../../src/xds/messages.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { byName, cluster, plain, request } from './fixtures.ts'
import { Oracle } from './oracle.ts'

/** What is checked: the stream's state machine, or a broken copy of it. */
export type Machine = Pick<AdsStream, 'request' | 'changed' | 'expire' | 'pull' | 'serve'>
export type Build = (options: AdsStreamOptions) => Machine

export const TYPES = [TYPE.cluster, TYPE.endpoints, TYPE.listener, TYPE.secret] as const
const NAMES = ['svc-a', 'svc-b', 'svc-c', 'svc-d'] as const
/** Two resources or so. */
const BUDGET = 300
const ACK_TIMEOUT_MS = 5_000

/** One service: versions of its cluster, endpoints, listener and secret; 0 is none. */
type Service = readonly [cluster: number, endpoints: number, listener: number, secret: number]
export type World = Readonly<Record<string, Service>>

interface Names {
  readonly add: readonly string[]
  readonly drop: readonly string[]
}

export type Op =
  | { readonly do: 'world'; readonly world: World }
  | { readonly do: 'ask' | 'stale'; readonly type: number; readonly names: Names }
  | {
      readonly do: 'answer'
      readonly type: number
      readonly error: string | undefined
      readonly names: Names
    }
  | { readonly do: 'pull'; readonly count: number }
  | { readonly do: 'time'; readonly ms: number }
  | { readonly do: 'reconnect' }

const service: fc.Arbitrary<Service> = fc.tuple(
  fc.integer({ min: 1, max: 2 }),
  fc.nat(2),
  fc.nat(2),
  fc.nat(2),
)
const world = fc.dictionary(fc.constantFrom(...NAMES), service, { maxKeys: 4, noNullPrototype: true })
const some = fc.uniqueArray(fc.constantFrom<string>(...NAMES, '*'), { maxLength: 3 })
const nothing: fc.Arbitrary<Names> = fc.constant({ add: [], drop: [] })
const names = fc.oneof(
  { weight: 3, arbitrary: nothing },
  fc.record({ add: some, drop: some }, { noNullPrototype: true }),
)
const errors = fc.oneof(
  { weight: 4, arbitrary: fc.constant(undefined) },
  fc.constant('something is bad'),
  fc.constantFrom(...NAMES).map((name) => `<${name}> is bad`),
)
const type = fc.nat(TYPES.length - 1)
const pull = fc.record(
  { do: fc.constant('pull' as const), count: fc.constantFrom(1, 2, 9) },
  { noNullPrototype: true },
)
const change = fc.record({ do: fc.constant('world' as const), world }, { noNullPrototype: true })

export const anyOps: fc.Arbitrary<readonly Op[]> = fc.array(
  fc.oneof<fc.MaybeWeightedArbitrary<Op>[]>(
    { weight: 3, arbitrary: change },
    { weight: 4, arbitrary: pull },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('answer' as const), type, error: errors, names }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('ask' as const), type, names }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('stale' as const), type, names }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('time' as const), ms: fc.constantFrom(100, 1_000, 6_000) }),
    },
    { weight: 1, arbitrary: fc.constant({ do: 'reconnect' as const }) },
  ),
  { maxLength: 60, size: 'max' },
)

/** A client that takes everything, as an Envoy does: what it has must never point to what it has not. */
export const goodOps: fc.Arbitrary<readonly Op[]> = fc
  .array(
    fc.oneof<fc.MaybeWeightedArbitrary<Op>[]>(
      { weight: 3, arbitrary: change },
      { weight: 4, arbitrary: pull },
      {
        weight: 5,
        arbitrary: fc.record({
          do: fc.constant('answer' as const),
          type,
          error: fc.constant(undefined),
          names: nothing,
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant('time' as const), ms: fc.constantFrom(100, 6_000) }),
      },
      { weight: 1, arbitrary: fc.constant({ do: 'reconnect' as const }) },
    ),
    { maxLength: 60, size: 'max' },
  )
  .map((ops) => [
    { do: 'ask', type: 0, names: { add: [], drop: [] } },
    { do: 'ask', type: 1, names: { add: [...NAMES], drop: [] } },
    { do: 'ask', type: 2, names: { add: [], drop: [] } },
    ...ops,
  ])

export interface HistoryOptions {
  readonly variant: Variant
  readonly build: Build
  /** See the option of the oracle. */
  readonly resumesNamed: boolean
  /** For `goodOps`: at no moment has the client a listener without its cluster. */
  readonly neverDangles: boolean
}

export class History {
  readonly #options: HistoryOptions
  readonly #variant: Variant
  readonly #cache = new SnapshotCache()
  /** What the client has in force, by type. */
  readonly #has = new Map<string, Map<string, string>>()
  readonly #unanswered = new Map<string, Push[]>()
  readonly #nonces = new Map<string, string>()
  /** Types of which the client explicitly asked for all. */
  readonly #saidStar = new Set<string>()
  /** SotW: types that were not answered since the last reconnect. */
  readonly #unheard = new Set<string>()
  #machine: Machine
  #oracle: Oracle
  #stop: () => void = () => {}
  #nowMs = 0
  #refusedOnce = false
  readonly log: string[] = []

  constructor(options: HistoryOptions) {
    this.#options = options
    this.#variant = options.variant
    ;[this.#machine, this.#oracle] = this.#open()
  }

  run(ops: readonly Op[]): void {
    for (const op of ops) {
      this.log.push(JSON.stringify(op))
      this.#apply(op)
    }
    this.#settle()
  }

  #apply(op: Op): void {
    const typeUrl = TYPES['type' in op ? op.type : 0] ?? TYPE.cluster
    if (op.do === 'world') this.#change(op.world)
    else if (op.do === 'pull') this.#pull(op.count)
    else if (op.do === 'time') {
      this.#nowMs += op.ms
      this.#machine.expire(this.#nowMs)
    } else if (op.do === 'ask')
      this.#ask(typeUrl, op.names, { responseNonce: this.#nonces.get(typeUrl) ?? '' })
    else if (op.do === 'stale') this.#ask(typeUrl, op.names, { responseNonce: 'older' })
    else if (op.do === 'answer') this.#answer(typeUrl, op.error, op.names)
    else this.#reconnect()
  }

  #change(world: World): void {
    const of = (index: number, make: (name: string, version: number) => XdsResource) =>
      byName(
        ...Object.entries(world).flatMap(([name, versions]) => {
          const version = versions[index] ?? 0
          return version === 0 ? [] : [make(name, version)]
        }),
      )
    const text = (typeUrl: string) => (name: string, version: number) => plain(name, `${version}`, typeUrl)
    this.#cache.set(
      new Map([
        [TYPE.cluster, of(0, cluster)],
        [TYPE.endpoints, of(1, text(TYPE.endpoints))],
        [TYPE.listener, of(2, text(TYPE.listener))],
        [TYPE.secret, of(3, text(TYPE.secret))],
      ]),
    )
  }

  /** `names` on top of what is wanted; the client forgets what it does not want any more. */
  #ask(typeUrl: string, { add, drop }: Names, fields: Partial<XdsRequest>): void {
    const before = this.#oracle.interest(typeUrl)
    const first = before === undefined
    const kept = [...(before?.names ?? []), ...(this.#saidStar.has(typeUrl) ? ['*'] : []), ...add]
    const all = [...new Set(kept)].filter((name) => !drop.includes(name))
    const said = this.#variant === 'sotw' ? { names: all } : { names: add, unsubscribe: first ? [] : drop }
    if (this.#variant === 'sotw' ? all.includes('*') : add.includes('*')) this.#saidStar.add(typeUrl)
    else if (this.#variant === 'sotw' || drop.includes('*')) this.#saidStar.delete(typeUrl)
    this.#send(request({ typeUrl, ...said, ...fields }))
  }

  #send(one: XdsRequest): void {
    this.#oracle.requested(one)
    this.#machine.request(one, this.#nowMs)
    const has = this.#has.get(one.typeUrl) ?? new Map()
    this.#has.set(one.typeUrl, has)
    for (const name of has.keys()) if (!this.#oracle.wants(one.typeUrl, name)) has.delete(name)
  }

  #answer(typeUrl: string, error: string | undefined, names: Names): boolean {
    const push = this.#unanswered.get(typeUrl)?.shift()
    if (push === undefined) return false
    this.#nonces.set(typeUrl, push.nonce)
    if (error !== undefined) this.#refusedOnce = true
    this.#ask(typeUrl, names, { responseNonce: push.nonce, errorDetail: error, versionInfo: push.version })
    return true
  }

  #pull(count: number): boolean {
    for (let n = 0; n < count; n++) {
      const push = this.#machine.pull(this.#nowMs)
      if (push === undefined) return n > 0
      const names = push.resources.map(({ name, version }) => `${name}@${version.slice(0, 4)}`)
      this.log.push(`  -> ${push.typeUrl.slice(-12)} ${push.nonce} [${names}] -[${push.removed}]`)
      this.#oracle.pushed(push, this.#nowMs)
      this.#take(push)
      this.#unanswered.set(push.typeUrl, [...(this.#unanswered.get(push.typeUrl) ?? []), push])
    }
    return true
  }

  /** In the order in which it comes, whenever the answer goes out. */
  #take({ typeUrl, resources, removed }: Push): void {
    const has = this.#has.get(typeUrl) ?? new Map<string, string>()
    if (this.#variant === 'sotw' && (typeUrl === TYPE.cluster || typeUrl === TYPE.listener)) has.clear()
    for (const { name, version } of resources) has.set(name, version)
    for (const name of removed) has.delete(name)
    this.#unheard.delete(typeUrl)
    // A SotW client that comes back does not say what it has: the server cannot take away its listeners before their clusters.
    if (!this.#options.neverDangles || this.#unheard.size > 0) return
    const clusters = this.#has.get(TYPE.cluster)
    for (const name of this.#has.get(TYPE.listener)?.keys() ?? [])
      if (!clusters?.has(name))
        throw new Error(`listener ${name} points to a cluster that the client has not`)
  }

  #reconnect(): void {
    const before = this.#oracle
    this.#unanswered.clear()
    this.#nonces.clear()
    this.#saidStar.clear()
    this.#stop()
    ;[this.#machine, this.#oracle] = this.#open()
    if (this.#variant === 'sotw')
      for (const typeUrl of [TYPE.cluster, TYPE.listener]) this.#unheard.add(typeUrl)
    for (const typeUrl of TYPES) {
      const interest = before.interest(typeUrl)
      if (interest === undefined) continue
      const legacy =
        interest.wildcard &&
        interest.names.length === 0 &&
        (typeUrl === TYPE.cluster || typeUrl === TYPE.listener)
      const star = interest.wildcard && !legacy
      // Who wants nothing of such a type has no way to say so in a first request; it says nothing.
      if (!interest.wildcard && interest.names.length === 0) {
        this.#has.delete(typeUrl)
        continue
      }
      if (star) this.#saidStar.add(typeUrl)
      const names = [...interest.names, ...(star ? ['*'] : [])]
      // After refusals the client itself does not know for sure: then it claims nothing.
      const initialVersions =
        this.#variant === 'delta' && !this.#refusedOnce ? new Map(this.#has.get(typeUrl)) : new Map()
      this.#send(request({ typeUrl, names, initialVersions, versionInfo: 'of another stream' }))
    }
  }

  #open(): [Machine, Oracle] {
    const budget = BUDGET
    const ackTimeoutMs = ACK_TIMEOUT_MS
    const of = (typeUrl: string) => this.#cache.current().get(typeUrl) ?? new Map<string, XdsResource>()
    const machine = this.#options.build({ variant: this.#variant, view: of, budget, ackTimeoutMs })
    if (this.#options.resumesNamed) machine.serve({ resumesNamed: true, ttl: false, resourceErrors: false })
    const oracle = new Oracle({
      variant: this.#variant,
      view: (typeUrl) => new Map([...of(typeUrl)].map(([name, { version }]) => [name, version])),
      budget,
      ackTimeoutMs,
      resumesNamed: this.#options.resumesNamed,
    })
    this.#stop = this.#cache.watch((changes) => {
      for (const [typeUrl, names] of changes) {
        machine.changed(typeUrl, names)
        for (const name of names) oracle.changed(typeUrl, name)
      }
    })
    return [machine, oracle]
  }

  /** The client reads all and takes all, until nothing comes; time is not what is waited for. */
  #settle(): void {
    this.log.push('settle')
    const none = { add: [], drop: [] }
    for (let round = 0; ; round++) {
      if (round > 200) throw new Error('it never comes to rest')
      const pulled = this.#pull(99)
      const answered = TYPES.filter((typeUrl) => this.#answer(typeUrl, undefined, none)).length > 0
      if (pulled || answered) continue
      const next = this.#machine.expire(this.#nowMs)
      if (next === undefined) break
      this.#nowMs = next
      this.#machine.expire(next)
    }
    this.#oracle.quiet()
    if (!this.#refusedOnce) this.#compare()
  }

  /** A client that took all has exactly what it wants and what there is. */
  #compare(): void {
    for (const typeUrl of TYPES) {
      if (this.#oracle.interest(typeUrl) === undefined) continue
      const has = this.#has.get(typeUrl) ?? new Map<string, string>()
      const view = this.#cache.current().get(typeUrl) ?? new Map<string, XdsResource>()
      for (const [name, { version }] of view)
        if (this.#oracle.wants(typeUrl, name) && has.get(name) !== version)
          throw new Error(`${typeUrl} ${name} is not what it should be`)
      const stays = this.#variant === 'sotw' && typeUrl !== TYPE.cluster && typeUrl !== TYPE.listener
      for (const name of has.keys())
        if (!view.has(name) && !stays) throw new Error(`${typeUrl} ${name} leaks`)
    }
  }
}
