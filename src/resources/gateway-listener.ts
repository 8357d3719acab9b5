// A gateway's one port: what is terminated, what is passed through, and who speaks for whom.
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import type { GatewayPolicy } from '../model/types.ts'
import type {
  FilterChainSchema,
  ListenerFilterSchema,
} from '../xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { type Listener, ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { ProxyProtocolSchema } from '../xds/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js'
import { TlsInspectorSchema } from '../xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { SniClusterSchema } from '../xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import type { SubjectAltNameMatcher } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { DownstreamTlsContextSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { OWN_METADATA } from './accept-aliases.ts'
import { PROXY_PROTOCOL_SOURCES } from './accept-listener-filters.ts'
import { authorizationFilters } from './authorization-rules.ts'
import { type Callers, callerFilters } from './caller-rules.ts'
import { type DiscoveryRoute, discoveryChain } from './discovery-route.ts'
import { filter, pack, seconds, socketAddress, tcpProxy, tlsContext, transportSocket } from './envoy.ts'
import { ISTIO_PROTOCOLS } from './istio-protocols.ts'
import { tellCaller } from './proxy-protocol-socket.ts'

export type Chain = MessageInitShape<typeof FilterChainSchema>

/** What the listener is made of; plain data. */
export interface GatewayListenerShape {
  readonly bind: { readonly address: string; readonly port: number }
  readonly callers: Callers
  readonly policies: readonly GatewayPolicy[]
  /** Server names, aliases among them, and the upstream of each service that is passed through. */
  readonly passthrough: readonly { readonly upstream: string; readonly serverNames: readonly string[] }[]
  /** Address ranges of load balancers that put the PROXY protocol in front. */
  readonly proxyProtocolSources: readonly string[]
  /** Names that lead to the discovery server. */
  readonly discovery: readonly DiscoveryRoute[]
}

/** The listener of our own gateway: it decides before it connects, whoever speaks first, and reads what stands in our metadata. */
export function gatewayListener(shape: GatewayListenerShape): Listener {
  const { bind, passthrough, policies, proxyProtocolSources: sources } = shape
  const chains = [
    terminate(shape),
    ...passthrough.map((service) => passThrough(service, policies)),
    ...shape.discovery.map(discoveryChain),
  ]
  return create(ListenerSchema, {
    ...edge(bind, sources),
    filterChains: chains,
    ...(sources.length > 0
      ? { metadata: { filterMetadata: { [OWN_METADATA]: { [PROXY_PROTOCOL_SOURCES]: [...sources] } } } }
      : {}),
  })
}

/** What a gateway's listener is, whoever runs it; `sources` are the load balancers that speak the PROXY protocol. */
export function edge(bind: GatewayListenerShape['bind'], sources: readonly string[]) {
  return {
    name: 'eastwest',
    address: socketAddress(bind.address, bind.port),
    listenerFilters: [...(sources.length > 0 ? [proxyProtocol()] : []), tlsInspector()],
    listenerFiltersTimeout: seconds(5),
  }
}

function terminate({ callers, policies }: GatewayListenerShape): Chain {
  const proxy = tcpProxy('eastwest', 'BlackHole')
  tellCaller(proxy)
  return {
    name: 'terminate',
    filterChainMatch: { transportProtocol: 'tls' },
    filters: [
      ...callerFilters(callers),
      ...authorizationFilters(policies, true),
      filter('envoy.filters.network.sni_cluster', SniClusterSchema, create(SniClusterSchema)),
      filter('envoy.filters.network.tcp_proxy', TcpProxySchema, proxy),
    ],
    ...mutualTls({}),
  }
}

export interface DownstreamTls {
  /** Of the client's certificate. Default: any. */
  readonly sans?: readonly SubjectAltNameMatcher[]
  /** An Envoy's SDS file with its own certificate; empty for our gateway. */
  readonly credentialFile?: string
  /** Name of the Secret with the bundles that count. Default: all there are. */
  readonly trust?: string
}

/** A chain's own end of mutual TLS. */
export function mutualTls({ sans = [], credentialFile = '', trust }: DownstreamTls) {
  const tls = create(DownstreamTlsContextSchema, {
    requireClientCertificate: true,
    disableStatefulSessionResumption: true,
    sessionTicketKeysType: { case: 'disableStatelessSessionResumption', value: true },
    commonTlsContext: tlsContext(['h2', 'http/1.1', 'istio'], sans, credentialFile, trust),
  })
  return {
    transportSocket: transportSocket('envoy.transport_sockets.tls', DownstreamTlsContextSchema, tls),
    transportSocketConnectTimeout: seconds(5),
  }
}

/** Only mesh TLS is passed through (decision 0011). */
export const passthroughMatch = (serverNames: readonly string[]): Chain['filterChainMatch'] => ({
  transportProtocol: 'tls',
  serverNames: [...serverNames],
  applicationProtocols: [...ISTIO_PROTOCOLS],
})

/** A chain for each service. */
function passThrough(
  { upstream, serverNames }: GatewayListenerShape['passthrough'][number],
  policies: readonly GatewayPolicy[],
): Chain {
  return {
    name: `passthrough ${upstream}`,
    filterChainMatch: passthroughMatch(serverNames),
    filters: [
      ...authorizationFilters(policies, false),
      filter(
        'envoy.filters.network.tcp_proxy',
        TcpProxySchema,
        tcpProxy(`passthrough.${upstream}`, upstream),
      ),
    ],
  }
}

function tlsInspector(): MessageInitShape<typeof ListenerFilterSchema> {
  const value = pack(TlsInspectorSchema, create(TlsInspectorSchema))
  return { name: 'envoy.filters.listener.tls_inspector', configType: { case: 'typedConfig', value } }
}

function proxyProtocol(): MessageInitShape<typeof ListenerFilterSchema> {
  const value = pack(ProxyProtocolSchema, create(ProxyProtocolSchema))
  return { name: 'envoy.filters.listener.proxy_protocol', configType: { case: 'typedConfig', value } }
}
