// What one stream knows of one type: what the client wants, what it was sent, what it refused. A pure state machine: events
// in (a request, a change of the view), pushes out (pulled when the wire is free); no clock, no socket. Rules: xds_protocol.rst.

import { FullState } from './full-state.ts'
import { Interest } from './interest.ts'
import type { Push, Variant, XdsRequest } from './messages.ts'
import type { Progress } from './progress.ts'
import { mapVersion } from './resource.ts'
import type { XdsResource } from './types.ts'

export type View = ReadonlyMap<string, XdsResource>

/** Additions and changes first (`make`), removals once nothing refers to what goes (`break`). */
export type Phase = 'make' | 'break'

/** What a request said about the last response. */
export type Verdict = 'ack' | 'nack' | 'stale' | 'none'

export interface SubscriptionRules {
  readonly typeUrl: string
  readonly variant: Variant
  /** LDS, CDS and types of our own: an empty first request wants all, and a SotW response is the complete state. */
  readonly wholeState: boolean
  /**
   * On reconnect, names whose version the client still has are not sent again. Only for clients that keep named resources over
   * a reconnect: an Envoy whose EDS is skipped stands with empty hosts (envoy issues 22418, 31535). Wildcards always resume.
   */
  readonly resumesNamed: boolean
  /** SotW: says what was asked for and does not exist (`resource_errors`). */
  readonly tellsNotFound: boolean
}

export interface SubscriptionStatus {
  readonly sentVersion: string
  readonly ackedVersion: string
  readonly nackedVersion: string
  /** The last refusal's text; kept after later ACKs. */
  readonly lastError: string
  readonly subscribed: number | '*'
}

export interface PushLimits {
  readonly nonce: string
  /** A response that can be split is no longer than this, bytes, unless a single resource is. */
  readonly budget: number
}

interface Sent {
  readonly nonce: string
  readonly version: string
  readonly upserts: ReadonlyMap<string, string>
  readonly removed: readonly string[]
}

/** A resource the client refused. Its mates were refused with it, without anyone being named. */
interface Refused {
  /** Not to be said again; undefined once something else was said. */
  readonly version: string | undefined
  readonly mates: readonly string[]
  /** What the client said about it. */
  readonly error: string
}

/** The client was told that the name does not exist. */
const GONE = Symbol('gone')
/** The client may have anything: it refused the last one. Equals no version. */
const UNKNOWN = Symbol('unknown')

const NOBODY: readonly string[] = []

export class Subscription {
  readonly rules: SubscriptionRules
  readonly #interest: Interest
  readonly #state: FullState | undefined
  readonly #has = new Map<string, string | typeof GONE | typeof UNKNOWN>()
  readonly #dirty = new Set<string>()
  readonly #forced = new Set<string>()
  readonly #refused = new Map<string, Refused>()
  #owed = false
  /** A SotW client came back with a state of its own, of which it did not say what is in it. */
  #claims = false
  #started = false
  #outstanding: Sent | undefined
  /** Sent long ago and never answered: it stands in nobody's way any more, but a late answer still counts. */
  #late: Sent | undefined
  #lastNonce = ''
  #sentVersion = ''
  #ackedVersion = ''
  #nackedVersion = ''
  #lastError = ''

  constructor(rules: SubscriptionRules) {
    this.rules = rules
    this.#interest = new Interest(rules.wholeState)
    this.#state = rules.variant === 'sotw' && rules.wholeState ? new FullState() : undefined
  }

  /** A response is on its way and neither ACKed nor refused: nothing more is sent until then. */
  get awaiting(): boolean {
    return this.#outstanding !== undefined
  }

  /** Something that must be sent again waits for the client's answer to something else. */
  get behind(): boolean {
    return this.awaiting && this.#forced.size > 0
  }

  /** Nothing is on its way, and nothing waits to be sent. */
  get settled(): boolean {
    return !this.awaiting && this.#dirty.size === 0 && !this.#owed
  }

  get size(): number {
    return this.#interest.names.size
  }

  status(): SubscriptionStatus {
    return {
      sentVersion: this.#sentVersion,
      ackedVersion: this.#ackedVersion,
      nackedVersion: this.#nackedVersion,
      lastError: this.#lastError,
      subscribed: this.#interest.wildcard ? '*' : this.#interest.names.size,
    }
  }

