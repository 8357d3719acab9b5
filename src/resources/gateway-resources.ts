import { create } from '@bufbuild/protobuf'
import { formatServerName } from '../model/server-name.ts'
import type { Model, ModelGateway } from '../model/types.ts'
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
  type Cluster as XdsCluster,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { type Listener, ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { TlsInspectorSchema } from '../xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { SniClusterSchema } from '../xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { DownstreamTlsContextSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { TYPE } from '../xds/types.ts'
import { type Callers, callerFilters, callersOf } from './caller-rules.ts'
import { loadAssignment, localEndpoints, normalise } from './endpoints.ts'
import {
  adsSource,
  type DomainBundle,
  filter,
  NO_CIRCUIT_BREAKERS,
  pack,
  seconds,
  socketAddress,
  TRUST_BUNDLES,
  tcpProxy,
  tlsContext,
  transportSocket,
  trustBundleSecret,
} from './envoy.ts'
import { connectAfterHandshake } from './newer-envoy.ts'
import { SnapshotBuilder } from './snapshot-builder.ts'

export interface GatewayOptions {
  /** Where the listener binds. */
  readonly bind: { readonly address: string; readonly port: number }
  /** This cluster's own trust bundle and its peers', by trust domain. */
  readonly bundles: readonly DomainBundle[]
  /** Whether the client knows our principal for a caller's issuer, as our own engine does. Default false. */
  readonly issuers?: boolean
  /** False for clients in clear: everything but the Secret. */
  readonly secrets: boolean
  /** An Envoy's SDS file with its own certificate; empty for our gateway. */
  readonly credentialFile: string
}

/**
 * What one gateway serves: a listener that terminates mutual TLS, decides on the caller's verified identity and routes by
 * SNI to the upstream of the same name. A gateway that is gone (undefined) has nothing left, which drains it.
 */
export function gatewayResources(
  model: Model,
  gateway: ModelGateway | undefined,
  options: GatewayOptions,
  previous?: SnapshotBuilder,
): SnapshotBuilder {
  const builder = new SnapshotBuilder(previous)
  for (const typeUrl of [TYPE.cluster, TYPE.endpoints, TYPE.listener]) builder.type(typeUrl)
  if (options.secrets) builder.type(TYPE.secret)
  if (gateway === undefined) return builder

  addUpstreams(builder, model, `${gateway.namespace}/${gateway.name}`)
  const { bundles, bind, credentialFile } = options
  const callers = callersOf(model, options)
  builder.message(TYPE.listener, ListenerSchema, 'eastwest', { bind, callers, credentialFile }, () =>
    listener(options, callers),
  )
  if (options.secrets) {
    builder.message(TYPE.secret, SecretSchema, TRUST_BUNDLES, bundles, () => trustBundleSecret(bundles))
  }
  return builder
}

function addUpstreams(builder: SnapshotBuilder, model: Model, gateway: string): void {
  for (const { service, decision, gateway: servedBy } of model.exposures.values()) {
    if (!decision.allowed || servedBy !== gateway) continue
    for (const port of service.ports) {
      const name = formatServerName({ port: port.number, subset: '', host: service.host })
      const endpoints = normalise(localEndpoints(port.endpoints, model.self.locality))
      builder.message(TYPE.cluster, ClusterSchema, name, {}, () => upstream(name))
      builder.message(TYPE.endpoints, ClusterLoadAssignmentSchema, name, endpoints, () =>
        loadAssignment(name, endpoints),
      )
    }
  }
}

function upstream(name: string): XdsCluster {
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
    connectTimeout: seconds(5),
    lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
    edsClusterConfig: { serviceName: name, edsConfig: adsSource(5) },
    circuitBreakers: NO_CIRCUIT_BREAKERS,
    // Without it Envoy routes to endpoints that are all unhealthy.
    commonLbConfig: { healthyPanicThreshold: { value: 0 } },
  })
}

function listener({ bind, credentialFile }: GatewayOptions, callers: Callers): Listener {
  // Not ON_DOWNSTREAM_DATA, which would deadlock protocols where the server speaks first.
  const proxy = tcpProxy('eastwest', 'BlackHole')
  connectAfterHandshake(proxy, 65_536)
  const tls = create(DownstreamTlsContextSchema, {
    requireClientCertificate: true,
    disableStatefulSessionResumption: true,
    sessionTicketKeysType: { case: 'disableStatelessSessionResumption', value: true },
    commonTlsContext: tlsContext(['h2', 'http/1.1', 'istio'], [], credentialFile),
  })
  return create(ListenerSchema, {
    name: 'eastwest',
    address: socketAddress(bind.address, bind.port),
    listenerFilters: [
      {
        name: 'envoy.filters.listener.tls_inspector',
        configType: { case: 'typedConfig', value: pack(TlsInspectorSchema, create(TlsInspectorSchema)) },
      },
    ],
    listenerFiltersTimeout: seconds(5),
    filterChains: [
      {
        name: 'terminate',
        filterChainMatch: { transportProtocol: 'tls' },
        filters: [
          ...callerFilters(callers),
          filter('envoy.filters.network.sni_cluster', SniClusterSchema, create(SniClusterSchema)),
          filter('envoy.filters.network.tcp_proxy', TcpProxySchema, proxy),
        ],
        transportSocket: transportSocket('envoy.transport_sockets.tls', DownstreamTlsContextSchema, tls),
        transportSocketConnectTimeout: seconds(5),
      },
    ],
  })
}
