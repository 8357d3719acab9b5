// Words of the xDS protocol shared by both ends. Source: envoyproxy/envoy docs/root/api-docs/xds_protocol.rst.

export const TYPE = {
  listener: 'type.googleapis.com/envoy.config.listener.v3.Listener',
  cluster: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
  endpoints: 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
  route: 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration',
  secret: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
  nameTable: 'type.googleapis.com/istio.networking.nds.v1.NameTable',
  /** Istio's MCP-over-xDS uses `group/version/Kind` as the type URL; the body is `Any(istio.mcp.v1alpha1.Resource)`. */
  serviceEntry: 'networking.istio.io/v1alpha3/ServiceEntry',
  workloadEntry: 'networking.istio.io/v1alpha3/WorkloadEntry',
  destinationRule: 'networking.istio.io/v1alpha3/DestinationRule',
  /** Ours, from a supervisor to its workers: Clusters that nobody calls yet, with their endpoints, packed many into one. */
  upstreamPage: 'type.googleapis.com/isthmus.worker.v1.UpstreamPage',
  /** Ours: who subscribes is a gateway that is about to stop; the one resource is a text, empty until its clients know. */
  withdrawal: 'type.googleapis.com/isthmus.drain.v1.Withdrawal',
} as const

/** Whether a type URL is `group/version/Kind` of Istio's MCP-over-xDS (`core/v1alpha1/MeshConfig` among them), not of a protobuf message. */
export function isMcpType(typeUrl: string): boolean {
  return /^[a-z0-9.-]{1,253}\/v[0-9][a-z0-9]{0,62}\/[A-Z][A-Za-z]{0,62}$/.test(typeUrl)
}

/** The last word of a type URL, for people: `Listener`, `ServiceEntry`. */
export function shortType(typeUrl: string): string {
  return typeUrl.slice(Math.max(typeUrl.lastIndexOf('.'), typeUrl.lastIndexOf('/')) + 1)
}

/** One named resource, encoded once whoever receives it. */
export interface XdsResource {
  readonly name: string
  /** Content hash of `body`. */
  readonly version: string
  /** Type URL inside the `Any`; for MCP it differs from the subscription's type URL. */
  readonly anyTypeUrl: string
  /** `Any.value`. */
  readonly body: Uint8Array
  /**
   * It ends by itself unless it is kept alive, milliseconds; told only to clients that say they support it, and in SotW only of types
   * that are wanted by name.
   */
  readonly ttlMs?: number
}

/** What one view holds, by type URL and name. Immutable. */
export type Snapshot = ReadonlyMap<string, ReadonlyMap<string, XdsResource>>

/** `core.v3.Node`, the part we read. Claims of the client, not facts. */
export interface NodeInfo {
  readonly id: string
  readonly cluster: string
  readonly metadata: Readonly<Record<string, unknown>>
  readonly locality: { readonly region: string; readonly zone: string }
  readonly userAgentName: string
  /** Of `user_agent_build_version`, `1.40.0`; absent: it did not say. */
  readonly userAgentVersion?: string
  readonly clientFeatures?: readonly string[]
}

/** Where a stream comes from, as the transport proved it. One object for each stream: what is kept for a stream is kept by it. */
export interface StreamPeer {
  /** DER of the client's leaf certificate; undefined on a clear-text listener. */
  readonly certificate: Uint8Array | undefined
  /** `host:port` or `unix`. */
  readonly address: string
  /** The name that the client asked for in TLS (SNI); absent: none. */
  readonly serverName?: string
}
