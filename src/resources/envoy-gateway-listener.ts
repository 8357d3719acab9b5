// The one port of a gateway that is an Envoy (1.40). It connects upstream and decides at other times than our engine does, so what it is
// sent is made so that nothing depends on that: docs/decisions/0025-an-envoy-gateway-has-a-chain-for-each-service.md.
import { create } from '@bufbuild/protobuf'
import { parseIpRange } from '../lib/ip-range.ts'
import { handshakePolicy, policiesFor } from '../model/handshake-policy.ts'
import { speaksFirst } from '../model/protocol.ts'
import type { GatewayPolicy, ModelPort } from '../model/types.ts'
import { type Listener, ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import {
  type TcpProxy,
  TcpProxySchema,
} from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { authorizationFilters } from './authorization-rules.ts'
import { type Callers, callerFilters } from './caller-rules.ts'
import { type DiscoveryRoute, discoveryChain } from './discovery-route.ts'
import { filter, seconds, TRUST_BUNDLES, tcpProxy } from './envoy.ts'
import { type Chain, edge, mutualTls, passthroughMatch } from './gateway-listener.ts'
import { handshakeCallers } from './handshake-callers.ts'
import { connectAfter, jitterDuration } from './newer-envoy.ts'
import { tellCaller } from './proxy-protocol-socket.ts'

/**
 * An Envoy never closes a connection because policy, trust, a certificate's end or a CRL would have it so. It lives for so long at most,
 * seconds, and a fifth more: less than the shortest SVIDs in use (1 h).
 */
const MAX_CONNECTION_S = 1_800
/** Connections that began together, say after a restart, do not end together. */
const JITTER_PERCENT = 20
/** Who is denied by policy, and silent, is not found out before his first byte: he may hold a connection, and nothing behind it, for so long. */
const IDLE_S = 600

/** One exposed port. */
export interface EnvoyGatewayService {
  /** Name of the cluster. */
  readonly upstream: string
  /** All names that lead there, its own first. */
  readonly serverNames: readonly string[]
  readonly passthrough: boolean
  readonly protocol: ModelPort['protocol']
}

/** What the listener is made of; plain data. */
export interface EnvoyGatewayShape {
  readonly bind: { readonly address: string; readonly port: number }
  readonly callers: Callers
  readonly policies: readonly GatewayPolicy[]
  readonly services: readonly EnvoyGatewayService[]
  /** Address ranges of load balancers that put the PROXY protocol in front. */
  readonly proxyProtocolSources: readonly string[]
  /** Names that lead to the discovery server. */
  readonly discovery: readonly DiscoveryRoute[]
  /** Its SDS file with its own certificate; empty: over ADS. */
  readonly credentialFile: string
}

export interface EnvoyGateway {
  readonly listener: Listener
  /** Secrets that it refers to: name → the trust domains whose bundles are in it. */
  readonly trust: ReadonlyMap<string, readonly string[]>
}

export function envoyGateway(shape: EnvoyGatewayShape): EnvoyGateway {
  const { bind, proxyProtocolSources: sources } = shape
  const trust = new Map<string, readonly string[]>()
  const trustOf = (trustDomains: readonly string[]): string => {
    const all = trustDomains.length === shape.callers.federated.length
    const name = all ? TRUST_BUNDLES : `${TRUST_BUNDLES}/${trustDomains.join(',')}`
    if (!all) trust.set(name, trustDomains)
    return name
  }
  const services = namedOnce(shape.services).flatMap((service) => chainOf(service, shape, trustOf) ?? [])
  const chains = [...services, ...shape.discovery.map(discoveryChain)]
  const filterChains = chains.length > 0 ? chains : [nothingExposed()]
  const listener = create(ListenerSchema, {
    ...edge(bind, sources),
    filterChains: sources.length > 0 ? filterChains.map((chain) => only(chain, sources)) : filterChains,
  })
  return { listener, trust }
}

/** A name that two chains ask for has an Envoy refuse them all: an own name counts before an alias, and the first of several. */
function namedOnce(services: readonly EnvoyGatewayService[]): EnvoyGatewayService[] {
  const own = new Set(services.map(({ serverNames: [name = ''] }) => name))
  const taken = new Set<string>()
  return services.flatMap((service) => {
    const [name = '', ...aliases] = service.serverNames
    if (taken.has(name)) return []
    const free = [name, ...aliases.filter((alias) => !taken.has(alias) && !own.has(alias))]
    for (const each of free) taken.add(each)
    return [{ ...service, serverNames: free }]
  })
}

/** A chain for each service: a change of one drains its connections alone, and an unknown name finds none and costs no cryptography. */
function chainOf(
  service: EnvoyGatewayService,
  shape: EnvoyGatewayShape,
  trustOf: (trustDomains: readonly string[]) => string,
): Chain | undefined {
  const policies = policiesFor(shape.policies, service.serverNames)
  return service.passthrough ? passThrough(service, policies) : terminate(service, policies, shape, trustOf)
}

function terminate(
  { upstream, serverNames, protocol }: EnvoyGatewayService,
  policies: readonly GatewayPolicy[],
  { callers, credentialFile }: EnvoyGatewayShape,
  trustOf: (trustDomains: readonly string[]) => string,
): Chain | undefined {
  const reaching = [...new Set(callers.callers.map(({ trustDomain }) => trustDomain))].sort()
  const policy = handshakePolicy(policies)
  const waits = speaksFirst(protocol) === 'client' || policy.decides === 'first byte'
  const { trustDomains, sans } = handshakeCallers(
    reaching,
    policy.decides === 'handshake' ? policy.ids : undefined,
  )
  if (trustDomains.length === 0) return undefined
  const proxy = bounded(upstream)
  connectAfter(proxy, waits ? 'first byte' : 'handshake')
  tellCaller(proxy)
  return {
    name: `terminate ${upstream}`,
    filterChainMatch: { transportProtocol: 'tls', serverNames: [...serverNames] },
    filters: [
      ...callerFilters(callers),
      ...authorizationFilters(policies, true),
      filter('envoy.filters.network.tcp_proxy', TcpProxySchema, proxy),
    ],
    ...mutualTls({ sans, credentialFile, trust: trustOf(trustDomains) }),
  }
}

/** The client speaks first, always: what is spliced begins with the rest of his handshake. */
function passThrough(
  { upstream, serverNames }: EnvoyGatewayService,
  policies: readonly GatewayPolicy[],
): Chain {
  const proxy = bounded(upstream)
  connectAfter(proxy, 'first byte')
  return {
    name: upstream,
    filterChainMatch: passthroughMatch(serverNames),
    filters: [
      ...authorizationFilters(policies, false),
      filter('envoy.filters.network.tcp_proxy', TcpProxySchema, proxy),
    ],
  }
}

function bounded(upstream: string): TcpProxy {
  const proxy = tcpProxy(upstream, upstream)
  proxy.maxDownstreamConnectionDuration = seconds(MAX_CONNECTION_S)
  proxy.idleTimeout = seconds(IDLE_S)
  jitterDuration(proxy, JITTER_PERCENT)
  return proxy
}

/** A listener has a chain, or an Envoy refuses it: one under a name that leads nowhere. */
function nothingExposed(): Chain {
  return {
    name: 'nothing is exposed',
    filterChainMatch: { transportProtocol: 'tls', serverNames: ['nothing-is-exposed.invalid'] },
    filters: [filter('envoy.filters.network.tcp_proxy', TcpProxySchema, tcpProxy('nothing', 'BlackHole'))],
  }
}

/** Envoy's PROXY protocol filter believes everybody, so nobody but the load balancers finds a chain. */
function only(chain: Chain, sources: readonly string[]): Chain {
  const ranges = sources.flatMap((source) => parseIpRange(source) ?? [])
  return {
    ...chain,
    filterChainMatch: {
      ...chain.filterChainMatch,
      directSourcePrefixRanges: ranges.map(({ address, prefixLength }) => ({
        addressPrefix: address,
        prefixLen: prefixLength,
      })),
    },
  } as Chain
}
