// What the engine is configured by, after an Envoy resource was accepted: plain, immutable data in our words.
// An Envoy cluster is called an upstream from here on. Times are milliseconds; ids are SPIFFE URIs.
import type { Credential } from '../identity/credential.ts'
import type { TrustBundles } from '../identity/trust-bundle.ts'
import type {
  BalancingConfig,
  CircuitBreakerConfig,
  DnsConfig,
  FailbackConfig,
  HealthCheckConfig,
  KeepaliveConfig,
  OutlierConfig,
  ProxyProtocolTlv,
  UpstreamProxyProtocolConfig,
} from './upstream-types.ts'

/** `type.matcher.v3.StringMatcher` without its regex form: one way to write a name is enough, and no input may cost us more than its length. */
export interface StringMatch {
  readonly kind: 'exact' | 'prefix' | 'suffix' | 'contains'
  readonly value: string
  readonly ignoreCase: boolean
}

export interface Address {
  readonly host: string
  readonly port: number
}

/** What both TLS contexts share. Secrets are SDS names. */
export interface TlsConfig {
  readonly credentialSecret: string
  readonly trustSecret: string
  /** The peer's URI SAN must match one of these; empty = any id that the trust bundles prove. */
  readonly peerIds: readonly StringMatch[]
  /** In order of preference. */
  readonly alpn: readonly string[]
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
  readonly maxVersion: 'TLSv1.2' | 'TLSv1.3'
}

export interface DownstreamTls extends TlsConfig {
  /** From accept to the end of the handshake. */
  readonly handshakeTimeoutMs: number
}

export interface UpstreamTls extends TlsConfig {
  readonly sni: string
  /** The trust domains that `peerIds` name: no other's bundle may vouch for the server. */
  readonly trustDomains: readonly string[]
}

/** `core.v3.CidrRange`. */
export interface AddressRange {
  readonly address: string
  readonly prefixLength: number
}

export type PermissionRule =
  | { readonly kind: 'any' }
  | { readonly kind: 'and' | 'or'; readonly rules: readonly PermissionRule[] }
  | { readonly kind: 'not'; readonly rule: PermissionRule }
  | { readonly kind: 'serverName'; readonly match: StringMatch }
  | { readonly kind: 'port'; readonly from: number; readonly to: number }
  | { readonly kind: 'destinationIp'; readonly range: AddressRange }

export type PrincipalRule =
  | { readonly kind: 'any' }
  | { readonly kind: 'and' | 'or'; readonly rules: readonly PrincipalRule[] }
  | { readonly kind: 'not'; readonly rule: PrincipalRule }
  /** The verified SPIFFE id; without a matcher any verified id. */
  | { readonly kind: 'id'; readonly match: StringMatch | undefined }
  /** The CA that signed the verified certificate, by the SHA-256 of its public key (SPKI), hexadecimal. */
  | { readonly kind: 'issuer'; readonly keys: readonly string[] }
  /** `direct`: the other end of the TCP connection, whatever the PROXY protocol says. */
  | { readonly kind: 'remoteIp'; readonly direct: boolean; readonly range: AddressRange }

export interface RbacPolicy {
  readonly name: string
  readonly permissions: readonly PermissionRule[]
  readonly principals: readonly PrincipalRule[]
}

/**
 * Name of the `rbac` filter whose rules are compiled from reachability between networks. What it alone denies is drained, not cut:
 * a path that was taken away, not a caller who must go (docs/decisions/0012-reachability-drains.md).
 */
export const REACHABILITY_FILTER = 'isthmus.reachability'

/** `config.rbac.v3.RBAC`. Policies in lexicographic order of their names, as Envoy evaluates them. */
export interface RbacRules {
  readonly action: 'ALLOW' | 'DENY'
  readonly policies: readonly RbacPolicy[]
}

/** Network filter `rbac`. */
export interface RbacConfig {
  /** `filters[].name`, free text: `REACHABILITY_FILTER` is the one that means something here. */
  readonly name: string
  /** Undefined: this filter only watches. */
  readonly rules: RbacRules | undefined
  /** Evaluated and logged; they decide nothing. */
  readonly shadowRules: RbacRules | undefined
}

/** What must be true of a connection for its chain to serve it; empty lists and texts ask for nothing. */
export interface FilterChainMatch {
  /** Lower case, exact. */
  readonly serverNames: readonly string[]
  readonly transportProtocol: '' | 'tls' | 'raw_buffer'
  /** One of these must be among those that the client offers (ALPN). */
  readonly applicationProtocols: readonly string[]
}

export interface FilterChainConfig {
  /** Unique in its listener; `chain-<index>` where the resource gives none. */
  readonly name: string
  /**
   * `terminate`: mutual TLS ends here. `passthrough`: the ClientHello is read and everything is spliced to a mesh workload, which
   * verifies the caller itself. `plain`: TCP.
   */
  readonly mode: 'terminate' | 'passthrough' | 'plain'
  readonly match: FilterChainMatch
  /** Set where the mode is `terminate`. */
  readonly tls: DownstreamTls | undefined
  readonly rbac: readonly RbacConfig[]
  /** The SNI is the upstream's name. */
  readonly sniCluster: boolean
  /** The upstream where `sniCluster` is false. */
  readonly upstream: string
  /** No byte in either direction for this long ends the connection; default one hour. */
  readonly idleTimeoutMs: number
  /** Endpoints to try. */
  readonly maxConnectAttempts: number
  /** Delays between them; undefined: none. */
  readonly connectBackoff: { readonly baseMs: number; readonly maxMs: number } | undefined
  /** Upstreams with a hashing policy: connections of one source address go to one endpoint. */
  readonly hashSourceIp: boolean
  /** For upstreams that want a PROXY header. */
  readonly proxyProtocolTlvs: readonly ProxyProtocolTlv[]
  readonly maxDurationMs: number | undefined
}

