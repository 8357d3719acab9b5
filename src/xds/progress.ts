import { GONE, type Held } from './holdings.ts'
import type { Refused } from './subscription-rules.ts'
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

/** Of a resource that is there and goes out by name; `sent`: it is in a response that is not answered. */
export function progressOf(
  resource: XdsResource,
  has: Held | undefined,
  refused: Refused | undefined,
  sent: boolean,
): Progress {
  const { name, version } = resource
  if (refused?.version === version) return { name, resource, progress: 'nacked', error: refused.error }
  if (has === undefined || has === GONE) return { name, resource, progress: 'unsent', error: '' }
  return { name, resource, progress: has === version && !sent ? 'acked' : 'pending', error: '' }
}
