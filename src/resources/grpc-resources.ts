// What a gRPC client (proxyless: gRFC A27, A28, A29, A37) is told: the subset that grpc-js, C-core and grpc-go take whole. Each of
// them refuses a Cluster with `transport_socket_matches`, `tls_params`, SDS, or a `lb_policy` beyond ROUND_ROBIN.
import { create } from '@bufbuild/protobuf'
import { own } from '../lib/own.ts'
import { formatServerName } from '../model/server-name.ts'
import type { Model } from '../model/types.ts'
import {
  Cluster_DiscoveryType,
  ClusterSchema,
  type Cluster as XdsCluster,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { RouteConfigurationSchema } from '../xds/gen/envoy/config/route/v3/route_pb.js'
import { ClusterConfigSchema } from '../xds/gen/envoy/extensions/clusters/aggregate/v3/cluster_pb.js'
import { HttpConnectionManagerSchema } from '../xds/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js'
import { UpstreamTlsContextSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { TYPE } from '../xds/types.ts'
import { type CallableHost, type CallablePort, callableHosts, hostNamesOf, upstreamName } from './callable.ts'
import { type EdsEndpoint, loadAssignment, normalise } from './endpoints.ts'
import { adsSource, NO_CIRCUIT_BREAKERS, pack, transportSocket } from './envoy.ts'
import { grpcConnectionManager, grpcRoutes, routeName } from './http-resources.ts'
import { SnapshotBuilder } from './snapshot-builder.ts'

/** The certificate provider, of the client's bootstrap, that has its SVID and the CAs that it trusts; Istio's name for it. */
const CERTIFICATE_PROVIDER = 'default'

/**
 * What gRPC clients of the cluster resolve: `xds:///HOST:PORT` for each port of each callable host and its short names. Nothing in it
 * is secret, nor bound to one client, so that all share one view.
 */
export function grpcResources(model: Model, previous?: SnapshotBuilder): SnapshotBuilder {
  const builder = new SnapshotBuilder(previous)
  for (const type of [TYPE.cluster, TYPE.endpoints, TYPE.listener, TYPE.route]) builder.type(type)
  const hosts = callableHosts(model, false, undefined, builder.memo('hosts'))
  const hostNames = new Set(hosts.map(({ host }) => host))
  for (const callable of hosts) {
    // What is a host's own name is nobody's short name.
    const names = hostNamesOf(callable).filter((name) => name === callable.host || !hostNames.has(name))
    builder.group(callable.host, { callable, names }, () => {
      for (const port of callable.ports) {
        addUpstreams(builder, callable, port)
        addNames(builder, callable.host, names, port.number)
      }
    })
  }
  return builder
}

/** One Listener for each name that the port goes by; all share one RouteConfiguration. */
function addNames(builder: SnapshotBuilder, host: string, names: readonly string[], port: number): void {
  const route = routeName(host, port)
  for (const each of names) {
    const name = `${each}:${port}`
    builder.message(TYPE.listener, ListenerSchema, name, route, () =>
      create(ListenerSchema, {
        name,
        apiListener: { apiListener: pack(HttpConnectionManagerSchema, grpcConnectionManager(route)) },
      }),
    )
  }
  const upstream = upstreamName(host, port)
  builder.message(TYPE.route, RouteConfigurationSchema, route, upstream, () => grpcRoutes(route, upstream))
}

/** Endpoints that are spoken to in one way, and so can share a Cluster. */
interface Group {
  readonly name: string
  /** SPIFFE ids of whom may answer; undefined: in clear. */
  readonly ids: readonly string[] | undefined
  readonly endpoints: readonly EdsEndpoint[]
}

/**
 * One Cluster cannot hold endpoints in clear beside those over TLS, nor gateways with different pins: each kind has its own, and an
 * aggregate cluster tries them one after the other, the nearest first. It is one even where there is a single kind, since a Cluster that
 * turned from EDS into an aggregate would end a process on C-core (seen with 1.85).
 */
function addUpstreams(builder: SnapshotBuilder, callable: CallableHost, port: CallablePort): void {
  const name = upstreamName(callable.host, port.number)
  const sni = formatServerName({ port: port.number, subset: '', host: callable.host })
  const parts: string[] = []
  for (const { name: kind, ids, endpoints } of groupsOf(callable, port)) {
    const part = `${name}|${kind}`
    parts.push(part)
    builder.message(TYPE.cluster, ClusterSchema, part, { sni, ids }, () => edsCluster(part, sni, ids))
    builder.message(TYPE.endpoints, ClusterLoadAssignmentSchema, part, endpoints, () =>
      loadAssignment(part, endpoints),
    )
  }
  builder.message(TYPE.cluster, ClusterSchema, name, parts, () => aggregate(name, parts))
}

/**
 * By what the host is, and not by who is ready just now: other parts make a client connect anew. The order is that of the host's failover
 * rule, by the best endpoint of each; in clear comes first where it is as good. Endpoints that expect a PROXY protocol header are left
 * out, since a gRPC client has none to send.
 */
function groupsOf(callable: CallableHost, port: CallablePort): Group[] {
  const { gatewayIds, pins, proxyProtocol } = callable
  const clear = proxyProtocol === undefined ? port.endpoints.filter(({ mtls }) => !mtls) : []
  const remote = new Map<string, EdsEndpoint[]>()
  for (const endpoint of port.endpoints) {
    if (!endpoint.mtls) continue
    const of = endpoint.cluster ?? ''
    remote.set(of, [...(remote.get(of) ?? []), endpoint])
  }
  const groups: Group[] = [...remote]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([cluster, endpoints]) => ({
      // No cluster's name has a bar in it.
      name: cluster === '' ? 'tls' : `tls|${cluster}`,
      ids: own(pins, cluster) ?? gatewayIds,
      endpoints,
    }))
  if (callable.own || clear.length > 0 || remote.size === 0)
    groups.unshift({ name: 'clear', ids: undefined, endpoints: clear })
  // Sorting is stable. A group that nobody is in just now takes no calls wherever it stands.
  return groups
    .sort((a, b) => best(a) - best(b))
    .map((group) => ({ ...group, endpoints: normalise(group.endpoints) }))
}

const best = ({ endpoints }: Group): number =>
  endpoints.length === 0 ? 0 : Math.min(...endpoints.map(({ priority }) => priority))

function edsCluster(name: string, sni: string, ids: readonly string[] | undefined): XdsCluster {
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { serviceName: name, edsConfig: adsSource() },
    circuitBreakers: NO_CIRCUIT_BREAKERS,
    ...(ids !== undefined && { transportSocket: mutualTls(sni, ids) }),
  })
}

function aggregate(name: string, clusters: readonly string[]): XdsCluster {
  const value = pack(ClusterConfigSchema, create(ClusterConfigSchema, { clusters: [...clusters] }))
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: {
      case: 'clusterType',
      value: { name: 'envoy.clusters.aggregate', typedConfig: value },
    },
  })
}

/** gRFC A29: the untyped, deprecated list of names is the one that gRPC reads; `sni` counts with A101 only, and is ignored before. */
function mutualTls(sni: string, ids: readonly string[]) {
  const provider = { instanceName: CERTIFICATE_PROVIDER, certificateName: '' }
  const context = create(UpstreamTlsContextSchema, {
    sni,
    commonTlsContext: {
      tlsCertificateProviderInstance: provider,
      validationContextType: {
        case: 'combinedValidationContext',
        value: {
          defaultValidationContext: {
            caCertificateProviderInstance: provider,
            matchSubjectAltNames: ids.map((id) => ({ matchPattern: { case: 'exact' as const, value: id } })),
          },
        },
      },
    },
  })
  return transportSocket('envoy.transport_sockets.tls', UpstreamTlsContextSchema, context)
}
