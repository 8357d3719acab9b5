import type { Any } from '@bufbuild/protobuf/wkt'
import { BackoffStrategySchema } from '../xds/gen/envoy/config/core/v3/backoff_pb.js'
import {
  type TcpProxy,
  TcpProxySchema,
} from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import type { AcceptContext } from './accept-context.ts'
import { readTlvList } from './accept-proxy-protocol.ts'
import type { FilterChainConfig } from './accept-types.ts'
import { BACKOFF_OPTIONS, PROXY_PROTOCOL_TLVS, unknownMessage } from './newer-envoy.ts'

export const TCP_PROXY_FIELDS = {
  stat_prefix: true,
  cluster: true,
  idle_timeout: true,
  max_connect_attempts: true,
  [`#${BACKOFF_OPTIONS}`]: true,
  hash_policy: { source_ip: {} },
  max_downstream_connection_duration: true,
  [`#${PROXY_PROTOCOL_TLVS}`]: true,
  // upstream_connect_mode and max_early_data_bytes, younger than our generated code. They make an Envoy wait for the
  // handshake (or the first byte) before it connects upstream; this engine always waits for the handshake and the policy.
  '#21': true,
  '#22': true,
} as const

/** Envoy's default of `idle_timeout`. */
const DEFAULT_IDLE_TIMEOUT_MS = 3_600_000

export type TcpProxyConfig = Pick<
  FilterChainConfig,
  | 'upstream'
  | 'idleTimeoutMs'
  | 'maxConnectAttempts'
  | 'connectBackoff'
  | 'hashSourceIp'
  | 'maxDurationMs'
  | 'proxyProtocolTlvs'
>

/** What stands for a filter that was refused. */
export const NO_TCP_PROXY: TcpProxyConfig = {
  upstream: '',
  idleTimeoutMs: 0,
  maxConnectAttempts: 1,
  connectBackoff: undefined,
  hashSourceIp: false,
  maxDurationMs: undefined,
  proxyProtocolTlvs: [],
}

/** Network filter `tcp_proxy`: one cluster, always. */
export function readTcpProxy(ctx: AcceptContext, any: Any, path: string): TcpProxyConfig {
  const message = ctx.unpack(any, TcpProxySchema, TCP_PROXY_FIELDS, path)
  if (message === undefined) return NO_TCP_PROXY
  const { clusterSpecifier: cluster, maxDownstreamConnectionDuration: duration } = message
  if (cluster.case !== 'cluster' || cluster.value === '')
    ctx.refuse(`${path}.cluster`, 'expected the name of a cluster')
  if (message.maxConnectAttempts === 0) ctx.refuse(`${path}.max_connect_attempts`, 'expected at least 1')
  if (message.hashPolicy.length > 1)
    ctx.refuse(`${path}.hash_policy`, `expected at most one, found ${message.hashPolicy.length}`)
  return {
    upstream: cluster.case === 'cluster' ? cluster.value : '',
    idleTimeoutMs: ctx.durationMs(message.idleTimeout, DEFAULT_IDLE_TIMEOUT_MS, `${path}.idle_timeout`),
    maxConnectAttempts: message.maxConnectAttempts ?? 1,
    connectBackoff: readBackoff(ctx, message, `${path}.backoff_options`),
    hashSourceIp: message.hashPolicy[0]?.policySpecifier.case === 'sourceIp',
    maxDurationMs: duration && ctx.durationMs(duration, 0, `${path}.max_downstream_connection_duration`),
    proxyProtocolTlvs: readTlvList(ctx, message, PROXY_PROTOCOL_TLVS, `${path}.proxy_protocol_tlvs`),
  }
}

function readBackoff(ctx: AcceptContext, message: TcpProxy, path: string): TcpProxyConfig['connectBackoff'] {
  const found = unknownMessage(message, BACKOFF_OPTIONS, BackoffStrategySchema)
  if (found === 'malformed') ctx.refuse(path, 'does not decode as envoy.config.core.v3.BackoffStrategy')
  if (found === undefined || found === 'malformed') return undefined
  const baseMs = ctx.durationMs(found.baseInterval, 0, `${path}.base_interval`)
  if (baseMs < 1) ctx.refuse(`${path}.base_interval`, 'expected at least 1 ms')
  const maxMs = ctx.durationMs(found.maxInterval, 10 * baseMs, `${path}.max_interval`)
  if (maxMs < baseMs) ctx.refuse(`${path}.max_interval`, 'expected at least base_interval')
  return { baseMs, maxMs }
}
