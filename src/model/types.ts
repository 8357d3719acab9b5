// What the model derives from one cluster's objects. Everything here is immutable data: the derivation is pure, and equal
// objects give equal models.

import type { AuthorizationRule, ServiceEntry } from '../objects/types.ts'
import type { FailoverRule } from './failover.ts'
import type { NetworkTransition } from './network-transition.ts'

/** A verdict that carries its reason, so that explain, status and logs use the same words. */
export interface Decision {
  readonly allowed: boolean
  /** Why, naming the object and field that decided: `WorkspaceSetting/… spec.defaultEastWestGatewaySettings[0]`. */
  readonly reason: string
}

export interface ClusterInfo {
  readonly id: string
  /** '' = unnamed. */
  readonly network: string
  readonly trustDomain: string
  /** `region/zone`, or ''. */
  readonly locality: { readonly region: string; readonly zone: string }
  /** Its share of the traffic among equals, in percent; absent: 100. */
  readonly weight?: number
}

/** How the callers of a cluster are known. */
export interface Origin {
  readonly cluster: ClusterInfo
  /**
   * Undefined: whoever is of the cluster's trust domain is of the cluster. Else, where it shares its trust domain or a CA with
   * another, only those whose certificate one of these CAs signed (SHA-256 of the public key, sorted); empty: nobody.
   */
  readonly issuers: readonly string[] | undefined
}

/** A CA, by its public key, that several clusters have in their bundles: it speaks for none of them. */
export interface SharedCa {
  readonly publicKeyHash: string
  /** As OpenSSL writes it. */
  readonly name: string
  /** Ids, sorted. */
  readonly clusters: readonly string[]
}

export interface ModelEndpoint {
  readonly address: string
  /** The target port's number on this endpoint. */
  readonly port: number
  readonly ready: boolean
  /** Still answering although terminating: kept for open connections, chosen only where nothing is ready. */
  readonly draining: boolean
  readonly zone: string
  readonly podName: string
  /** Its own name under that of a headless Service; absent: none. */
  readonly hostName?: string
  /** Labels of the pod behind it, where known. */
  readonly labels: Readonly<Record<string, string>>
  /** SPIFFE service account of the pod, '' where unknown. */
  readonly serviceAccount: string
}

export interface ModelPort {
  readonly name: string
  readonly number: number
  /** Application protocol from `appProtocol` or the port's name prefix (`http-web` → http), as Istio selects it. */
  readonly protocol: 'http' | 'http2' | 'grpc' | 'https' | 'tls' | 'tcp' | 'mongo' | 'mysql' | 'redis'
  readonly endpoints: readonly ModelEndpoint[]
}

/** A part of a service's endpoints: those whose pods carry all the labels. */
export interface ModelSubset {
  /** A DNS label. */
  readonly name: string
  /** Empty: all endpoints. */
  readonly labels: Readonly<Record<string, string>>
}

export interface ModelService {
  /** Of the Service; of one pod of a headless Service `POD.SERVICE`. */
  readonly name: string
  readonly namespace: string
  /** `productpage.bookinfo.svc.cluster.local`. */
  readonly host: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** Empty: its endpoints are somebody else's EndpointSlices. */
  readonly selector: Readonly<Record<string, string>>
  /** TCP ports only. */
  readonly ports: readonly ModelPort[]
  /** It has ports of UDP or SCTP too, which nobody but the cluster itself can serve. */
  readonly notOnlyTcp?: true
  /** By name; absent: none. */
  readonly subsets?: readonly ModelSubset[]
  /** Set where it is one pod of a headless Service: the pod's host name. */
  readonly pod?: string
  /** A DestinationRule of its own namespace has a traffic policy for all of it; absent: none has. */
  readonly policed?: true
  /** RFC 3339; absent where the object does not say. */
  readonly creationTimestamp?: string
}

export interface GatewayAddress {
  /** An IP address or one host name. */
  readonly address: string
  readonly port: number
}

export interface ModelGateway {
  readonly name: string
  readonly namespace: string
  /** Of each of its pods; where there is none, those that they will have. */
  readonly labelSets: readonly Readonly<Record<string, string>>[]
  /** SPIFFE ids its pods answer with; usually one. */
  readonly spiffeIds: readonly string[]
  /** Where other networks reach it; empty while the load balancer has given none (`AwaitingAddress`). */
  readonly addresses: readonly GatewayAddress[]
  /** Where the addresses come from, or what is awaited, naming the object and field. */
  readonly addressReason: string
  /** By network of the clients: the addresses that they are to use instead, none where what was said for them cannot be read. */
  readonly forNetworks?: Readonly<Record<string, Pick<ModelGateway, 'addresses' | 'addressReason'>>>
  readonly drainMs: number
  /** Labels of its Services for `failoverPriority`; absent: none. */
  readonly failoverLabels?: Readonly<Record<string, string>>
  /** Address ranges of load balancers that put the PROXY protocol in front; empty: none does. */
  readonly proxyProtocolSources: readonly string[]
  /** All its pods are about to stop: callers elsewhere are to go to others, or to be told that nobody is there. */
  readonly withdrawn?: boolean
}

/** How a gateway serves a service, and why. */
export interface ChosenMode {
  /** `passthrough`: the workload terminates TLS, and the gateway does not know who calls. */
  readonly mode: 'terminate' | 'passthrough'
  readonly reason: string
}

export interface Exposure {
  /** Where it is exposed, with those of its ports that are. */
  readonly service: ModelService
  readonly decision: Decision
  /** The gateway pods' owner that serves it (`namespace/name`); undefined when not exposed. */
  readonly gateway: string | undefined
  /** `<workspace>/<setting>[i]` that decided, '' when none. */
  readonly rule: string
  /** Set where it is exposed. */
  readonly mode?: ChosenMode
  /** Where it is not exposed: the object and field to change. */
  readonly fix?: string
}

