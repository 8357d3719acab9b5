import type { XdsResource } from './types.ts'

/** One resource on its way to one client. */
export interface Progress {
  readonly name: string
  /** What the client should have; undefined when it is not there (any more). */
  readonly resource: XdsResource | undefined
  readonly progress: ResourceProgress
  /** Why it was refused; empty unless `nacked`. */
  readonly error: string
}

/** How far one resource has come with one client. */
export type ResourceProgress =
  /** Wanted, and not there. */
  | 'missing'
  /** There, and not sent yet in any form. */
  | 'unsent'
  /** Sent, and not answered; or taken in an older form. */
  | 'pending'
  | 'acked'
  | 'nacked'
