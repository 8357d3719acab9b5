import { type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import { isLoopback } from '../../lib/loopback.ts'
import {
  type Cluster,
  ClusterSchema,
  Cluster_DiscoveryType as DiscoveryType,
} from '../../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import {
  type ApiConfigSource,
  ApiConfigSource_ApiType as ApiType,
  type ConfigSource,
} from '../../xds/gen/envoy/config/core/v3/config_source_pb.js'
import { AcceptContext } from '../accept-context.ts'
import { type Allowed, unsupportedFields } from '../accept-fields.ts'
import { readUpstreamTls } from '../accept-tls.ts'
import type { Address, UpstreamTls } from '../accept-types.ts'
import type { BootstrapContext } from './context.ts'

/** The stream to a discovery server, as a bootstrap describes it. */
export interface AdsConfig {
  readonly target: Address | { readonly path: string }
  readonly mode: 'delta' | 'sotw'
  /** Undefined: in clear, to this machine only. */
  readonly tls: UpstreamTls | undefined
  /** Whether listeners and clusters come over it too. */
  readonly listeners: boolean
  readonly clusters: boolean
}

export const ADS_SOURCE: Allowed = { ads: true, resource_api_version: true, initial_fetch_timeout: true }
export const ADS_FIELDS: Allowed = {
  api_type: true,
  transport_api_version: true,
  // The node goes with the first message of a stream, always.
  set_node_on_first_message_only: true,
  grpc_services: { envoy_grpc: { cluster_name: true } },
}
export const CLUSTER_FIELDS: Allowed = {
  name: true,
  type: true,
  connect_timeout: true,
  lb_policy: true,
  // That it speaks HTTP/2 is a matter of course for gRPC.
  typed_extension_protocol_options: true,
  http2_protocol_options: true,
  load_assignment: {
    cluster_name: true,
    endpoints: {
      lb_endpoints: {
        endpoint: { address: { socket_address: { address: true, port_value: true }, pipe: { path: true } } },
      },
    },
  },
  transport_socket: { name: true, typed_config: true },
}

interface Sources {
  readonly ads: ApiConfigSource | undefined
  readonly listeners: ConfigSource | undefined
  readonly clusters: ConfigSource | undefined
}

/** The cluster that `ads_config` names; undefined after a refusal, or where there is no `ads_config`. */
export function adsCluster(context: BootstrapContext, ads: ApiConfigSource | undefined): string | undefined {
  if (ads === undefined) return undefined
  const path = 'dynamic_resources.ads_config'
  if (ads.apiType !== ApiType.GRPC && ads.apiType !== ApiType.DELTA_GRPC)
    context.refuse(`${path}.api_type`, 'expected GRPC or DELTA_GRPC')
  const [service, ...others] = ads.grpcServices
  if (others.length > 0)
    context.refuse(`${path}.grpc_services`, `expected one, found ${ads.grpcServices.length}`)
  const target = service?.targetSpecifier
  if (target?.case === 'envoyGrpc' && target.value.clusterName !== '') return target.value.clusterName
  context.refuse(`${path}.grpc_services`, 'expected one with envoy_grpc.cluster_name')
  return undefined
}

/** `cluster` is that of `adsCluster`, as it was read; `path` its place. */
export function readAds(
  context: BootstrapContext,
  sources: Sources,
  cluster: { readonly desc: DescMessage; readonly message: Message; readonly path: string },
): AdsConfig | undefined {
  const { desc, message, path } = cluster
  for (const field of unsupportedFields(desc, message, CLUSTER_FIELDS, path))
    context.refuse(field, 'not supported')
  const found = fromBinary(ClusterSchema, toBinary(desc, message))
  checkType(context, found, path)
  const target = readTarget(context, found, path)
  const tls = readTls(context, found, path)
  const inClear = found.transportSocket === undefined
  if (target !== undefined && inClear && 'host' in target && !isLoopback(target.host))
    context.refuse(
      `${path}.transport_socket`,
      'expected one: discovery is asked in clear on this machine only',
    )
  if (target === undefined) return undefined
  return {
    target,
    mode: sources.ads?.apiType === ApiType.GRPC ? 'sotw' : 'delta',
    tls,
    listeners: sources.listeners !== undefined,
    clusters: sources.clusters !== undefined,
  }
}

function checkType(context: BootstrapContext, cluster: Cluster, path: string): void {
  const { case: kind, value = DiscoveryType.STATIC } = cluster.clusterDiscoveryType
  const known = [DiscoveryType.STATIC, DiscoveryType.STRICT_DNS, DiscoveryType.LOGICAL_DNS]
  if (kind === 'clusterType' || !known.includes(value as DiscoveryType))
    context.refuse(`${path}.type`, 'expected STATIC, STRICT_DNS or LOGICAL_DNS')
}

function readTarget(
  context: BootstrapContext,
  cluster: Cluster,
  path: string,
): AdsConfig['target'] | undefined {
  const endpoints = (cluster.loadAssignment?.endpoints ?? []).flatMap(({ lbEndpoints }) => lbEndpoints)
  const [first] = endpoints
  const at = `${path}.load_assignment.endpoints`
  if (first === undefined || endpoints.length > 1) {
    context.refuse(at, `expected one endpoint, found ${endpoints.length}`)
    return undefined
  }
  const endpoint = first.hostIdentifier.case === 'endpoint' ? first.hostIdentifier.value : undefined
  const address = endpoint?.address?.address
  if (address?.case === 'pipe') return { path: address.value.path }
  if (address?.case === 'socketAddress' && address.value.portSpecifier.case === 'portValue')
    return { host: address.value.address, port: address.value.portSpecifier.value }
  context.refuse(`${at}[0].lb_endpoints[0].endpoint.address`, 'expected a socket_address or a pipe')
  return undefined
}

/** As of any upstream: the server is pinned to SPIFFE ids, and our certificate is shown. */
function readTls(context: BootstrapContext, cluster: Cluster, path: string): UpstreamTls | undefined {
  const socket = cluster.transportSocket?.configType
  if (socket === undefined) return undefined
  const at = `${path}.transport_socket.typed_config`
  if (socket.case !== 'typedConfig') {
    context.refuse(at, 'expected an UpstreamTlsContext')
    return undefined
  }
  const accept = new AcceptContext(context.object)
  const tls = readUpstreamTls(accept, socket.value, at)
  const finished = accept.finish(tls)
  if (!finished.ok) context.adopt(finished.error, (field) => field)
  return tls
}