/** A service this cluster may call elsewhere: one host and port of a ServiceEntry. */
export interface ImportedService {
  readonly host: string
  /** Of `name.namespace.svc.cluster.local`; both '' for any other host, which has no short names. */
  readonly namespace: string
  readonly name: string
  readonly ports: readonly {
    readonly name: string
    readonly number: number
    readonly protocol: ModelPort['protocol']
  }[]
  readonly endpoints: readonly {
    readonly address: string
    /** port name → number at the address. */
    readonly ports: Readonly<Record<string, number>>
    readonly cluster: string
    readonly network: string
    readonly locality: string
    /** TLS with the SNI of the port's cluster is spoken to it (label `security.istio.io/tlsMode: istio`). */
    readonly mtls: boolean
    readonly weight: number
    /** What `failoverPriority` may ask for; absent: none. */
    readonly failoverLabels?: Readonly<Record<string, string>>
    /** Port numbers that the other cluster has no ready endpoint for (label `isthmus.io/not-ready`); absent: none. */
    readonly notReady?: readonly number[]
    /** How many endpoints of each subset are ready behind it (labels `subset.isthmus.io/NAME`); absent: there are no subsets. */
    readonly subsets?: Readonly<Record<string, number>>
  }[]
  /** As the clusters that serve it define them (annotation `isthmus.io/subsets`); absent: none. */
  readonly subsets?: readonly ModelSubset[]
  /** SPIFFE ids that may answer. */
  readonly subjectAltNames: readonly string[]
  /** The user's own entry, in place of what is imported. */
  readonly overrides?: true
  /** Set where `name.namespace` is rather a site's name (`github.com`): only the longer forms lead here. */
  readonly noShortName?: true
  /** `ServiceEntry/ns/name` it comes from. */
  readonly source: string
}

/** A rule of an AuthorizationPolicy, with nothing in it that a gateway of TCP cannot tell. */
export interface GatewayRule extends AuthorizationRule {
  /** For denials and logs: `DENY AuthorizationPolicy/bookinfo/no-sleep rules[0]`. */
  readonly name: string
  /** The policy's. */
  readonly namespace: string
}

/** An AuthorizationPolicy in force at a gateway. */
export interface GatewayPolicy {
  /** `namespace/name`. */
  readonly name: string
  readonly action: 'ALLOW' | 'DENY'
  readonly rules: readonly GatewayRule[]
}

/** A cluster that exchanges exports with this one: a Secret of discovery's namespace labelled `isthmus.io/peer: "true"`. */
export interface Peer {
  readonly cluster: string
  readonly trustDomain: string
  /** PEM: its roots and issuing intermediates. */
  readonly bundle: string
  /** PEM: CRLs of these, '' for none. */
  readonly crl: string
  /** `host:port` of its ADS, '' when it only dials us. */
  readonly adsAddress: string
  readonly source: string
}

/**
 * Every condition type that is ours to write, and to take away: the Gateway API's (understood and in force; put into effect;
 * everything it refers to was found), whether a peer's copy of the objects agrees, whether all that it offers is taken, whether it can
 * be heard, whether what is in force is what it offers now, and whether the certificates of a cluster last.
 */
export const CONDITION_TYPES = [
  'Accepted',
  'Programmed',
  'ResolvedRefs',
  'Agreed',
  'OffersAccepted',
  'Connected',
  'ExportsCurrent',
  'CertificatesLast',
] as const
export type ConditionType = (typeof CONDITION_TYPES)[number]

export interface ModelCondition {
  /** refKey of the object it is about. */
  readonly object: string
  readonly type: ConditionType
  readonly status: boolean
  readonly reason: string
  readonly message: string
}

export interface Model {
  readonly self: ClusterInfo
  /** By id; always has `self`. */
  readonly clusters: ReadonlyMap<string, ClusterInfo>
  /** By trust domain; only where one cluster alone has it. */
  readonly clusterByTrustDomain: ReadonlyMap<string, ClusterInfo>
  /** By id of each cluster that has a trust domain. */
  readonly origins: ReadonlyMap<string, Origin>
  readonly sharedCas: readonly SharedCa[]
  readonly services: readonly ModelService[]
  readonly gateways: readonly ModelGateway[]
  /** Every service of this cluster, exposed or not, with the reason. By host. */
  readonly exposures: ReadonlyMap<string, Exposure>
  /** By gateway, `namespace/name`: the AuthorizationPolicies in force there. */
  readonly authorization: ReadonlyMap<string, readonly GatewayPolicy[]>
  readonly imports: readonly ImportedService[]
  /** The ServiceEntries of the imports that Isthmus wrote. */
  readonly written: readonly ServiceEntry[]
  readonly peers: readonly Peer[]
  /** May a client in network `from` call services in network `to`? Directed. */
  readonly reachable: (from: string, to: string) => Decision
  /** The same for two clusters, one of them this one; what was allowed stays so while networks are being named. */
  readonly mayCall: (from: ClusterInfo, to: ClusterInfo) => Decision
  /** May the callers of a cluster in, says the gateway: as `mayCall`, or everybody where reachability is only advertised. */
  readonly admits: (from: ClusterInfo) => Decision
  readonly transition: NetworkTransition
  /** Labels of this cluster's Cluster object: what `failoverPriority` compares those of endpoints with. */
  readonly ownLabels: Readonly<Record<string, string>>
  /** In which order the endpoints of a host are tried: by its namespace and the clusters that serve it. */
  readonly failover: (namespace: string, clusters: readonly string[]) => FailoverRule
  /** Per object: what the model made of it. */
  readonly conditions: readonly ModelCondition[]
}
