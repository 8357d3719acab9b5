import type { Any } from '@bufbuild/protobuf/wkt'
import type { Problem, Result } from '../lib/result.ts'
import type { Metadata } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import type { FilterChain } from '../xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { TlsInspectorSchema } from '../xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { RBACSchema } from '../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import type { XdsResource } from '../xds/types.ts'
import { type AcceptContext, begin, SOCKET_ADDRESS, typeOf } from './accept-context.ts'
import { readRbac } from './accept-rbac.ts'
import { readDownstreamTls } from './accept-tls.ts'
import type { FilterChainConfig, ListenerConfig, RbacConfig } from './accept-types.ts'

const LISTENER_FIELDS = {
  name: true,
  stat_prefix: true,
  traffic_direction: true,
  address: SOCKET_ADDRESS,
  metadata: { filter_metadata: true },
  listener_filters: { name: true, typed_config: true },
  listener_filters_timeout: true,
  filter_chains: {
    name: true,
    filter_chain_match: { server_names: true, transport_protocol: true },
    filters: { name: true, typed_config: true },
    transport_socket: { name: true, typed_config: true },
    transport_socket_connect_timeout: true,
  },
} as const

const TCP_PROXY_FIELDS = {
  stat_prefix: true,
  cluster: true,
  idle_timeout: true,
  max_connect_attempts: true,
  max_downstream_connection_duration: true,
  // upstream_connect_mode and max_early_data_bytes, younger than our generated code. They make an Envoy wait for the
  // handshake (or the first byte) before it connects upstream; this engine always waits for the handshake and the policy.
  '#21': true,
  '#22': true,
} as const

const DEFAULT_HANDSHAKE_TIMEOUT_MS = 5_000
/** Envoy's default of `idle_timeout`. */
const DEFAULT_IDLE_TIMEOUT_MS = 3_600_000

/**
 * Envoy Listener → ours. The subset: one TCP address; filter chains told apart by exact server names; each chain either
 * terminates mutual TLS or is plain TCP; filters `rbac`…, `sni_cluster` (TLS only), `tcp_proxy` last.
 */
export function acceptListener(resource: XdsResource): Result<ListenerConfig, Problem> {
  const begun = begin(resource, ListenerSchema, LISTENER_FIELDS)
  if (!begun.ok) return begun
  const { ctx, message } = begun.value
  for (const [index, filter] of message.listenerFilters.entries()) {
    const path = `listener_filters[${index}].typed_config`
    if (filter.configType.case !== 'typedConfig') ctx.refuse(path, 'expected a TlsInspector')
    else ctx.unpack(filter.configType.value, TlsInspectorSchema, {}, path)
  }
  const helloTimeoutMs = ctx.durationMs(
    message.listenerFiltersTimeout,
    DEFAULT_HANDSHAKE_TIMEOUT_MS,
    'listener_filters_timeout',
  )
  const chains = message.filterChains.map((chain, index) => readChain(ctx, chain, index, helloTimeoutMs))
  checkChains(ctx, chains)
  return ctx.finish({
    name: resource.name,
    version: resource.version,
    address: ctx.address(message.address, 'address', true),
    chains,
    service: readService(message.metadata),
  })
}

function readChain(
  ctx: AcceptContext,
  chain: FilterChain,
  index: number,
  helloTimeoutMs: number,
): FilterChainConfig {
  const path = `filter_chains[${index}]`
  const filters = readFilters(ctx, chain, path)
  const socket = chain.transportSocket?.configType
  const timeoutMs = ctx.durationMs(
    chain.transportSocketConnectTimeout,
    helloTimeoutMs,
    `${path}.transport_socket_connect_timeout`,
  )
  const tls =
    socket?.case === 'typedConfig'
      ? readDownstreamTls(ctx, socket.value, timeoutMs, `${path}.transport_socket.typed_config`)
      : undefined
  const { serverNames = [], transportProtocol = '' } = chain.filterChainMatch ?? {}
  const expected = tls === undefined ? 'raw_buffer' : 'tls'
  if (transportProtocol !== '' && transportProtocol !== expected) {
    ctx.refuse(
      `${path}.filter_chain_match.transport_protocol`,
      `expected "${expected}", found "${transportProtocol}"`,
    )
  }
  for (const [i, name] of serverNames.entries()) {
    if (name.includes('*'))
      ctx.refuse(`${path}.filter_chain_match.server_names[${i}]`, 'wildcards are not supported')
  }
  if (tls === undefined && serverNames.length > 0) {
    ctx.refuse(
      `${path}.filter_chain_match.server_names`,
      'not supported without a transport_socket (passthrough)',
    )
  }
  if (tls === undefined && filters.sniCluster)
    ctx.refuse(`${path}.filters`, 'sni_cluster is not supported without TLS (passthrough)')
  if (tls === undefined && filters.rbac.length > 0)
    ctx.refuse(`${path}.filters`, 'rbac is not supported without TLS')
  return {
    name: chain.name === '' ? `chain-${index}` : chain.name,
    serverNames: serverNames.map((name) => name.toLowerCase()),
    tls,
    ...filters,
  }
}