  /** How far each resource has come that the client wants, and that exists or was asked for by name. */
  *progress(view: View): Iterable<Progress> {
    const unanswered = this.#outstanding ?? this.#late
    for (const name of new Set([...this.#interest.names, ...(this.#interest.wildcard ? view.keys() : [])])) {
      const resource = view.get(name)
      const refused = this.#refused.get(name)
      const has = this.#has.get(name)
      if (resource === undefined) yield { name, resource, progress: 'missing', error: '' }
      else if (this.#state !== undefined) {
        const progress = this.#state.progress(resource, unanswered !== undefined)
        yield { name, resource, progress, error: progress === 'nacked' ? this.#lastError : '' }
      } else if (refused?.version === resource.version)
        yield { name, resource, progress: 'nacked', error: refused.error }
      else if (has === undefined || has === GONE) yield { name, resource, progress: 'unsent', error: '' }
      else {
        const answered = has === resource.version && unanswered?.upserts.has(name) !== true
        yield { name, resource, progress: answered ? 'acked' : 'pending', error: '' }
      }
    }
  }

  /** Takes a request: its verdict first, then its names, which count whatever the nonce (even stale, even with an error). */
  request(request: XdsRequest, view: View): Verdict {
    const first = !this.#started
    this.#started = true
    const verdict = first ? 'none' : this.#settle(request)
    // The view's own strings, where it has them: a thousand clients then share one copy of each name.
    const names = request.names.map((name) => view.get(name)?.name ?? name)
    const change =
      this.rules.variant === 'sotw'
        ? this.#interest.replace(names)
        : this.#interest.update(names, request.unsubscribe)
    if (first) this.#resume(request.initialVersions)
    // What it names may be gone, and only the complete state can say so, be it empty.
    if (first && this.#state !== undefined && request.versionInfo !== '') this.#owed = this.#claims = true
    for (const name of change.dropped) this.#forget(name)
    if (change.wildcard === 'off') {
      this.#owed = this.#claims
      for (const name of [...this.#has.keys(), ...this.#dirty, ...this.#refused.keys()])
        if (!this.#interest.covers(name)) this.#forget(name)
    }
    if (change.wildcard === 'off' || change.dropped.length > 0) this.#state?.forget(this.#interest)
    if (change.wildcard === 'on') {
      this.#owed = true
      for (const name of view.keys()) this.#dirty.add(name)
    }
    for (const name of change.asked) {
      this.#dirty.add(name)
      this.#refused.delete(name)
      const resumed =
        first && this.rules.resumesNamed && this.#has.get(name) === (view.get(name)?.version ?? GONE)
      if (!resumed) this.#forced.add(name)
    }
    return verdict
  }

  /** The view changed at these names. */
  changed(names: Iterable<string>): void {
    for (const name of names) if (this.#interest.covers(name)) this.#dirty.add(name)
  }

  /** Who wants all is to get a response, although no resource changed. */
  owe(): void {
    if (this.#interest.wildcard) this.#owed = true
  }

  /** These names are to be sent again, changed or not, if they are wanted. */
  force(names: Iterable<string>): void {
    for (const name of names) {
      if (!this.#interest.covers(name)) continue
      this.#dirty.add(name)
      this.#forced.add(name)
    }
  }

  /** The client had long enough to answer: stop waiting for it. */
  release(): void {
    this.#late = this.#outstanding
    this.#outstanding = undefined
  }

  /** The next response, or undefined when nothing is to be said in this phase or an answer is awaited. */
  next(
    phase: Phase,
    view: View,
    limits: PushLimits,
  ): (Push & { readonly fresh: readonly XdsResource[] }) | undefined {
    if (this.#outstanding !== undefined || (this.#dirty.size === 0 && !this.#owed)) return undefined
    if (this.#state === undefined) return this.#nextNamed(phase, view, limits)
    const notFound = this.rules.tellsNotFound ? [...this.#forced].filter((name) => !view.has(name)) : NOBODY
    const owed = this.#owed || notFound.length > 0 || [...this.#forced].some((name) => view.has(name))
    const answer = this.#state.next(phase, view, this.#interest, this.#dirty, owed)
    if (answer === undefined) return undefined
    // Whoever asked is answered, by absence too; who asked for what was not there is once it is.
    this.#forced.clear()
    this.#send(limits.nonce, answer.version, answer.resources, NOBODY)
    return {
      ...this.#envelope(limits.nonce, answer.version, view),
      resources: answer.resources,
      removed: NOBODY,
      fresh: answer.fresh,
      ...(notFound.length > 0 && { notFound }),
    }
  }

  #nextNamed(phase: Phase, view: View, limits: PushLimits) {
    const resources: XdsResource[] = []
    const removed: string[] = []
    const notFound: string[] = []
    let bytes = 0
    for (const name of this.#dirty) {
      const resource = view.get(name)
      const size = resource === undefined ? name.length + 4 : encodedSize(resource)
      if (bytes > 0 && bytes + size > limits.budget) break
      const forced = this.#forced.has(name)
      if (resource === undefined) {
        // SotW has no word for it: stay silent, and send it when it appears. Delta: at once to who asks, else last of all.
        const sayable = this.rules.variant === 'delta'
        if (sayable && !forced && phase === 'make') continue
        if (sayable && (forced || (this.#has.has(name) && this.#has.get(name) !== GONE))) {
          removed.push(name)
          bytes += size
        }
        if (!sayable) {
          if (forced && this.rules.tellsNotFound) notFound.push(name)
          this.#has.delete(name)
          this.#refused.delete(name)
        }
      } else if (forced || this.#lacks(resource)) {
        resources.push(resource)
        bytes += size
      }
      this.#dirty.delete(name)
      this.#forced.delete(name)
    }
    const count = resources.length + removed.length + notFound.length
    if (count === 0 && !(this.#owed && phase === 'make')) return undefined
    const version = mapVersion(view)
    this.#send(limits.nonce, version, resources, removed)
    const said = { resources, removed, ...(notFound.length > 0 && { notFound }) }
    return { ...this.#envelope(limits.nonce, version, view), ...said, fresh: resources }
  }

  /** What the client took and has to be kept alive, in a response of its own; undefined when there is nothing (any more). */
  heartbeat(view: View, nonce: string): Push | undefined {
    const heartbeats = [...view.values()].filter(
      ({ name, version, ttlMs }) => ttlMs !== undefined && this.#has.get(name) === version,
    )
    if (heartbeats.length === 0) return undefined
    const version = mapVersion(view)
    this.#send(nonce, version, [], NOBODY)
    return { ...this.#envelope(nonce, version, view), resources: [], removed: NOBODY, heartbeats }
  }

  #lacks(resource: XdsResource): boolean {
    return (
      this.#has.get(resource.name) !== resource.version &&
      this.#refused.get(resource.name)?.version !== resource.version
    )
  }

  #envelope(nonce: string, version: string, view: View) {
    return { typeUrl: this.rules.typeUrl, nonce, version, view }
  }

  #send(nonce: string, version: string, resources: readonly XdsResource[], removed: readonly string[]): void {
    const upserts = new Map<string, string>()
    if (this.#state === undefined) {
      for (const { name, version } of resources) {
        upserts.set(name, version)
        this.#has.set(name, version)
        this.#supersede(name)
      }
    }
    for (const name of removed) {
      this.#supersede(name)
      if (this.#interest.names.has(name)) this.#has.set(name, GONE)
      else this.#has.delete(name)
    }
    this.#owed = this.#claims = false
    this.#outstanding = { nonce, version, upserts, removed }
    this.#late = undefined
    this.#sentVersion = version
  }

  /** A refusal is about what was said last. Who was refused with it still waits for its fate. */
  #supersede(name: string): void {
    const refused = this.#refused.get(name)
    if (refused !== undefined) this.#refused.set(name, { ...refused, version: undefined })
  }

  /** What the client says about the response that it names. */
  #settle(request: XdsRequest): Verdict {
    const nonce = request.responseNonce
    const sent = [this.#outstanding, this.#late].find((one) => one !== undefined && one.nonce === nonce)
    // Some clients repeat the nonce, and the error with it, on every later request of the type.
    if (sent === undefined) return nonce === '' || nonce === this.#lastNonce ? 'none' : 'stale'
    this.#lastNonce = nonce
    if (sent === this.#outstanding) this.#outstanding = undefined
    this.#late = undefined
    if (request.errorDetail === undefined) this.#accepted(sent)
    else this.#rejected(sent, request.errorDetail)
    return request.errorDetail === undefined ? 'ack' : 'nack'
  }

  #accepted(sent: Sent): void {
    this.#ackedVersion = sent.version
    for (const name of [...sent.upserts.keys(), ...sent.removed]) {
      const refused = this.#refused.get(name)
      this.#refused.delete(name)
      // It may have been the culprit of a batch that was refused whole: its mates get their second chance now.
      for (const mate of refused?.mates ?? NOBODY) {
        if (this.#refused.get(mate)?.mates !== refused?.mates) continue
        this.#refused.delete(mate)
        this.#dirty.add(mate)
      }
    }
  }

  /**
   * Refused: not sent again until its content changes; if it reverts to what was good, that is sent, since what the client runs
   * on is unknown. An Envoy names the bad Cluster or Listener and takes the others, or names none and takes none.
   */
  #rejected(sent: Sent, message: string): void {
    this.#nackedVersion = sent.version
    this.#lastError = message
    this.#state?.rejected(sent.version)
    const names = [...sent.upserts.keys()]
    const blamed = names.filter((name) => message.includes(name))
    const mates = blamed.length === 0 && names.length > 1 ? names : NOBODY
    for (const name of blamed.length === 0 ? names : blamed) {
      const version = sent.upserts.get(name) ?? ''
      if (this.#has.get(name) !== version) continue
      this.#has.set(name, UNKNOWN)
      this.#refused.set(name, { version, mates, error: message })
    }
  }

  #resume(initialVersions: ReadonlyMap<string, string>): void {
    for (const [name, version] of initialVersions) {
      if (!this.#interest.covers(name)) continue
      this.#has.set(name, version)
      this.#dirty.add(name)
    }
  }

  #forget(name: string): void {
    this.#has.delete(name)
    this.#dirty.delete(name)
    this.#forced.delete(name)
    this.#refused.delete(name)
  }
}

/** At most so many bytes in a Delta response; less in SotW. Names are ASCII, and lengths take up to five bytes. */
function encodedSize({ name, version, anyTypeUrl, body }: XdsResource): number {
  return name.length + version.length + anyTypeUrl.length + body.length + 32
}
