import type { Problem, Result } from '../lib/result.ts'
import { HealthStatus } from '../xds/gen/envoy/config/core/v3/health_check_pb.js'
import type {
  Endpoint,
  LbEndpoint,
  LocalityLbEndpoints,
} from '../xds/gen/envoy/config/endpoint/v3/endpoint_components_pb.js'
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from '../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { FractionalPercent_DenominatorType } from '../xds/gen/envoy/type/v3/percent_pb.js'
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
      endpoint: {
        address: SOCKET_ADDRESS,
        hostname: true,
        health_check_config: {
          port_value: true,
          hostname: true,
          address: SOCKET_ADDRESS,
          disable_active_health_check: true,
        },
      },
      health_status: true,
      load_balancing_weight: true,
      metadata: { filter_metadata: true },
    },
  },
  policy: {
    overprovisioning_factor: true,
    weighted_priority_health: true,
    endpoint_stale_after: true,
    drop_overloads: { category: true, drop_percentage: true },
  },
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
  const { policy } = message
  if (policy?.overprovisioningFactor === 0)
    ctx.refuse(`${prefix}policy.overprovisioning_factor`, 'expected more than 0')
  const staleAfterMs = ctx.durationMs(policy?.endpointStaleAfter, 0, `${prefix}policy.endpoint_stale_after`)
  return {
    name: resource.name,
    version: resource.version,
    localities: message.endpoints.map((locality, i) =>
      readLocality(ctx, locality, `${prefix}endpoints[${i}]`),
    ),
    overprovisioningFactor: policy?.overprovisioningFactor ?? DEFAULT_OVERPROVISIONING,
    weightedPriorityHealth: policy?.weightedPriorityHealth ?? false,
    drops: (policy?.dropOverloads ?? []).map(({ category, dropPercentage }, i) => {
      const { numerator = 0, denominator = 0 } = dropPercentage ?? {}
      const whole = DENOMINATOR[denominator]
      if (whole === undefined)
        ctx.refuse(
          `${prefix}policy.drop_overloads[${i}].drop_percentage.denominator`,
          `expected HUNDRED, TEN_THOUSAND or MILLION, found ${denominator}`,
        )
      return { category, share: Math.min(1, numerator / (whole ?? 100)) }
    }),
    staleAfterMs: staleAfterMs === 0 ? undefined : staleAfterMs,
  }
}

const DENOMINATOR: Readonly<Partial<Record<FractionalPercent_DenominatorType, number>>> = {
  [FractionalPercent_DenominatorType.HUNDRED]: 100,
  [FractionalPercent_DenominatorType.TEN_THOUSAND]: 10_000,
  [FractionalPercent_DenominatorType.MILLION]: 1_000_000,
}

function readLocality(ctx: AcceptContext, message: LocalityLbEndpoints, path: string): LocalityConfig {
  if (message.priority > 128)
    ctx.refuse(`${path}.priority`, `expected at most 128, found ${message.priority}`)
  return {
    region: message.locality?.region ?? '',
    zone: message.locality?.zone ?? '',
    subZone: message.locality?.subZone ?? '',
    priority: message.priority,
    weight: readWeight(ctx, message.loadBalancingWeight, path) ?? 0,
    endpoints: message.lbEndpoints.map((endpoint, i) =>
      readEndpoint(ctx, endpoint, `${path}.lb_endpoints[${i}]`),
    ),
  }
}

const STATUS: Readonly<Record<HealthStatus, EndpointConfig['healthStatus']>> = {
  [HealthStatus.UNKNOWN]: 'UNKNOWN',
  [HealthStatus.HEALTHY]: 'HEALTHY',
  [HealthStatus.UNHEALTHY]: 'UNHEALTHY',
  [HealthStatus.DRAINING]: 'DRAINING',
  [HealthStatus.TIMEOUT]: 'TIMEOUT',
  [HealthStatus.DEGRADED]: 'DEGRADED',
}

function readEndpoint(ctx: AcceptContext, message: LbEndpoint, path: string): EndpointConfig {
  const endpoint = message.hostIdentifier.case === 'endpoint' ? message.hostIdentifier.value : undefined
  const { filterMetadata = {} } = message.metadata ?? {}
  const hashKey = filterMetadata['envoy.lb']?.['hash_key']
  return {
    address: ctx.address(endpoint?.address, `${path}.endpoint.address`),
    hostname: endpoint?.hostname ?? '',
    weight: readWeight(ctx, message.loadBalancingWeight, path) ?? 1,
    healthStatus: STATUS[message.healthStatus] ?? 'UNKNOWN',
    socketMetadata: filterMetadata['envoy.transport_socket_match'] ?? {},
    hashKey: typeof hashKey === 'string' ? hashKey : '',
    healthCheck: readHealthCheck(ctx, endpoint, `${path}.endpoint.health_check_config`),
  }
}

function readHealthCheck(
  ctx: AcceptContext,
  endpoint: Endpoint | undefined,
  path: string,
): EndpointConfig['healthCheck'] {
  const config = endpoint?.healthCheckConfig
  const address = config?.address && ctx.address(config.address, `${path}.address`, true)
  const port = config?.portValue ?? 0
  if (port > 65_535) ctx.refuse(`${path}.port_value`, `expected a port number, found ${port}`)
  return {
    host: address?.host ?? '',
    port: port === 0 ? (address?.port ?? 0) : port,
    hostname: config?.hostname ?? '',
    disabled: config?.disableActiveHealthCheck ?? false,
  }
}

function readWeight(ctx: AcceptContext, weight: number | undefined, path: string): number | undefined {
  if (weight === 0) ctx.refuse(`${path}.load_balancing_weight`, 'expected at least 1')
  return weight
}
