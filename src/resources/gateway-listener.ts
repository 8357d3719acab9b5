// A gateway's one port: what is terminated, what is passed through, and who speaks for whom.
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { parseIpRange } from '../lib/ip-range.ts'
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
import { DownstreamTlsContextSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { OWN_METADATA } from './accept-aliases.ts'
import { PROXY_PROTOCOL_SOURCES } from './accept-listener-filters.ts'
import { authorizationFilters } from './authorization-rules.ts'
import { type Callers, callerFilters } from './caller-rules.ts'
import { filter, pack, seconds, socketAddress, tcpProxy, tlsContext, transportSocket } from './envoy.ts'
import { ISTIO_PROTOCOLS } from './istio-protocols.ts'
import { connectAfterHandshake } from './newer-envoy.ts'
import { tellCaller } from './proxy-protocol-socket.ts'

type Chain = MessageInitShape<typeof FilterChainSchema>

/** What the listener is made of; plain data. */
export interface GatewayListenerShape {
  readonly bind: { readonly address: string; readonly port: number }
  readonly callers: Callers
  readonly policies: readonly GatewayPolicy[]
  /** Server names, aliases among them, and the upstream of each service that is passed through. */
  readonly passthrough: readonly { readonly upstream: string; readonly serverNames: readonly string[] }[]
  /** Address ranges of load balancers that put the PROXY protocol in front. */
  readonly proxyProtocolSources: readonly string[]
  /** An Envoy's SDS file with its own certificate; empty for our gateway. */
  readonly credentialFile: string
  /** Whether the client is our own engine, which reads what stands in our metadata. */
  readonly ours: boolean
}

export function gatewayListener(shape: GatewayListenerShape): Listener {
  const { bind, passthrough, proxyProtocolSources: sources, ours } = shape
  const chains = [terminate(shape), ...passthrough.map((service) => passThrough(service, shape.policies))]
  return create(ListenerSchema, {
    name: 'eastwest',
    address: socketAddress(bind.address, bind.port),
    listenerFilters: [...(sources.length > 0 ? [proxyProtocol()] : []), tlsInspector()],
    listenerFiltersTimeout: seconds(5),
    filterChains: sources.length > 0 && !ours ? chains.map((chain) => only(chain, sources)) : chains,
    ...(sources.length > 0
      ? { metadata: { filterMetadata: { [OWN_METADATA]: { [PROXY_PROTOCOL_SOURCES]: [...sources] } } } }
      : {}),
  })
}

function terminate({ callers, policies, credentialFile }: GatewayListenerShape): Chain {
  // Not ON_DOWNSTREAM_DATA, which would deadlock protocols where the server speaks first.
  const proxy = tcpProxy('eastwest', 'BlackHole')
  connectAfterHandshake(proxy, 65_536)
  tellCaller(proxy)
  const tls = create(DownstreamTlsContextSchema, {
    requireClientCertificate: true,
    disableStatefulSessionResumption: true,
    sessionTicketKeysType: { case: 'disableStatelessSessionResumption', value: true },
    commonTlsContext: tlsContext(['h2', 'http/1.1', 'istio'], [], credentialFile),
  })
  return {
    name: 'terminate',
    filterChainMatch: { transportProtocol: 'tls' },
    filters: [
      ...callerFilters(callers),
      ...authorizationFilters(policies, true),
      filter('envoy.filters.network.sni_cluster', SniClusterSchema, create(SniClusterSchema)),
      filter('envoy.filters.network.tcp_proxy', TcpProxySchema, proxy),
    ],
    transportSocket: transportSocket('envoy.transport_sockets.tls', DownstreamTlsContextSchema, tls),
    transportSocketConnectTimeout: seconds(5),
  }
}

/** A chain for each service: a name that is added to a chain makes an Envoy drain all its connections. */
function passThrough(
  { upstream, serverNames }: GatewayListenerShape['passthrough'][number],
  policies: readonly GatewayPolicy[],
): Chain {
  return {
    name: `passthrough ${upstream}`,
    filterChainMatch: {
      transportProtocol: 'tls',
      serverNames: [...serverNames],
      applicationProtocols: [...ISTIO_PROTOCOLS],
    },
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

/** Envoy's PROXY protocol filter believes everybody, so there nobody but the load balancers finds a chain. */
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

function tlsInspector(): MessageInitShape<typeof ListenerFilterSchema> {
  const value = pack(TlsInspectorSchema, create(TlsInspectorSchema))
  return { name: 'envoy.filters.listener.tls_inspector', configType: { case: 'typedConfig', value } }
}

function proxyProtocol(): MessageInitShape<typeof ListenerFilterSchema> {
  const value = pack(ProxyProtocolSchema, create(ProxyProtocolSchema))
  return { name: 'envoy.filters.listener.proxy_protocol', configType: { case: 'typedConfig', value } }
}
