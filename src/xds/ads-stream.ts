// One stream: the subscriptions of all its types, and the order between them. Pure as they are: events in, and `pull()` says
// what goes out next, so that what waits for a slow client is one decision, not a queue, and the latest content wins.
//
// Make before break: CDS, EDS, SDS, LDS, RDS, NDS, others; then removals, in the order in which nothing refers to what goes.
// LDS, RDS and NDS wait for the answer to CDS, because an Envoy holds that answer while a cluster warms; EDS and SDS must not
// wait for it, because they are what the cluster warms with.
import type { ClientTraits } from './client-traits.ts'
import { endpointsOf } from './endpoints-of.ts'
import { nonceOf } from './frames.ts'
import { Heartbeats } from './heartbeats.ts'
import type { Push, Variant, XdsRequest } from './messages.ts'
import { NackDamping } from './nack-damping.ts'
import type { Progress } from './progress.ts'
import { Subscription } from './subscription.ts'
import type { SubscriptionStatus, Verdict, View } from './subscription-rules.ts'
import { BREAK_ORDER, byMakeOrder, isWholeState, NEVER_ANSWERED, WAITS_FOR_CLUSTERS } from './type-rules.ts'
import { TYPE } from './types.ts'

export interface AdsStreamOptions {
  readonly variant: Variant
  /** What the client may see of a type. Called at each pull: the latest content is sent, whatever was pending. */
  readonly view: (typeUrl: string) => View
  /** A Delta response or a SotW response of a named type is cut at this size, bytes; default 3 MiB (gRPC clients take 4). */
  readonly budget?: number
  /** How long an unanswered response may hold back the next, milliseconds; default 5,000. */
  readonly ackTimeoutMs?: number
}

export interface TypeStatus extends SubscriptionStatus {
  /** Nothing is on its way, and nothing waits to be sent. */
  readonly settled: boolean
  /** How long the oldest response that is not answered has waited, milliseconds; 0: none. */
  readonly lagMs: number
}

export class AdsStream {
  readonly #options: AdsStreamOptions
  readonly #budget: number
  readonly #ackTimeoutMs: number
  readonly #subscriptions = new Map<string, Subscription>()
  readonly #deadlines = new Map<string, number>()
  /** The subscriptions in the order in which additions go out. */
  #ordered: readonly Subscription[] = []
  /** Since when a response of the type has waited for its answer. */
  readonly #unansweredMs = new Map<string, number>()
  /** When something of the type was refused last. */
  readonly #refusedMs = new Map<string, number>()
  readonly #damping = new NackDamping()
  readonly #heartbeats = new Heartbeats()
  #traits: ClientTraits = { resumesNamed: false, ttl: false, resourceErrors: false }
  #nonce = 0

  constructor(options: AdsStreamOptions) {
    this.#options = options
    this.#budget = options.budget ?? 3 * 1024 * 1024 - 64 * 1024
    this.#ackTimeoutMs = options.ackTimeoutMs ?? 5_000
  }

  /** What the client can do. Before its first request; until then it can do nothing special. */
  serve(traits: ClientTraits): void {
    this.#traits = traits
  }

