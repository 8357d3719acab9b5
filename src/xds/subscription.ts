// What one stream knows of one type: what the client wants, what it was sent, what it refused. A pure state machine: events
// in (a request, a change of the view), pushes out (pulled when the wire is free); no clock, no socket. Rules: xds_protocol.rst.

import { FullState } from './full-state.ts'
import { GONE, Holdings, UNKNOWN } from './holdings.ts'
import { Interest, WILDCARD } from './interest.ts'
import type { Push, XdsRequest } from './messages.ts'
import { sharedSet } from './name-lists.ts'
import { type Progress, progressOf } from './progress.ts'
import { encodedSize, mapVersion } from './resource.ts'
import type {
  Phase,
  PushLimits,
  Refused,
  Sent,
  SubscriptionRules,
  SubscriptionStatus,
  Verdict,
  View,
} from './subscription-rules.ts'
import type { XdsResource } from './types.ts'
import { wholeOf } from './whole.ts'

const NOBODY: readonly string[] = []

export class Subscription {
  readonly rules: SubscriptionRules
  readonly #interest: Interest
  readonly #state: FullState | undefined
  readonly #has: Holdings
  readonly #dirty = new Set<string>()
  readonly #forced = new Set<string>()
  readonly #refused = new Map<string, Refused>()
  /** Delta: everything that is wanted is to be sent, asked for by name or not, and none of it is in the sets above. */
  #whole: 'asked' | 'all' | undefined
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
    this.#has = new Holdings(this.#interest)
    this.#state = rules.variant === 'sotw' && rules.wholeState ? new FullState() : undefined
  }

  /** A response is on its way and neither ACKed nor refused: nothing more is sent until then. */
  get awaiting(): boolean {
    return this.#outstanding !== undefined
  }

  /** Something that must be sent again waits for the client's answer to something else. */
  get behind(): boolean {
    return this.awaiting && (this.#forced.size > 0 || this.#whole === 'asked')
  }

  /** Nothing is on its way, and nothing waits to be sent. */
  get settled(): boolean {
    return !this.awaiting && this.#dirty.size === 0 && !this.#owed && this.#whole === undefined
  }

  get size(): Interest['size'] {
    return this.#interest.size
  }

  status(): SubscriptionStatus {
    return {
      sentVersion: this.#sentVersion,
      ackedVersion: this.#ackedVersion,
      nackedVersion: this.#nackedVersion,
      lastError: this.#lastError,
      refusing: this.#state?.refusing ?? this.#refused.size > 0,
      subscribed: this.#interest.wildcard ? '*' : this.#interest.names.size,
    }
  }

  /** How far each resource has come that the client wants, and that exists or was asked for by name. */
  *progress(view: View): Iterable<Progress> {
    const unanswered = this.#outstanding ?? this.#late
    const sent = new Set(unanswered?.upserts.map(({ name }) => name))
    for (const name of new Set([...this.#interest.names, ...(this.#interest.wildcard ? view.keys() : [])])) {
      const resource = view.get(name)
      if (resource === undefined) yield { name, resource, progress: 'missing', error: '' }
      else if (this.#state !== undefined) {
        const progress = this.#state.progress(resource, unanswered !== undefined)
        yield { name, resource, progress, error: progress === 'nacked' ? this.#lastError : '' }
      } else yield progressOf(resource, this.#has.get(name), this.#refused.get(name), sent.has(name))
    }
  }

  /** Takes a request: its verdict first, then its names, which count whatever the nonce (even stale, even with an error). */
  request(request: XdsRequest, view: View): Verdict {
    const first = !this.#started
    this.#started = true
    const verdict = first ? 'none' : this.#settle(request)
    // The view's own strings, where it has them: a thousand clients then share one copy of each name.
    const isShared = sharedSet(request.names) !== undefined
    const names = isShared ? request.names : request.names.map((name) => view.get(name)?.name ?? name)
    if (names.length + request.unsubscribe.length > 0) this.#spellOut(view)
    this.#widen(names)
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
      for (const name of [...this.#has.names(), ...this.#dirty, ...this.#refused.keys()])
        if (!this.#interest.covers(name)) this.#forget(name)
    }
    if (change.wildcard === 'off' || change.dropped.length > 0) this.#state?.forget(this.#interest)
    if (change.wildcard === 'on') this.#owed = true
    if (first && this.#beginsWhole(change.asked)) return verdict
    if (change.wildcard === 'on') for (const name of view.keys()) this.#dirty.add(name)
    for (const name of change.asked) {
      this.#dirty.add(name)
      this.#refused.delete(name)
      const resumed =
        first && this.rules.resumesNamed && this.#has.get(name) === (view.get(name)?.version ?? GONE)
      if (!resumed) this.#forced.add(name)
    }
    return verdict
  }

  /** What was not wanted until now was not told, whatever those in step have. */
  #widen(names: readonly string[]): void {
    if (this.#has.empty || this.#interest.wildcard) return
    if (names.includes(WILDCARD)) this.#has.part()
    for (const name of names) if (!this.#interest.covers(name)) this.#has.delete(name)
  }

  /** A new client of which nothing is known: what it wants is what everybody in its place does. */
  #beginsWhole(asked: readonly string[]): boolean {
    const { wildcard, names } = this.#interest
    const isPlain = wildcard ? names.size === 0 : names.size > 0 && names.size === asked.length
    if (this.rules.variant !== 'delta' || !isPlain || !this.#has.empty || this.#dirty.size > 0) return false
    this.#whole = wildcard ? 'all' : 'asked'
    return true
  }

  /** Something else came between: what is to be sent is noted by name. */
  #spellOut(view: View): void {
    const whole = this.#whole
    this.#whole = undefined
    if (whole === undefined) return
    for (const name of whole === 'all' ? view.keys() : this.#interest.names) {
      this.#dirty.add(name)
      if (whole === 'asked') this.#forced.add(name)
    }
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
    if (this.#outstanding !== undefined) return undefined
    if (this.#dirty.size === 0 && !this.#owed && this.#whole === undefined) return undefined
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

  /** The first response to a new client; the rest, if there is more, is noted by name. */
  #nextWhole(view: View, limits: PushLimits) {
    const names = this.#whole === 'asked' ? this.#interest.names : undefined
    const [first, ...more] = wholeOf(view, names, limits.budget)
    for (const { resources, removed } of more) {
      for (const name of [...resources.map((one) => one.name), ...removed]) {
        this.#dirty.add(name)
        if (names !== undefined) this.#forced.add(name)
      }
    }
    this.#whole = undefined
    const { resources = [], removed = [] } = first ?? {}
    const version = mapVersion(view)
    if (more.length === 0) this.#has.inStepWith(view)
    this.#send(limits.nonce, version, resources, removed, more.length === 0)
    return { ...this.#envelope(limits.nonce, version, view), resources, removed, fresh: resources }
  }

  #nextNamed(phase: Phase, view: View, limits: PushLimits) {
    if (this.#dirty.size === 0 && this.#whole !== undefined && phase === 'make')
      return this.#nextWhole(view, limits)
    this.#spellOut(view)
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
        const has = this.#has.get(name)
        if (sayable && (forced || (has !== undefined && has !== GONE))) {
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
    if (this.#dirty.size === 0 && this.#refused.size === 0) this.#has.inStepWith(view)
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

  /** `inStep`: the holdings know already. */
  #send(
    nonce: string,
    version: string,
    resources: readonly XdsResource[],
    removed: readonly string[],
    inStep = false,
  ): void {
    if (this.#state === undefined && !inStep) {
      for (const { name, version } of resources) {
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
    const upserts = this.#state === undefined ? resources : []
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
    if (this.#refused.size === 0) return
    for (const name of [...sent.upserts.map((one) => one.name), ...sent.removed]) {
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
    const versions = new Map(sent.upserts.map(({ name, version }) => [name, version]))
    const names = [...versions.keys()]
    const blamed = names.filter((name) => message.includes(name))
    const mates = blamed.length === 0 && names.length > 1 ? names : NOBODY
    for (const name of blamed.length === 0 ? names : blamed) {
      const version = versions.get(name) ?? ''
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
