import { isReservedServerName } from '../model/discovery-name.ts'
import type { FilterChain } from '../xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { RBACSchema } from '../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { type AcceptContext, typeOf } from './accept-context.ts'
import { readRbac } from './accept-rbac.ts'
import { NO_TCP_PROXY, readTcpProxy } from './accept-tcp-proxy.ts'
import { readDownstreamTls } from './accept-tls.ts'
import type { FilterChainConfig, FilterChainMatch, RbacConfig } from './accept-types.ts'
import { DISCOVERY_PROTOCOLS, ISTIO_PROTOCOLS } from './istio-protocols.ts'

/** Allow-list of `filter_chains`. */
export const FILTER_CHAIN_FIELDS = {
  name: true,
  filter_chain_match: { server_names: true, transport_protocol: true, application_protocols: true },
  filters: { name: true, typed_config: true },
  transport_socket: { name: true, typed_config: true },
  transport_socket_connect_timeout: true,
} as const

/**
 * One filter chain: `terminate` with a `DownstreamTlsContext`; without a transport socket `passthrough` where its match asks for
 * TLS (a server name, an application protocol, transport protocol `tls`), else `plain`.
 */
export function readFilterChain(
  ctx: AcceptContext,
  chain: FilterChain,
  index: number,
  helloTimeoutMs: number,
): FilterChainConfig {
  const path = `filter_chains[${index}]`
  const filters = readFilters(ctx, chain, path)
  const match = readMatch(ctx, chain, `${path}.filter_chain_match`)
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
  const mode = tls !== undefined ? 'terminate' : asksForTls(match) ? 'passthrough' : 'plain'
  const read: FilterChainConfig = {
    name: chain.name === '' ? `chain-${index}` : chain.name,
    mode,
    match,
    tls,
    ...filters,
  }
  checkMode(ctx, read, path)
  return read
}

function readMatch(ctx: AcceptContext, chain: FilterChain, path: string): FilterChainMatch {
  const { serverNames = [], transportProtocol = '', applicationProtocols = [] } = chain.filterChainMatch ?? {}
  for (const [i, name] of serverNames.entries()) {
    if (name.includes('*')) ctx.refuse(`${path}.server_names[${i}]`, 'wildcards are not supported')
    if (name === '') ctx.refuse(`${path}.server_names[${i}]`, 'expected a name, found an empty text')
  }
  for (const [i, name] of applicationProtocols.entries()) {
    if (name === '') ctx.refuse(`${path}.application_protocols[${i}]`, 'expected a name, found an empty text')
  }
  const known = transportProtocol === '' || transportProtocol === 'tls' || transportProtocol === 'raw_buffer'
  if (!known)
    ctx.refuse(`${path}.transport_protocol`, `expected "tls" or "raw_buffer", found "${transportProtocol}"`)
  return {
    serverNames: serverNames.map((name) => name.toLowerCase()),
    transportProtocol: known ? transportProtocol : '',
    applicationProtocols,
  }
}

const asksForTls = (match: FilterChainMatch): boolean =>
  match.serverNames.length > 0 || match.applicationProtocols.length > 0 || match.transportProtocol === 'tls'

function checkMode(ctx: AcceptContext, { mode, match, sniCluster }: FilterChainConfig, path: string): void {
  if (mode === 'terminate' && match.transportProtocol === 'raw_buffer') {
    ctx.refuse(`${path}.filter_chain_match.transport_protocol`, 'expected "tls", found "raw_buffer"')
  }
  if (mode === 'passthrough') checkPassthrough(ctx, match, `${path}.filter_chain_match`)
  if (mode === 'plain' && sniCluster)
    ctx.refuse(`${path}.filters`, 'sni_cluster is not supported without TLS')
}

/**
 * What is passed through is verified by nobody here, so it must be mesh TLS: Envoy would splice any TLS to any endpoint, this engine
 * takes no chain that could.
 */
function checkPassthrough(ctx: AcceptContext, match: FilterChainMatch, path: string): void {
  if (match.transportProtocol === 'raw_buffer')
    ctx.refuse(`${path}.transport_protocol`, 'expected "tls", found "raw_buffer"')
  if (match.applicationProtocols.length === 0) {
    ctx.refuse(
      `${path}.application_protocols`,
      `expected some of ${ISTIO_PROTOCOLS.join(', ')}: without a transport_socket only mesh TLS is passed through`,
    )
  }
  // The one thing that is no workload and terminates mesh TLS: a cluster's discovery server, under names that no service can have.
  const discovery = match.serverNames.length > 0 && match.serverNames.every(isReservedServerName)
  if (discovery && match.applicationProtocols.every((name) => DISCOVERY_PROTOCOLS.includes(name))) return
  for (const [i, name] of match.applicationProtocols.entries()) {
    if (!ISTIO_PROTOCOLS.includes(name))
      ctx.refuse(
        `${path}.application_protocols[${i}]`,
        `expected one of ${ISTIO_PROTOCOLS.join(', ')}, found "${name}"`,
      )
  }
}

type Filters = Omit<FilterChainConfig, 'name' | 'mode' | 'match' | 'tls'>

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
        const rules = readRbac(ctx, any, filter.name, path)
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
  return { rbac, sniCluster, ...(proxy ?? NO_TCP_PROXY) }
}
