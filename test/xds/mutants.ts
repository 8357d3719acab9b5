// The mistakes of home-made servers, each put on top of the real state machine: what the checker is checked with.
import { AdsStream, type AdsStreamOptions } from '../../src/xds/ads-stream.ts'
import type { ClientTraits } from '../../src/xds/client-traits.ts'
import type { Push, XdsRequest } from '../../src/xds/messages.ts'
import { TYPE } from '../../src/xds/types.ts'
import type { Build, Machine } from './history.ts'

const WHOLE: ReadonlySet<string> = new Set([TYPE.listener, TYPE.cluster])

/** Passes everything on; each mutant overrides what it gets wrong. */
class Faithful implements Machine {
  protected readonly inner: AdsStream
  protected readonly options: AdsStreamOptions
  protected readonly last = new Map<string, Push>()

  constructor(options: AdsStreamOptions) {
    this.options = options
    this.inner = new AdsStream(options)
  }

  request(one: XdsRequest, nowMs: number) {
    return this.inner.request(one, nowMs)
  }

  changed(typeUrl: string, names: ReadonlySet<string>): void {
    this.inner.changed(typeUrl, names)
  }

  expire(nowMs: number) {
    return this.inner.expire(nowMs)
  }

  pull(nowMs: number): Push | undefined {
    const push = this.inner.pull(nowMs)
    if (push !== undefined) this.last.set(push.typeUrl, push)
    return push
  }

  serve(traits: ClientTraits): void {
    this.inner.serve(traits)
  }
}

class StaleNonceIgnored extends Faithful {
  override request(one: XdsRequest, nowMs: number) {
    const nonce = this.last.get(one.typeUrl)?.nonce ?? ''
    if (one.responseNonce !== '' && one.responseNonce !== nonce) return 'stale'
    return super.request(one, nowMs)
  }
}

/** The names of a request that answers a response are not looked at. */
class NamesIgnored extends Faithful {
  readonly #of: 'ack' | 'nack'
  readonly #names = new Map<string, readonly string[]>()

  constructor(options: AdsStreamOptions, of: 'ack' | 'nack') {
    super(options)
    this.#of = of
  }

  override request(one: XdsRequest, nowMs: number) {
    const answers = one.responseNonce !== '' && one.responseNonce === this.last.get(one.typeUrl)?.nonce
    if (!answers || (one.errorDetail === undefined) !== (this.#of === 'ack')) {
      this.#names.set(one.typeUrl, one.names)
      return super.request(one, nowMs)
    }
    const names = this.options.variant === 'sotw' ? (this.#names.get(one.typeUrl) ?? []) : []
    return super.request({ ...one, names, unsubscribe: [] }, nowMs)
  }
}

class InitialVersionsIgnored extends Faithful {
  override request(one: XdsRequest, nowMs: number) {
    return super.request({ ...one, initialVersions: new Map() }, nowMs)
  }
}

/** Its clusters do not look as if they waited for endpoints. */
class NoEndpointsAfterClusters extends Faithful {
  constructor(options: AdsStreamOptions) {
    const view = (typeUrl: string) => {
      const resources = options.view(typeUrl)
      if (typeUrl !== TYPE.cluster) return resources
      return new Map([...resources].map(([name, one]) => [name, { ...one, body: Buffer.alloc(0) }]))
    }
    super({ ...options, view })
  }
}

class RefusedSentAgain extends Faithful {
  #again: Push | undefined
  #count = 0

  override request(one: XdsRequest, nowMs: number) {
    const verdict = super.request(one, nowMs)
    if (verdict === 'nack') this.#again = this.last.get(one.typeUrl)
    return verdict
  }

  override pull(nowMs: number): Push | undefined {
    const again = this.#again
    this.#again = undefined
    return again === undefined ? super.pull(nowMs) : { ...again, nonce: `again ${this.#count++}` }
  }
}

/** What changes while an answer is awaited is lost. */
class ChangeInFlightLost extends Faithful {
  readonly #waiting = new Set<string>()

  override request(one: XdsRequest, nowMs: number) {
    if (one.responseNonce === this.last.get(one.typeUrl)?.nonce) this.#waiting.delete(one.typeUrl)
    return super.request(one, nowMs)
  }

  override changed(typeUrl: string, names: ReadonlySet<string>): void {
    if (!this.#waiting.has(typeUrl)) super.changed(typeUrl, names)
  }

  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    if (push !== undefined) this.#waiting.add(push.typeUrl)
    return push
  }
}

/** Takes what is not in a response for gone. */
class RemovalFromPartialPush extends Faithful {
  readonly #sent = new Map<string, Set<string>>()

  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    if (push === undefined || this.options.variant === 'sotw') return push
    const sent = this.#sent.get(push.typeUrl) ?? new Set()
    this.#sent.set(push.typeUrl, sent)
    const now = new Set(push.resources.map(({ name }) => name))
    const removed = [...new Set([...push.removed, ...[...sent].filter((name) => !now.has(name))])]
    for (const name of now) sent.add(name)
    return { ...push, removed }
  }
}

/** SotW: a complete state with only what is new in it. */
class PartialState extends Faithful {
  readonly #sent = new Map<string, string>()

  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    if (push === undefined || this.options.variant === 'delta' || !WHOLE.has(push.typeUrl)) return push
    const news = push.resources.filter(({ name, version }) => this.#sent.get(push.typeUrl + name) !== version)
    for (const { name, version } of news) this.#sent.set(push.typeUrl + name, version)
    return { ...push, resources: news }
  }
}

class OneNonceForAll extends Faithful {
  override request(one: XdsRequest, nowMs: number) {
    const real = this.last.get(one.typeUrl)?.nonce ?? ''
    return super.request(
      { ...one, responseNonce: one.responseNonce === 'n' ? real : one.responseNonce },
      nowMs,
    )
  }

  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    return push && { ...push, nonce: 'n' }
  }
}

