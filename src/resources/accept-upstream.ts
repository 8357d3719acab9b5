import type { Problem, Result } from '../lib/result.ts'
import {
  type Cluster,
  ClusterSchema,
  Cluster_DiscoveryType as DiscoveryType,
  Cluster_DnsLookupFamily as LookupFamily,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import type { TransportSocket } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import { ProxyProtocolUpstreamTransportSchema } from '../xds/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js'
import { RawBufferSchema } from '../xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import type { XdsResource } from '../xds/types.ts'
import { readAliases } from './accept-aliases.ts'
import { BALANCING_FIELDS, readBalancing } from './accept-balancing.ts'
import { CIRCUIT_BREAKER_FIELDS, readCircuitBreakers } from './accept-circuit-breakers.ts'
import { AcceptContext, ADS, begin, typeOf } from './accept-context.ts'
import { ENDPOINTS_FIELDS, readEndpoints } from './accept-endpoints.ts'
import { readFailback } from './accept-failback.ts'
import { HEALTH_CHECK_FIELDS, readHealthCheck } from './accept-health-check.ts'
import { OUTLIER_FIELDS, readOutlier } from './accept-outlier.ts'
import { PROXY_PROTOCOL_FIELDS, readProxyProtocol } from './accept-proxy-protocol.ts'
import { readUpstreamTls } from './accept-tls.ts'
import type { EndpointsConfig, TransportSocketConfig, UpstreamConfig } from './accept-types.ts'
import { knownCluster } from './cluster-parts.ts'
import type { DnsConfig, KeepaliveConfig } from './upstream-types.ts'

const SOCKET = { name: true, typed_config: true } as const
export const CLUSTER_FIELDS = {
  name: true,
  alt_stat_name: true,
  type: true,
  eds_cluster_config: { eds_config: ADS, service_name: true },
  connect_timeout: true,
  load_assignment: ENDPOINTS_FIELDS,
  ...BALANCING_FIELDS,
  circuit_breakers: CIRCUIT_BREAKER_FIELDS,
  outlier_detection: OUTLIER_FIELDS,
  health_checks: HEALTH_CHECK_FIELDS,
  close_connections_on_host_health_failure: true,
  ignore_health_on_host_removal: true,
  upstream_connection_options: { tcp_keepalive: { keepalive_time: true } },
  transport_socket_matches: { name: true, match: true, transport_socket: SOCKET },
  transport_socket: SOCKET,
  dns_refresh_rate: true,
  dns_failure_refresh_rate: true,
  respect_dns_ttl: true,
  dns_lookup_family: true,
  metadata: true,
  // Statistics only; those of each endpoint are kept anyway.
  track_cluster_stats: true,
  // Only the HTTP protocol options exist, and tcp_proxy does not read them.
  typed_extension_protocol_options: true,
} as const

/** Envoy's defaults. */
const CONNECT_TIMEOUT_MS = 5_000
const DNS_REFRESH_MS = 5_000

/** Envoy Cluster → upstream: EDS over ADS, STATIC, STRICT_DNS, LOGICAL_DNS; raw or mutual TLS by endpoint metadata. */
export function acceptUpstream(resource: XdsResource): Result<UpstreamConfig, Problem> {
  const known = knownCluster(resource.body, CLUSTER_FIELDS)
  if (known !== undefined) return readCluster(new AcceptContext(`Cluster ${resource.name}`), known, resource)
  return acceptWholeUpstream(resource)
}

/** The same without what is remembered of others: what comes of it is the same as well. */
export function acceptWholeUpstream(resource: XdsResource): Result<UpstreamConfig, Problem> {
  const begun = begin(resource, ClusterSchema, CLUSTER_FIELDS)
  return begun.ok ? readCluster(begun.value.ctx, begun.value.message, resource) : begun
}

function readCluster(
  ctx: AcceptContext,
  message: Cluster,
  resource: XdsResource,
): Result<UpstreamConfig, Problem> {
  const type = readType(ctx, message)
  const connectTimeoutMs = ctx.durationMs(message.connectTimeout, CONNECT_TIMEOUT_MS, 'connect_timeout')
  if (connectTimeoutMs === 0) ctx.refuse('connect_timeout', 'expected more than 0')
  return ctx.finish({
    name: resource.name,
    version: resource.version,
    type,
    endpointsName: type === 'EDS' ? message.edsClusterConfig?.serviceName || resource.name : '',
    inlineEndpoints: readInline(ctx, message, type, resource),
    connectTimeoutMs,
    balancing: readBalancing(ctx, message),
    socketMatches: message.transportSocketMatches.map((match, i) => ({
      name: match.name,
      match: match.match ?? {},
      socket: readSocket(ctx, match.transportSocket, `transport_socket_matches[${i}].transport_socket`),
    })),
    defaultSocket: readSocket(ctx, message.transportSocket, 'transport_socket'),
    circuitBreakers: readCircuitBreakers(ctx, message.circuitBreakers),
    outlier: readOutlier(ctx, message.outlierDetection),
    failback: readFailback(ctx, message.metadata),
    healthCheck: readHealthCheck(ctx, message.healthChecks),
    ignoreNewUntilChecked: message.commonLbConfig?.ignoreNewHostsUntilFirstHc ?? false,
    closeOnHealthFailure: message.closeConnectionsOnHostHealthFailure,
    ignoreHealthOnRemoval: message.ignoreHealthOnHostRemoval,
    aliases: readAliases(ctx, message.metadata),
    keepalive: readKeepalive(message),
    dns: readDns(ctx, message),
  })
}

function readKeepalive({ upstreamConnectionOptions }: Cluster): KeepaliveConfig | undefined {
  const keepalive = upstreamConnectionOptions?.tcpKeepalive
  if (keepalive === undefined) return undefined
  const { keepaliveTime } = keepalive
  return { idleMs: keepaliveTime === undefined ? undefined : keepaliveTime * 1000 }
}

function readDns(ctx: AcceptContext, message: Cluster): DnsConfig {
  const refreshMs = ctx.durationMs(message.dnsRefreshRate, DNS_REFRESH_MS, 'dns_refresh_rate')
  const failure = message.dnsFailureRefreshRate
  const at = 'dns_failure_refresh_rate'
  const failureBaseMs = ctx.durationMs(failure?.baseInterval, refreshMs, `${at}.base_interval`)
  const failureMaxMs = ctx.durationMs(
    failure?.maxInterval,
    failure === undefined ? refreshMs : failureBaseMs * 10,
    `${at}.max_interval`,
  )
  for (const [field, ms] of [
    ['dns_refresh_rate', refreshMs],
    [`${at}.base_interval`, failureBaseMs],
  ] as const)
    if (ms <= 1) ctx.refuse(field, `expected more than 1 ms, found ${ms}`)
  if (failureMaxMs < failureBaseMs) ctx.refuse(`${at}.max_interval`, 'expected at least base_interval')
  return {
    refreshMs,
    failureBaseMs,
    failureMaxMs,
    respectTtl: message.respectDnsTtl,
    family: FAMILY[message.dnsLookupFamily] ?? 'AUTO',
  }
}

const FAMILY: Readonly<Record<LookupFamily, DnsConfig['family']>> = {
  [LookupFamily.AUTO]: 'AUTO',
  [LookupFamily.V4_ONLY]: 'V4_ONLY',
  [LookupFamily.V6_ONLY]: 'V6_ONLY',
  [LookupFamily.V4_PREFERRED]: 'V4_PREFERRED',
  [LookupFamily.ALL]: 'ALL',
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
  if (type === DiscoveryType.LOGICAL_DNS) return 'LOGICAL_DNS'
  ctx.refuse('type', `expected EDS, STATIC, STRICT_DNS or LOGICAL_DNS, found ${DiscoveryType[type] ?? type}`)
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
  const endpoints = readEndpoints(ctx, message.loadAssignment, resource, 'load_assignment.')
  const count = endpoints.localities.reduce((sum, locality) => sum + locality.endpoints.length, 0)
  if (type === 'LOGICAL_DNS' && count !== 1)
    ctx.refuse('load_assignment.endpoints', `expected one endpoint, for LOGICAL_DNS, found ${count}`)
  return endpoints
}

function readSocket(
  ctx: AcceptContext,
  socket: TransportSocket | undefined,
  path: string,
): TransportSocketConfig {
  if (socket === undefined) return { kind: 'raw' }
  const at = `${path}.typed_config`
  if (socket.configType.case !== 'typedConfig') {
    ctx.refuse(at, 'expected an UpstreamTlsContext, RawBuffer or ProxyProtocolUpstreamTransport')
    return { kind: 'raw' }
  }
  const any = socket.configType.value
  if (typeOf(any) === RawBufferSchema.typeName) {
    ctx.unpack(any, RawBufferSchema, {}, at)
    return { kind: 'raw' }
  }
  if (typeOf(any) === ProxyProtocolUpstreamTransportSchema.typeName) {
    const allowed = { ...PROXY_PROTOCOL_FIELDS, transport_socket: SOCKET }
    const message = ctx.unpack(any, ProxyProtocolUpstreamTransportSchema, allowed, at)
    if (message === undefined) return { kind: 'raw' }
    if (message.transportSocket === undefined) ctx.refuse(`${at}.transport_socket`, 'expected one')
    const inner = readSocket(ctx, message.transportSocket, `${at}.transport_socket`)
    if (inner.proxyProtocol !== undefined) ctx.refuse(`${at}.transport_socket`, 'expected TLS or raw_buffer')
    return { ...inner, proxyProtocol: readProxyProtocol(ctx, message.config, `${at}.config`) }
  }
  const tls = readUpstreamTls(ctx, any, at)
  return tls === undefined ? { kind: 'raw' } : { kind: 'tls', tls }
}
