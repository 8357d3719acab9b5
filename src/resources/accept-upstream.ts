import type { Problem, Result } from '../lib/result.ts'
import {
  type Cluster,
  type Cluster_CommonLbConfig,
  ClusterSchema,
  Cluster_DiscoveryType as DiscoveryType,
  Cluster_LbPolicy as LbPolicy,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import type { OutlierDetection } from '../xds/gen/envoy/config/cluster/v3/outlier_detection_pb.js'
import type { TransportSocket } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import { RawBufferSchema } from '../xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import type { XdsResource } from '../xds/types.ts'
import { readAliases } from './accept-aliases.ts'
import { type AcceptContext, ADS, begin, typeOf } from './accept-context.ts'
import { ENDPOINTS_FIELDS, readEndpoints } from './accept-endpoints.ts'
import { readUpstreamTls } from './accept-tls.ts'
import type { EndpointsConfig, OutlierConfig, TransportSocketConfig, UpstreamConfig } from './accept-types.ts'

const SOCKET = { name: true, typed_config: true } as const
const CLUSTER_FIELDS = {
  name: true,
  alt_stat_name: true,
  type: true,
  eds_cluster_config: { eds_config: ADS, service_name: true },
  connect_timeout: true,
  lb_policy: true,
  load_assignment: ENDPOINTS_FIELDS,
  common_lb_config: { healthy_panic_threshold: true, locality_weighted_lb_config: {} },
  outlier_detection: {
    // These speak of HTTP answers, which this engine does not see; they are taken and mean nothing here.
    consecutive_5xx: true,
    enforcing_consecutive_5xx: true,
    enforcing_success_rate: true,
    // Ejection ends when its time is over, not at the next sweep, so the interval has nothing to say either.
    interval: true,
    base_ejection_time: true,
    max_ejection_time: true,
    max_ejection_percent: true,
    split_external_local_origin_errors: true,
    consecutive_local_origin_failure: true,
    enforcing_consecutive_local_origin_failure: true,
  },
  transport_socket_matches: { name: true, match: true, transport_socket: SOCKET },
  transport_socket: SOCKET,
  dns_refresh_rate: true,
  dns_lookup_family: true,
  metadata: true,
  // Only the HTTP protocol options exist, and tcp_proxy does not read them.
  typed_extension_protocol_options: true,
} as const

/** Envoy's defaults. */
const CONNECT_TIMEOUT_MS = 5_000
const DNS_REFRESH_MS = 5_000

/** Envoy Cluster → upstream. EDS over ADS, STATIC, STRICT_DNS; raw or mutual TLS by endpoint metadata. */
export function acceptUpstream(resource: XdsResource): Result<UpstreamConfig, Problem> {
  const begun = begin(resource, ClusterSchema, CLUSTER_FIELDS)
  if (!begun.ok) return begun
  const { ctx, message } = begun.value
  const type = readType(ctx, message)
  checkPanic(ctx, message.commonLbConfig)
  const connectTimeoutMs = ctx.durationMs(message.connectTimeout, CONNECT_TIMEOUT_MS, 'connect_timeout')
  if (connectTimeoutMs === 0) ctx.refuse('connect_timeout', 'expected more than 0')
  return ctx.finish({
    name: resource.name,
    version: resource.version,
    type,
    endpointsName: type === 'EDS' ? message.edsClusterConfig?.serviceName || resource.name : '',
    inlineEndpoints: readInline(ctx, message, type, resource),
    connectTimeoutMs,
    policy: readPolicy(ctx, message.lbPolicy),
    localityWeighted: message.commonLbConfig?.localityConfigSpecifier.case === 'localityWeightedLbConfig',
    socketMatches: message.transportSocketMatches.map((match, i) => ({
      name: match.name,
      match: match.match ?? {},
      socket: readSocket(ctx, match.transportSocket, `transport_socket_matches[${i}].transport_socket`),
    })),
    defaultSocket: readSocket(ctx, message.transportSocket, 'transport_socket'),
    outlier: readOutlier(ctx, message.outlierDetection),
    aliases: readAliases(ctx, message.metadata),
    dnsRefreshMs: Math.max(100, ctx.durationMs(message.dnsRefreshRate, DNS_REFRESH_MS, 'dns_refresh_rate')),
  })
}

function readType(ctx: AcceptContext, message: Cluster): UpstreamConfig['type'] {
  const type =
    message.clusterDiscoveryType.case === 'type' ? message.clusterDiscoveryType.value : DiscoveryType.STATIC
  if (type === DiscoveryType.EDS) {
    const ads = message.edsClusterConfig?.edsConfig?.configSourceSpecifier.case === 'ads'
    if (!ads) ctx.refuse('eds_cluster_config.eds_config', 'expected ads')
    return 'EDS'
  }
  if (type === DiscoveryType.STATIC) return 'STATIC'
  if (type === DiscoveryType.STRICT_DNS) return 'STRICT_DNS'
  ctx.refuse('type', `expected EDS, STATIC or STRICT_DNS, found ${DiscoveryType[type] ?? type}`)
  return 'STATIC'
}

function readInline(
  ctx: AcceptContext,
  message: Cluster,
  type: UpstreamConfig['type'],
  resource: XdsResource,
): EndpointsConfig | undefined {
  if (type === 'EDS') {
    if (message.loadAssignment !== undefined) ctx.refuse('load_assignment', 'not supported together with EDS')
    return undefined
  }
  if (message.loadAssignment === undefined) {
    ctx.refuse('load_assignment', `expected one, for ${type}`)
    return undefined
  }
  return readEndpoints(ctx, message.loadAssignment, resource, 'load_assignment.')
}

function readPolicy(ctx: AcceptContext, policy: LbPolicy): UpstreamConfig['policy'] {
  if (policy === LbPolicy.ROUND_ROBIN) return 'ROUND_ROBIN'
  if (policy === LbPolicy.LEAST_REQUEST) return 'LEAST_REQUEST'
  if (policy === LbPolicy.RANDOM) return 'RANDOM'
  ctx.refuse(
    'lb_policy',
    `expected ROUND_ROBIN, LEAST_REQUEST or RANDOM, found ${LbPolicy[policy] ?? policy}`,
  )
  return 'RANDOM'
}

/** Panic routing sends traffic to endpoints known to be bad; unset means Envoy's 50 %, so it must be said. */
function checkPanic(ctx: AcceptContext, common: Cluster_CommonLbConfig | undefined): void {
  const threshold = common?.healthyPanicThreshold?.value
  if (threshold !== 0) {
    ctx.refuse(
      'common_lb_config.healthy_panic_threshold',
      `expected 0, found ${threshold ?? 'none, which means 50'}`,
    )
  }
}

function readSocket(
  ctx: AcceptContext,
  socket: TransportSocket | undefined,
  path: string,
): TransportSocketConfig {
  if (socket === undefined) return { kind: 'raw' }
  const at = `${path}.typed_config`
  if (socket.configType.case !== 'typedConfig') {
    ctx.refuse(at, 'expected an UpstreamTlsContext or RawBuffer')
    return { kind: 'raw' }
  }
  const any = socket.configType.value
  if (typeOf(any) === RawBufferSchema.typeName) {
    ctx.unpack(any, RawBufferSchema, {}, at)
    return { kind: 'raw' }
  }
  const tls = readUpstreamTls(ctx, any, at)
  return tls === undefined ? { kind: 'raw' } : { kind: 'tls', tls }
}

function readOutlier(ctx: AcceptContext, message: OutlierDetection | undefined): OutlierConfig | undefined {
  if (message === undefined) return undefined
  const baseEjectionMs = ctx.durationMs(
    message.baseEjectionTime,
    30_000,
    'outlier_detection.base_ejection_time',
  )
  const maxEjectionMs = ctx.durationMs(
    message.maxEjectionTime,
    300_000,
    'outlier_detection.max_ejection_time',
  )
  // Without the split, Envoy counts a failed connect as a 5xx.
  const split = message.splitExternalLocalOriginErrors
  const enforcing = split ? message.enforcingConsecutiveLocalOriginFailure : message.enforcingConsecutive5xx
  const failures = split ? message.consecutiveLocalOriginFailure : message.consecutive5xx
  if (enforcing !== undefined && enforcing !== 0 && enforcing !== 100) {
    ctx.refuse(
      'outlier_detection.enforcing_consecutive_local_origin_failure',
      `expected 0 or 100, found ${enforcing}`,
    )
  }
  if (enforcing === 0 || failures === 0) return undefined
  return {
    consecutiveFailures: failures ?? 5,
    baseEjectionMs,
    maxEjectionMs: Math.max(baseEjectionMs, maxEjectionMs),
    maxEjectionPercent: message.maxEjectionPercent ?? 10,
  }
}
