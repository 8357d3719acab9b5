// Listeners as our discovery sends them to any data plane, with everything that makes an Envoy gateway safe.
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { addFormattedTlvs } from '../../src/resources/newer-envoy.ts'
import type {
  Filter,
  FilterChainSchema,
} from '../../src/xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { TlsInspectorSchema } from '../../src/xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { SniClusterSchema } from '../../src/xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../../src/xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import {
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol as TlsProtocol,
} from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { DownstreamTlsContextSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { encodeResource } from '../../src/xds/resource.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { allow, filterOf, passthroughChain, socketAddress, typed, uriPrincipal } from '../proxy/support.ts'

/** `UpstreamConnectMode` of `TcpProxy`, as far as it is safe behind TLS. */
export const CONNECT_MODE = { data: 1, handshake: 2 } as const

export interface ChainSpec {
  readonly name?: string
  /** Exact server names; none: every name. */
  readonly serverNames?: readonly string[]
  /** Default: everybody may. */
  readonly rbac?: readonly Filter[]
  readonly alpn?: readonly string[]
  readonly idleTimeoutS?: number
  readonly maxDurationS?: number
  readonly maxConnectAttempts?: number
  /** Type and format. */
  readonly proxyProtocolTlvs?: readonly (readonly [type: number, format: string])[]
  /** Default `handshake`. */
  readonly connectMode?: keyof typeof CONNECT_MODE
  readonly handshakeTimeoutS?: number
  /** SDS name of the validation context; default `ROOTCA`. */
  readonly trust?: string
  /** Splices mesh TLS to the upstream of the server name instead of terminating; all of the above but the names is for terminating. */
  readonly passthrough?: boolean
  /** `match_typed_subject_alt_names`: prefixes of URIs. */
  readonly peerPrefixes?: readonly string[]
}

// Exactly as in the clusters: Envoy keys its SDS subscriptions by this, and a second one for the same name is never answered.
const ADS = { configSourceSpecifier: { case: 'ads' as const, value: {} } }
const sds = (name: string) => ({ name, sdsConfig: ADS })
const duration = (s: number) => ({ seconds: BigInt(Math.floor(s)), nanos: Math.round((s % 1) * 1e9) })

/** A terminating listener on a free port of 127.0.0.1. */
export function edge(name: string, chains: readonly ChainSpec[] = [{}]): XdsResource {
  return encodeResource(
    ListenerSchema,
    {
      name,
      address: socketAddress('127.0.0.1', 0),
      listenerFilters: [
        {
          name: 'envoy.filters.listener.tls_inspector',
          configType: typed(TlsInspectorSchema, create(TlsInspectorSchema)),
        },
      ],
      listenerFiltersTimeout: duration(chains[0]?.handshakeTimeoutS ?? 5),
      filterChains: chains.map((chain, index) =>
        chain.passthrough === true
          ? passthroughChain({ serverNames: chain.serverNames ?? [] })
          : terminating(chain, index),
      ),
    },
    name,
  )
}

function terminating(chain: ChainSpec, index: number): MessageInitShape<typeof FilterChainSchema> {
  return {
    name: chain.name ?? `chain-${index}`,
    filterChainMatch: { transportProtocol: 'tls', serverNames: [...(chain.serverNames ?? [])] },
    filters: [
      ...(chain.rbac ?? [allow({ everyone: [uriPrincipal('prefix', 'spiffe://')] })]),
      filterOf(SniClusterSchema, create(SniClusterSchema)),
      proxy(chain),
    ],
    transportSocket: {
      name: 'envoy.transport_sockets.tls',
      configType: typed(DownstreamTlsContextSchema, downstreamTls(chain)),
    },
    transportSocketConnectTimeout: duration(chain.handshakeTimeoutS ?? 5),
  }
}

function proxy(chain: ChainSpec): Filter {
  const message = create(TcpProxySchema, {
    statPrefix: 'edge',
    clusterSpecifier: { case: 'cluster', value: 'BlackHole' },
    maxConnectAttempts: chain.maxConnectAttempts ?? 3,
    ...(chain.idleTimeoutS === undefined ? {} : { idleTimeout: duration(chain.idleTimeoutS) }),
    ...(chain.maxDurationS === undefined
      ? {}
      : { maxDownstreamConnectionDuration: duration(chain.maxDurationS) }),
  })
  const mode = CONNECT_MODE[chain.connectMode ?? 'handshake']
  const early = new BinaryWriter().tag(1, WireType.Varint).uint32(65_536).finish()
  message.$unknown = [
    { no: 21, wireType: WireType.Varint, data: new BinaryWriter().uint32(mode).finish() },
    { no: 22, wireType: WireType.LengthDelimited, data: new BinaryWriter().bytes(early).finish() },
  ]
  addFormattedTlvs(message, chain.proxyProtocolTlvs ?? [])
  return filterOf(TcpProxySchema, message)
}

function downstreamTls(chain: ChainSpec) {
  const { alpn = ['h2', 'http/1.1', 'istio'], trust = 'ROOTCA', peerPrefixes = [] } = chain
  return create(DownstreamTlsContextSchema, {
    requireClientCertificate: true,
    disableStatefulSessionResumption: true,
    sessionTicketKeysType: { case: 'disableStatelessSessionResumption', value: true },
    commonTlsContext: {
      tlsParams: {
        tlsMinimumProtocolVersion: TlsProtocol.TLSv1_2,
        tlsMaximumProtocolVersion: TlsProtocol.TLSv1_3,
      },
      alpnProtocols: [...alpn],
      tlsCertificateSdsSecretConfigs: [sds('default')],
      validationContextType: {
        case: 'combinedValidationContext',
        value: {
          defaultValidationContext: {
            matchTypedSubjectAltNames: peerPrefixes.map((value) => ({
              sanType: SubjectAltNameMatcher_SanType.URI,
              matcher: { matchPattern: { case: 'prefix' as const, value } },
            })),
          },
          validationContextSdsSecretConfig: sds(trust),
        },
      },
    },
  })
}
