import type { Problem, Result } from '../lib/result.ts'
import { HealthStatus } from '../xds/gen/envoy/config/core/v3/health_check_pb.js'
import type {
  LbEndpoint,
  LocalityLbEndpoints,
} from '../xds/gen/envoy/config/endpoint/v3/endpoint_components_pb.js'
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from '../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import type { XdsResource } from '../xds/types.ts'
import { type AcceptContext, begin, SOCKET_ADDRESS } from './accept-context.ts'
import type { EndpointConfig, EndpointsConfig, LocalityConfig } from './accept-types.ts'

/** The allow-list of a ClusterLoadAssignment, inline or by EDS. */
export const ENDPOINTS_FIELDS = {
  cluster_name: true,
  endpoints: {
    locality: true,
    metadata: true,
    priority: true,
    load_balancing_weight: true,
    lb_endpoints: {
      endpoint: { address: SOCKET_ADDRESS, hostname: true },
      health_status: true,
      load_balancing_weight: true,
      metadata: { filter_metadata: true },
    },
  },
  policy: { overprovisioning_factor: true },
} as const

const DEFAULT_OVERPROVISIONING = 140

/**
 * ClusterLoadAssignment → endpoints. Wider than Envoy in one thing: an address may be a host name (a load balancer's), which the
 * engine resolves and keeps the last good answer of.
 */
export function acceptEndpoints(resource: XdsResource): Result<EndpointsConfig, Problem> {
  const begun = begin(resource, ClusterLoadAssignmentSchema, ENDPOINTS_FIELDS)
  if (!begun.ok) return begun
  const { ctx, message } = begun.value
  return ctx.finish(readEndpoints(ctx, message, resource, ''))
}

/** The same inside a Cluster; `prefix` is the path of the assignment, with its dot. */
export function readEndpoints(
  ctx: AcceptContext,
  message: ClusterLoadAssignment,
  resource: XdsResource,
  prefix: string,
): EndpointsConfig {
  return {
    name: resource.name,
    version: resource.version,
    localities: message.endpoints.map((locality, i) =>
      readLocality(ctx, locality, `${prefix}endpoints[${i}]`),
    ),
    overprovisioningFactor: message.policy?.overprovisioningFactor ?? DEFAULT_OVERPROVISIONING,
  }
}

function readLocality(ctx: AcceptContext, message: LocalityLbEndpoints, path: string): LocalityConfig {
  if (message.priority > 128)
    ctx.refuse(`${path}.priority`, `expected at most 128, found ${message.priority}`)
  return {
    region: message.locality?.region ?? '',
    zone: message.locality?.zone ?? '',
    priority: message.priority,
    weight: readWeight(ctx, message.loadBalancingWeight, path),
    endpoints: message.lbEndpoints.map((endpoint, i) =>
      readEndpoint(ctx, endpoint, `${path}.lb_endpoints[${i}]`),
    ),
  }
}

function readEndpoint(ctx: AcceptContext, message: LbEndpoint, path: string): EndpointConfig {
  const endpoint = message.hostIdentifier.case === 'endpoint' ? message.hostIdentifier.value : undefined
  const status = message.healthStatus
  return {
    address: ctx.address(endpoint?.address, `${path}.endpoint.address`),
    weight: readWeight(ctx, message.loadBalancingWeight, path),
    healthy:
      status === HealthStatus.UNKNOWN || status === HealthStatus.HEALTHY || status === HealthStatus.DEGRADED,
    healthStatus: HealthStatus[status] ?? 'UNKNOWN',
    socketMetadata: message.metadata?.filterMetadata['envoy.transport_socket_match'] ?? {},
  }
}

function readWeight(ctx: AcceptContext, weight: number | undefined, path: string): number {
  if (weight === 0) ctx.refuse(`${path}.load_balancing_weight`, 'expected at least 1')
  return weight ?? 1
}
