import type {
  CircuitBreakers,
  CircuitBreakers_Thresholds,
} from '../xds/gen/envoy/config/cluster/v3/circuit_breaker_pb.js'
import { RoutingPriority } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import type { AcceptContext } from './accept-context.ts'
import type { CircuitBreakerConfig } from './upstream-types.ts'

export const CIRCUIT_BREAKER_FIELDS = {
  thresholds: {
    priority: true,
    max_connections: true,
    max_pending_requests: true,
    max_retries: true,
    // Requests are an affair of HTTP: Envoy's tcp_proxy does not count any either.
    max_requests: true,
    track_remaining: true,
  },
  per_host_thresholds: { priority: true, max_connections: true },
} as const

/** Envoy's default of connections and of pending ones. */
const DEFAULT_LIMIT = 1_024

/**
 * Envoy's thresholds of priority DEFAULT, the only one that TCP has. `max_retries` is unlimited where it is not said, as Envoy's
 * tcp_proxy does not look at it at all; where it is said, it holds here.
 */
export function readCircuitBreakers(
  ctx: AcceptContext,
  message: CircuitBreakers | undefined,
): CircuitBreakerConfig {
  const limits = only(ctx, message?.thresholds ?? [], 'circuit_breakers.thresholds')
  const perHost = only(ctx, message?.perHostThresholds ?? [], 'circuit_breakers.per_host_thresholds')
  return {
    maxConnections: limits?.maxConnections ?? DEFAULT_LIMIT,
    maxPending: limits?.maxPendingRequests ?? DEFAULT_LIMIT,
    maxRetries: limits?.maxRetries ?? Number.POSITIVE_INFINITY,
    maxConnectionsPerEndpoint: perHost?.maxConnections ?? Number.POSITIVE_INFINITY,
    trackRemaining: limits?.trackRemaining ?? false,
  }
}

/** Of several for one priority the first counts, as in Envoy. */
function only(
  ctx: AcceptContext,
  thresholds: readonly CircuitBreakers_Thresholds[],
  path: string,
): CircuitBreakers_Thresholds | undefined {
  for (const [index, { priority }] of thresholds.entries()) {
    if (priority !== RoutingPriority.DEFAULT)
      ctx.refuse(
        `${path}[${index}].priority`,
        `expected DEFAULT, found ${RoutingPriority[priority] ?? priority}`,
      )
  }
  return thresholds[0]
}