/** Does not wait for any answer. */
class AnswersNotAwaited extends Faithful {
  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    if (push === undefined) return undefined
    const { typeUrl, nonce } = push
    const names = this.options.variant === 'sotw' ? this.#names.get(typeUrl) : []
    const empty = {
      node: undefined,
      versionInfo: '',
      unsubscribe: [],
      initialVersions: new Map(),
      errorDetail: undefined,
    }
    super.request({ ...empty, typeUrl, names: names ?? [], responseNonce: nonce }, nowMs)
    return push
  }

  readonly #names = new Map<string, readonly string[]>()

  override request(one: XdsRequest, nowMs: number) {
    this.#names.set(one.typeUrl, one.names)
    return super.request(one, nowMs)
  }
}

/** What is unchanged since it was last sent is not sent to who asks for it again. */
class ResubscriptionUnanswered extends Faithful {
  readonly #sent = new Map<string, string>()

  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    if (push === undefined || (WHOLE.has(push.typeUrl) && this.options.variant === 'sotw')) return push
    const news = push.resources.filter(({ name, version }) => this.#sent.get(push.typeUrl + name) !== version)
    for (const { name, version } of news) this.#sent.set(push.typeUrl + name, version)
    return { ...push, resources: news }
  }
}

class NotFoundNotSaid extends Faithful {
  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    return push && { ...push, removed: [] }
  }
}

/** What does not exist when it is asked for is not watched for. */
class WatchLost extends Faithful {
  readonly #unknown = new Set<string>()

  override request(one: XdsRequest, nowMs: number) {
    for (const name of one.names) {
      const key = one.typeUrl + name
      if (this.options.view(one.typeUrl).has(name)) this.#unknown.delete(key)
      else this.#unknown.add(key)
    }
    return super.request(one, nowMs)
  }

  override changed(typeUrl: string, names: ReadonlySet<string>): void {
    super.changed(typeUrl, new Set([...names].filter((name) => !this.#unknown.has(typeUrl + name))))
  }
}

class EmptyNotSaid extends Faithful {
  override pull(nowMs: number): Push | undefined {
    const push = super.pull(nowMs)
    return push !== undefined && push.resources.length + push.removed.length === 0 ? super.pull(nowMs) : push
  }
}

class EmptyMeansAll extends Faithful {
  override request(one: XdsRequest, nowMs: number) {
    const all = one.names.length === 0 && !WHOLE.has(one.typeUrl) && one.responseNonce === ''
    return super.request(all ? { ...one, names: ['*'] } : one, nowMs)
  }
}

/** Listeners before clusters. */
class OrderTurned extends Faithful {
  readonly #queue: Push[] = []

  override pull(nowMs: number): Push | undefined {
    for (let push = super.pull(nowMs); push !== undefined; push = super.pull(nowMs)) this.#queue.unshift(push)
    return this.#queue.shift()
  }
}

export const MUTANTS: Readonly<Record<string, Build>> = {
  'a request with a stale nonce is dropped, names and all': (options) => new StaleNonceIgnored(options),
  'an ACK whose names differ is taken for a pure ACK': (options) => new NamesIgnored(options, 'ack'),
  'a NACK whose names differ is taken for a pure NACK': (options) => new NamesIgnored(options, 'nack'),
  'initial_resource_versions are ignored': (options) => new InitialVersionsIgnored(options),
  'endpoints do not follow their cluster': (options) => new NoEndpointsAfterClusters(options),
  'what was refused is sent again': (options) => new RefusedSentAgain(options),
  'a change is lost while an answer is awaited': (options) => new ChangeInFlightLost(options),
  'removals are computed from a partial push': (options) => new RemovalFromPartialPush(options),
  'a complete state is not complete': (options) => new PartialState(options),
  'a nonce is used twice': (options) => new OneNonceForAll(options),
  'responses do not wait for answers': (options) => new AnswersNotAwaited(options),
  'a name that is wanted again is not sent again': (options) => new ResubscriptionUnanswered(options),
  'what does not exist is not said': (options) => new NotFoundNotSaid(options),
  'what does not exist yet is not watched for': (options) => new WatchLost(options),
  'an empty state is not said': (options) => new EmptyNotSaid(options),
  'an empty first request for endpoints means all': (options) => new EmptyMeansAll(options),
  'listeners go out before their clusters': (options) => new OrderTurned(options),
  'responses are not split': (options) => new AdsStream({ ...options, budget: 1_000_000 }),
}
