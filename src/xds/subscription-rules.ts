// The words of a subscription: what one stream and one type are to each other.
import type { Variant } from './messages.ts'
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
  /** The last that was refused; kept after later ACKs. */
  readonly nackedVersion: string
  /** The last refusal's text; kept after later ACKs. */
  readonly lastError: string
  /** Something is refused as it stands. */
  readonly refusing: boolean
  readonly subscribed: number | '*'
}

export interface PushLimits {
  readonly nonce: string
  /** A response that can be split is no longer than this, bytes, unless a single resource is. */
  readonly budget: number
}

/** A response on its way. */
export interface Sent {
  readonly nonce: string
  readonly version: string
  /** Not of a complete state, which `FullState` knows. */
  readonly upserts: readonly XdsResource[]
  readonly removed: readonly string[]
}

/** A resource the client refused. Its mates were refused with it, without anyone being named. */
export interface Refused {
  /** Not to be said again; undefined once something else was said. */
  readonly version: string | undefined
  readonly mates: readonly string[]
  /** What the client said about it. */
  readonly error: string
}
