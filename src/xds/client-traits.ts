// What a client can do, by what it says of itself in its node.
import type { Variant } from './messages.ts'
import type { NodeInfo } from './types.ts'

/** Our own clients keep named resources over a reconnect, so that those that they still have need not be sent. */
const OWN_USER_AGENT = 'isthmus'
/** Expiry of a resource crashes Envoy 1.40, and no Envoy says that it supports it: so it never gets one, whatever it says. */
const ENVOY_USER_AGENT = 'envoy'
const TTL = 'xds.config.supports-resource-ttl'
const TTL_IN_SOTW = 'xds.config.supports-resource-in-sotw'

export interface ClientTraits {
  /** On reconnect, names whose version the client still has are not sent again. */
  readonly resumesNamed: boolean
  /** Resources may end by themselves, and be kept alive by heartbeats (xds_protocol.rst, "TTL"). */
  readonly ttl: boolean
  /** SotW: reads `resource_errors`, and so can be told at once what does not exist (gRFC A88). */
  readonly resourceErrors: boolean
}

export function clientTraits(
  { userAgentName, clientFeatures = [] }: NodeInfo,
  variant: Variant,
): ClientTraits {
  const agent = userAgentName.toLowerCase()
  const supports =
    clientFeatures.includes(TTL) && (variant === 'delta' || clientFeatures.includes(TTL_IN_SOTW))
  return {
    resumesNamed: userAgentName === OWN_USER_AGENT,
    ttl: supports && !agent.startsWith(ENVOY_USER_AGENT),
    // Delta says the same with `removed_resources`.
    resourceErrors: variant === 'sotw' && (agent.startsWith('grpc') || userAgentName === OWN_USER_AGENT),
  }
}