/** Listener filter `proxy_protocol`. */
export interface ProxyProtocolConfig {
  /** Who may speak for others. From these a header is required; anybody else's is no TLS, and so refused. */
  readonly sources: readonly AddressRange[]
  readonly versions: readonly (1 | 2)[]
}

export interface ListenerConfig {
  readonly name: string
  readonly version: string
  readonly address: Address
  readonly chains: readonly FilterChainConfig[]
  /** Undefined: connections speak for themselves. */
  readonly proxyProtocol: ProxyProtocolConfig | undefined
  /** From accept until the ClientHello is whole, where a chain says nothing of its own; `listener_filters_timeout`. */
  readonly helloTimeoutMs: number
  /** `metadata.filter_metadata.isthmus`: whose front door this is. Empty strings and 0 where unknown. */
  readonly service: { readonly host: string; readonly port: number; readonly protocol: string }
}

export type TransportSocketConfig = (
  | { readonly kind: 'raw' }
  | { readonly kind: 'tls'; readonly tls: UpstreamTls }
) & {
  /** Sent before the first byte of anything else. */
  readonly proxyProtocol?: UpstreamProxyProtocolConfig
}

/** Chosen for an endpoint whose `envoy.transport_socket_match` metadata holds every pair of `match`. */
export interface TransportSocketMatch {
  readonly name: string
  readonly match: Readonly<Record<string, unknown>>
  readonly socket: TransportSocketConfig
}

export interface UpstreamConfig {
  readonly name: string
  /** Further server names that lead here with `sni_cluster` (`metadata.filter_metadata.isthmus.aliases`). */
  readonly aliases: readonly string[]
  readonly version: string
  readonly type: 'EDS' | 'STATIC' | 'STRICT_DNS' | 'LOGICAL_DNS'
  /** Name of the ClusterLoadAssignment; EDS only. */
  readonly endpointsName: string
  /** All but EDS. */
  readonly inlineEndpoints: EndpointsConfig | undefined
  readonly connectTimeoutMs: number
  readonly balancing: BalancingConfig
  readonly socketMatches: readonly TransportSocketMatch[]
  readonly defaultSocket: TransportSocketConfig
  readonly circuitBreakers: CircuitBreakerConfig
  readonly outlier: OutlierConfig | undefined
  /** Undefined: connections stay where they are. */
  readonly failback: FailbackConfig | undefined
  readonly healthCheck: HealthCheckConfig | undefined
  /** Endpoints that were never checked do not count, not even as unhealthy. */
  readonly ignoreNewUntilChecked: boolean
  /** Connections to an endpoint end when a health check or outlier detection takes it out. */
  readonly closeOnHealthFailure: boolean
  /** An endpoint that discovery takes away goes at once, however healthy its checks find it. */
  readonly ignoreHealthOnRemoval: boolean
  readonly keepalive: KeepaliveConfig | undefined
  readonly dns: DnsConfig
}

export interface EndpointConfig {
  /** An IP address, or a host name that the engine resolves. */
  readonly address: Address
  /** What the endpoint calls itself; for health checks over HTTP and for hashing. */
  readonly hostname: string
  readonly weight: number
  /** By EDS. HEALTHY and UNKNOWN may be chosen, DEGRADED where there are not enough of these. */
  readonly healthStatus: 'UNKNOWN' | 'HEALTHY' | 'UNHEALTHY' | 'DRAINING' | 'TIMEOUT' | 'DEGRADED'
  /** `envoy.transport_socket_match` of the endpoint's metadata. */
  readonly socketMetadata: Readonly<Record<string, unknown>>
  /** `envoy.lb` `hash_key` of the endpoint's metadata: its place in hash rings; empty = its address. */
  readonly hashKey: string
  /** Where and as whom it is checked; port 0 and empty texts = as it is called. */
  readonly healthCheck: {
    readonly host: string
    readonly port: number
    readonly hostname: string
    readonly disabled: boolean
  }
}

export interface LocalityConfig {
  readonly region: string
  readonly zone: string
  readonly subZone: string
  readonly priority: number
  /** 0 where unset: no traffic where localities are weighted. */
  readonly weight: number
  readonly endpoints: readonly EndpointConfig[]
}

export interface EndpointsConfig {
  readonly name: string
  readonly version: string
  readonly localities: readonly LocalityConfig[]
  /** Percent; Envoy's default 140: a priority keeps all traffic until less than 100/140 of it is healthy. */
  readonly overprovisioningFactor: number
  readonly weightedPriorityHealth: boolean
  /** Shares of new connections to refuse, 0 to 1, by category. */
  readonly drops: readonly { readonly category: string; readonly share: number }[]
  /** The endpoints may no longer be used when no newer ones came for this long; undefined = for ever. */
  readonly staleAfterMs: number | undefined
}

export type SecretConfig =
  | {
      readonly kind: 'credential'
      readonly name: string
      readonly version: string
      readonly credential: Credential
    }
  | {
      readonly kind: 'trust'
      readonly name: string
      readonly version: string
      readonly bundles: TrustBundles
    }