  request(request: XdsRequest, nowMs: number): Verdict {
    const { typeUrl } = request
    if (typeUrl === NEVER_ANSWERED) return 'none'
    const subscription = this.#subscription(typeUrl)
    const verdict = subscription.request(request, this.#options.view(typeUrl))
    if (!subscription.awaiting) this.#deadlines.delete(typeUrl)
    if (!subscription.awaiting && verdict !== 'none') this.#unansweredMs.delete(typeUrl)
    if (verdict === 'ack') this.#damping.accepted(typeUrl)
    if (verdict === 'nack') {
      this.#damping.refused(typeUrl, nowMs)
      this.#refusedMs.set(typeUrl, nowMs)
    }
    return verdict
  }

  /** These resources of the type's view are others now, or gone. No name: only the view's identifier is another. */
  changed(typeUrl: string, names: ReadonlySet<string>): void {
    const subscription = this.#subscriptions.get(typeUrl)
    if (names.size === 0) subscription?.owe()
    else subscription?.changed(names)
  }

  /** Gives up waiting for answers that are overdue. Returns when to call again and to pull (milliseconds, same clock), if ever. */
  expire(nowMs: number): number | undefined {
    let next = earlier(this.#damping.nextMs(nowMs), this.#heartbeats.nextMs(nowMs))
    for (const [typeUrl, deadline] of this.#deadlines) {
      if (deadline <= nowMs) {
        this.#subscriptions.get(typeUrl)?.release()
        this.#deadlines.delete(typeUrl)
      } else next = earlier(next, deadline)
    }
    return next
  }

  /** The next response to write, or undefined: call again after the next event. */
  pull(nowMs: number): Push | undefined {
    return this.#pullContent(nowMs) ?? this.#pullHeartbeat(nowMs)
  }

  #pullContent(nowMs: number): Push | undefined {
    let held = false
    for (const subscription of this.#ordered) {
      const { typeUrl } = subscription.rules
      if (WAITS_FOR_CLUSTERS.has(typeUrl) && this.#clustersBusy(typeUrl, nowMs)) held = true
      else {
        const push = this.#next(subscription, 'make', nowMs)
        if (push !== undefined) return push
      }
    }
    // Types that stand in no order are never held back by the others.
    for (const subscription of this.#subscriptions.values()) {
      if (BREAK_ORDER.includes(subscription.rules.typeUrl)) continue
      const push = this.#next(subscription, 'break', nowMs)
      if (push !== undefined) return push
    }
    if (held) return undefined
    for (const typeUrl of BREAK_ORDER) {
      const subscription = this.#subscriptions.get(typeUrl)
      if (subscription === undefined) continue
      const push = this.#next(subscription, 'break', nowMs)
      if (push !== undefined) return push
      if (subscription.awaiting) return undefined
    }
    return undefined
  }

  /** How many types, and how many names in all, the client has asked for; and how long these are together (UTF-16 units). */
  size(): { readonly types: number; readonly names: number; readonly nameLength: number } {
    let names = 0
    let nameLength = 0
    for (const { size } of this.#subscriptions.values()) {
      names += size.names
      nameLength += size.length
    }
    return { types: this.#subscriptions.size, names, nameLength }
  }

  status(nowMs: number): Readonly<Record<string, TypeStatus>> {
    const types = [...this.#subscriptions].map(([typeUrl, one]): [string, TypeStatus] => {
      const lagMs = Math.max(0, nowMs - (this.#unansweredMs.get(typeUrl) ?? nowMs))
      return [typeUrl, { ...one.status(), settled: one.settled, lagMs }]
    })
    return Object.fromEntries(types)
  }

  /** How far each resource has come that the client wants. */
  *progress(): Iterable<Progress & { readonly typeUrl: string; readonly refusedMs: number }> {
    for (const [typeUrl, subscription] of this.#subscriptions) {
      const refusedMs = this.#refusedMs.get(typeUrl) ?? 0
      for (const one of subscription.progress(this.#options.view(typeUrl)))
        yield { ...one, typeUrl, refusedMs }
    }
  }

  /** Whether nothing is on its way, and nothing waits to be sent. */
  get settled(): boolean {
    return this.#ordered.every((subscription) => subscription.settled)
  }

  #next(subscription: Subscription, phase: 'make' | 'break', nowMs: number): Push | undefined {
    const { typeUrl } = subscription.rules
    if (this.#damping.holds(typeUrl, nowMs)) return undefined
    const nonce = nonceOf(this.#nonce + 1)
    const push = subscription.next(phase, this.#options.view(typeUrl), { nonce, budget: this.#budget })
    if (push === undefined) return undefined
    this.#nonce++
    this.#deadlines.set(typeUrl, nowMs + this.#ackTimeoutMs)
    if (this.#keepsAlive(subscription)) this.#heartbeats.sent(typeUrl, push.fresh, nowMs)
    if (!this.#unansweredMs.has(typeUrl)) this.#unansweredMs.set(typeUrl, nowMs)
    // A changed cluster warms again and its client does not ask again: its endpoints follow unasked, changed or not.
    const endpoints = this.#subscriptions.get(TYPE.endpoints)
    if (typeUrl === TYPE.cluster && endpoints !== undefined)
      endpoints.force(push.fresh.map(endpointsOf).filter((name) => name !== undefined))
    return this.#keepsAlive(subscription) ? { ...push, ttl: true } : push
  }

  #pullHeartbeat(nowMs: number): Push | undefined {
    for (const typeUrl of this.#heartbeats.due(nowMs)) {
      const subscription = this.#subscriptions.get(typeUrl)
      if (subscription === undefined || subscription.awaiting) continue
      const push = subscription.heartbeat(this.#options.view(typeUrl), nonceOf(this.#nonce + 1))
      this.#heartbeats.beaten(typeUrl, push !== undefined, nowMs)
      if (push === undefined) continue
      this.#nonce++
      this.#deadlines.set(typeUrl, nowMs + this.#ackTimeoutMs)
      return push
    }
    return undefined
  }

  /** A complete state has no room for what has no body. */
  #keepsAlive({ rules: { variant, wholeState } }: Subscription): boolean {
    return this.#traits.ttl && (variant === 'delta' || !wholeState)
  }

  /** Clusters are on their way and not yet taken, or endpoints that they wait for are; for whatever refers to clusters, pages of them too. */
  #clustersBusy(typeUrl: string, nowMs: number): boolean {
    return (
      (typeUrl !== TYPE.upstreamPage && this.#subscriptions.get(TYPE.upstreamPage)?.awaiting === true) ||
      this.#damping.holds(TYPE.cluster, nowMs) ||
      this.#subscriptions.get(TYPE.cluster)?.awaiting === true ||
      this.#subscriptions.get(TYPE.endpoints)?.behind === true
    )
  }

  #subscription(typeUrl: string): Subscription {
    let subscription = this.#subscriptions.get(typeUrl)
    if (subscription === undefined) {
      const wholeState = isWholeState(typeUrl)
      const { variant } = this.#options
      const { resumesNamed, resourceErrors: tellsNotFound } = this.#traits
      subscription = new Subscription({ typeUrl, variant, wholeState, resumesNamed, tellsNotFound })
      this.#subscriptions.set(typeUrl, subscription)
      this.#ordered = [...this.#ordered, subscription].sort((a, b) =>
        byMakeOrder(a.rules.typeUrl, b.rules.typeUrl),
      )
    }
    return subscription
  }
}

function earlier(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b)
}