type Filters = Omit<FilterChainConfig, 'name' | 'serverNames' | 'tls'>

function readFilters(ctx: AcceptContext, chain: FilterChain, chainPath: string): Filters {
  const rbac: RbacConfig[] = []
  let sniCluster = false
  let proxy: Omit<Filters, 'rbac' | 'sniCluster'> | undefined
  for (const [index, filter] of chain.filters.entries()) {
    const path = `${chainPath}.filters[${index}].typed_config`
    if (filter.configType.case !== 'typedConfig') {
      ctx.refuse(path, 'expected a configuration')
      continue
    }
    const any = filter.configType.value
    if (proxy !== undefined) ctx.refuse(path, 'expected tcp_proxy to be the last filter')
    switch (typeOf(any)) {
      case RBACSchema.typeName: {
        const rules = readRbac(ctx, any, path)
        if (sniCluster) ctx.refuse(path, 'expected rbac before sni_cluster')
        if (rules !== undefined) rbac.push(rules)
        break
      }
      case SniClusterSchema.typeName:
        ctx.unpack(any, SniClusterSchema, {}, path)
        sniCluster = true
        break
      case TcpProxySchema.typeName:
        proxy = readTcpProxy(ctx, any, path)
        break
      default:
        ctx.refuse(path, `${typeOf(any) || 'a filter without a type'} is not supported`)
    }
  }
  if (proxy === undefined) ctx.refuse(`${chainPath}.filters`, 'expected tcp_proxy to be the last filter')
  return { rbac, sniCluster, ...(proxy ?? NO_PROXY) }
}

const NO_PROXY = { upstream: '', idleTimeoutMs: 0, maxConnectAttempts: 1, maxDurationMs: undefined }

function readTcpProxy(ctx: AcceptContext, any: Any, path: string): Omit<Filters, 'rbac' | 'sniCluster'> {
  const message = ctx.unpack(any, TcpProxySchema, TCP_PROXY_FIELDS, path)
  if (message === undefined) return NO_PROXY
  const { clusterSpecifier: cluster, maxDownstreamConnectionDuration: duration } = message
  if (cluster.case !== 'cluster' || cluster.value === '')
    ctx.refuse(`${path}.cluster`, 'expected the name of a cluster')
  return {
    upstream: cluster.case === 'cluster' ? cluster.value : '',
    idleTimeoutMs: ctx.durationMs(message.idleTimeout, DEFAULT_IDLE_TIMEOUT_MS, `${path}.idle_timeout`),
    maxConnectAttempts: message.maxConnectAttempts ?? 1,
    maxDurationMs: duration && ctx.durationMs(duration, 0, `${path}.max_downstream_connection_duration`),
  }
}

/** A connection must have one chain and one only: Envoy refuses such listeners too. */
function checkChains(ctx: AcceptContext, chains: readonly FilterChainConfig[]): void {
  if (chains.length === 0) ctx.refuse('filter_chains', 'expected at least one')
  const names = new Set<string>()
  const matched = new Set<string>()
  for (const [index, chain] of chains.entries()) {
    const path = `filter_chains[${index}]`
    if (names.has(chain.name)) ctx.refuse(`${path}.name`, `a second chain is called "${chain.name}"`)
    names.add(chain.name)
    for (const name of chain.serverNames.length === 0 ? ['every server name'] : chain.serverNames) {
      if (matched.has(name)) ctx.refuse(`${path}.filter_chain_match`, `a second chain matches ${name}`)
      matched.add(name)
    }
    if ((chain.tls === undefined) !== (chains[0]?.tls === undefined)) {
      ctx.refuse(`${path}.transport_socket`, 'TLS and plain TCP on one listener are not supported')
    }
  }
}

function readService(metadata: Metadata | undefined): ListenerConfig['service'] {
  const { host, port, protocol } = metadata?.filterMetadata['isthmus'] ?? {}
  return {
    host: typeof host === 'string' ? host : '',
    port: typeof port === 'number' ? port : 0,
    protocol: typeof protocol === 'string' ? protocol : '',
  }
}
