// The shapes of the objects Isthmus reads and writes, as Kubernetes, Istio and Tetrate define them: only the fields that
// it uses, already validated and defaulted by the parser. Anything else in a document is kept in `raw`.

export interface ObjectMeta {
  readonly name: string
  /** Empty for cluster-scoped kinds; the parser fills in `default` where a namespaced object names none. */
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** Tetrate's hierarchy, from `metadata.organization|tenant|workspace` or the annotations `tsb.tetrate.io/…`; else empty. */
  readonly organization: string
  readonly tenant: string
  readonly workspace: string
  /** RFC 3339, as the API server set it; absent in a document that never went through one. */
  readonly creationTimestamp?: string
}

/** What identifies an object: two documents with equal refs are the same object. */
export interface ObjectRef {
  readonly kind: Kind
  readonly namespace: string
  readonly organization: string
  readonly tenant: string
  readonly workspace: string
  readonly name: string
}

export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
}

interface Base<K extends string, S> {
  readonly apiVersion: string
  readonly kind: K
  readonly metadata: ObjectMeta
  readonly spec: S
  readonly conditions: readonly Condition[]
  /** `file.yaml#2`: where it was read, for messages. */
  readonly source: string
  /** The document as it was read (after substitution). */
  readonly raw: Readonly<Record<string, unknown>>
}

export interface LabelSelector {
  readonly labels: Readonly<Record<string, string>>
}

export type NamespaceObject = Base<'Namespace', Record<string, never>>

export interface ServicePort {
  /** Empty when the only port of a Service has no name. */
  readonly name: string
  readonly port: number
  /** A number, or the name of a container port. Default: `port`. */
  readonly targetPort: number | string
  readonly nodePort: number | undefined
  readonly protocol: 'TCP' | 'UDP' | 'SCTP'
  readonly appProtocol: string | undefined
}
export interface ServiceSpec {
  /** Empty: no selector; endpoints are somebody else's EndpointSlices. */
  readonly selector: Readonly<Record<string, string>>
  readonly ports: readonly ServicePort[]
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'
  readonly clusterIP: string
  readonly publishNotReadyAddresses: boolean
  readonly externalIPs: readonly string[]
}
export type Service = Base<'Service', ServiceSpec> & {
  /** `status.loadBalancer.ingress`, in order. */
  readonly loadBalancer: readonly { readonly ip?: string; readonly hostname?: string }[]
}

export interface SliceEndpoint {
  readonly addresses: readonly string[]
  /** As the EndpointSlice API reads them: `ready` unset = true; `serving` unset = ready; `terminating` unset = false. */
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly zone: string
  readonly nodeName: string
  /** The pod's own name in the DNS of a headless Service; absent where it has none. */
  readonly hostname?: string
  /** `Pod` target's name in the slice's namespace, or empty. */
  readonly podName: string
}
export interface EndpointSliceSpec {
  readonly addressType: 'IPv4' | 'IPv6' | 'FQDN'
  /** Label `kubernetes.io/service-name`. */
  readonly serviceName: string
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: string }[]
  readonly endpoints: readonly SliceEndpoint[]
}
export type EndpointSlice = Base<'EndpointSlice', EndpointSliceSpec>

export interface ContainerPort {
  readonly name: string
  readonly containerPort: number
}
export interface Container {
  readonly name: string
  readonly image: string
  readonly command: readonly string[]
  readonly args: readonly string[]
  readonly env: readonly { readonly name: string; readonly value: string }[]
  readonly ports: readonly ContainerPort[]
}
export interface PodSpec {
  readonly serviceAccountName: string
  readonly containers: readonly Container[]
  readonly nodeName: string
}
export type Pod = Base<'Pod', PodSpec> & {
  readonly podIPs: readonly string[]
  readonly hostIP: string
  readonly ready: boolean
}

export interface DeploymentSpec {
  readonly replicas: number
  readonly selector: LabelSelector
  readonly template: {
    readonly labels: Readonly<Record<string, string>>
    readonly annotations: Readonly<Record<string, string>>
    readonly spec: PodSpec
  }
}
export type Deployment = Base<'Deployment', DeploymentSpec>

/** Values decoded to text; a Secret prints as its key names only. */
export type Secret = Base<
  'Secret',
  { readonly type: string; readonly data: Readonly<Record<string, string>> }
>

/** `spec.namespaceSelector.names`: `*​/ns`, `c1/ns1`, `c1/*`, `c1/ns*`. */
export type Workspace = Base<'Workspace', { readonly namespaces: readonly NamespaceName[] }>
export interface NamespaceName {
  /** A cluster's name or `*`. */
  readonly cluster: string
  /** A namespace's name, a prefix ending in `*`, or `*`. */
  readonly namespace: string
}

/** How a gateway serves a service: `auto` passes through where every ready endpoint is a mesh workload. */
export const SERVICE_MODES = ['terminate', 'passthrough', 'auto'] as const
export type ServiceMode = (typeof SERVICE_MODES)[number]
/** Annotation of a Service, and in `configGenerationMetadata` of an item that exposes services. */
export const MODE_ANNOTATION = 'isthmus.io/mode'
/**
 * Annotation of a Service: its endpoints expect the header of the PROXY protocol, `v1` or `v2`, on every connection. What gateways and
 * sidecars then tell them is the caller's address, and in version 2 its server name (TLV 0x02) and verified SPIFFE id (TLV 0xE0).
 */
export const PROXY_PROTOCOL_ANNOTATION = 'isthmus.io/proxy-protocol'
/**
 * Annotation of a Cluster: its share of the traffic, in percent of what its ready endpoints would get among those of the same priority.
 * 0: it gets none, even where nobody else is left.
 */
export const WEIGHT_ANNOTATION = 'isthmus.io/weight'
/** Labels of a Service with this prefix go along with its endpoints, for `failoverPriority`. */
export const FAILOVER_LABEL_PREFIX = 'failover.tetrate.io/'
/** Annotation of an OrganizationSetting: whether gateways enforce reachability or services are only advertised by it. */
export const REACHABILITY_ANNOTATION = 'isthmus.io/reachability'
/** Annotations of a Cluster: what becomes of its exports when it cannot be heard, and after which time. */
export const PEER_LOSS_ANNOTATION = 'isthmus.io/on-peer-loss'
export const PEER_LEASE_ANNOTATION = 'isthmus.io/peer-lease'
export const PEER_LEASE_MS = 600_000
/** Annotation of a gateway: address ranges, separated by commas, whose connections begin with the PROXY protocol. */
export const PROXY_SOURCES_ANNOTATION = 'isthmus.io/proxy-protocol-sources'

export interface EastWestGatewaySetting {
  readonly workloadSelector: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> }
  /** Empty: every service of the workspace. Items are OR-ed, labels inside one are AND-ed. */
  readonly exposedServices: readonly { readonly serviceLabels: Readonly<Record<string, string>> }[]
  /** `configGenerationMetadata.annotations["isthmus.io/mode"]`; undefined: not said. */
  readonly mode: ServiceMode | undefined
  /** `configGenerationMetadata.annotations["isthmus.io/exposed-ports"]`, names and numbers; undefined: all. */
  readonly ports: readonly (string | number)[] | undefined
}
export type WorkspaceSetting = Base<
  'WorkspaceSetting',
  {
    readonly defaultEastWestGatewaySettings: readonly EastWestGatewaySetting[]
    /** Undefined: it says nothing of failover, and the organization's counts. */
    readonly failover: FailoverSettings | undefined
  }
>

/** `failoverSettings`, or the older `regionalFailover` beside it, which counts where there is no newer one. */
export interface FailoverSettings {
  /** The field they were read from, for reasons. */
  readonly field: 'spec.failoverSettings' | 'spec.regionalFailover'
  /** `CLUSTER` (the default): the own cluster before every other. `LOCALITY`: by region and zone, whatever the cluster. */
  readonly topologyChoice: 'CLUSTER' | 'LOCALITY'
  /**
   * Labels in order, each `key` or `key=value`; empty: none. An endpoint's n-th label counts only where all before it match; a key alone
   * is compared with the caller's own label.
   */
  readonly failoverPriority: readonly string[]
  readonly regionalFailover: readonly { readonly from: string; readonly to: string }[]
  /** `automaticLoadBalancing.enabled.value`: near and far share the traffic. */
  readonly automaticLoadBalancing: boolean
}

export type OrganizationSetting = Base<
  'OrganizationSetting',
  {
    /** network → the networks it may call; undefined where `networkSettings.networkReachability` is absent. */
    readonly networkReachability: ReadonlyMap<string, readonly string[]> | undefined
    /** Annotation `isthmus.io/reachability`, default `enforce`. */
    readonly reachability: 'enforce' | 'advertise'
    readonly failover: FailoverSettings | undefined
  }
>

export type Cluster = Base<
  'Cluster',
  {
    /** Empty: unnamed; all unnamed networks are one. */
    readonly network: string
    /** Empty: not said here. */
    readonly trustDomain: string
    readonly locality: { readonly region: string; readonly zone: string }
    /** Annotation `isthmus.io/weight`, in percent; default 100. */
    readonly weight: number
    /** Annotation `isthmus.io/on-peer-loss`: what becomes of its exports once their lease is over. Default `withdraw`. */
    readonly onPeerLoss: 'keep' | 'withdraw'
    /** Annotation `isthmus.io/peer-lease`: how long they stay without its word, milliseconds. Default 10 minutes. */
    readonly peerLeaseMs: number
  }
>

/** install.tetrate.io `IngressGateway`, and `Gateway` with `type: EASTWEST|UNIFIED|INGRESS|EGRESS`. */
export interface GatewaySpec {
  /** Whether it serves 15443: every IngressGateway, and a Gateway of type EASTWEST, UNIFIED or INGRESS. */
  readonly eastWest: boolean
  readonly eastWestOnly: boolean
  /** `connectionDrainDuration` in milliseconds. Default 45,000 (Istio's terminationDrainDuration is 5 s, Envoy's drain-time 600 s). */
  readonly drainMs: number
  readonly replicas: number
  /** Annotation `isthmus.io/proxy-protocol-sources`: load balancers that put the PROXY protocol in front; empty: none does. */
  readonly proxyProtocolSources: readonly string[]
  readonly service: {
    readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer'
    readonly annotations: Readonly<Record<string, string>>
  }
}
export type IngressGateway = Base<'IngressGateway', GatewaySpec>
export type Gateway = Base<'Gateway', GatewaySpec>

export interface ServiceEntryEndpoint {
  readonly address: string
  /** port name → number. */
  readonly ports: Readonly<Record<string, number>>
  readonly labels: Readonly<Record<string, string>>
  /** `region/zone/subzone`. */
  readonly locality: string
  readonly weight: number
}
export type ServiceEntry = Base<
  'ServiceEntry',
  {
    readonly hosts: readonly string[]
    readonly location: 'MESH_INTERNAL' | 'MESH_EXTERNAL'
    readonly resolution: 'STATIC' | 'DNS' | 'NONE'
    readonly ports: readonly {
      readonly name: string
      readonly number: number
      readonly protocol: string
      readonly targetPort: number | undefined
    }[]
    readonly endpoints: readonly ServiceEntryEndpoint[]
    /** SPIFFE ids that may answer. */
    readonly subjectAltNames: readonly string[]
    readonly exportTo: readonly string[]
  }
>

export type DestinationRule = Base<
  'DestinationRule',
  {
    /** A name without dots is a Service of the rule's own namespace. */
    readonly host: string
    readonly subsets: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[]
    /** Whether it has a `trafficPolicy` for the whole host; what it says is the clients' business. */
    readonly policy: boolean
    /** Empty: every namespace. */
    readonly exportTo: readonly string[]
  }
>

/** What an AuthorizationPolicy may ask of a TCP connection. */
export type AuthorizationAttribute =
  | 'principal'
  | 'namespace'
  | 'serviceAccount'
  | 'ip'
  | 'remoteIp'
  | 'destinationIp'
  | 'port'
  | 'sni'

/** One of the values must match, or with `negated` none. */
export interface AuthorizationClause {
  /** Undefined: only HTTP has it. */
  readonly attribute: AuthorizationAttribute | undefined
  /** The field or key as it is written. */
  readonly name: string
  readonly values: readonly string[]
  readonly negated: boolean
}

/** Sources are OR-ed, and operations are; the clauses inside one are AND-ed. No source, no operation: any. */
export interface AuthorizationRule {
  readonly from: readonly (readonly AuthorizationClause[])[]
  readonly to: readonly (readonly AuthorizationClause[])[]
  readonly when: readonly AuthorizationClause[]
}

export type AuthorizationPolicy = Base<
  'AuthorizationPolicy',
  {
    /** Undefined: every workload of the namespace. */
    readonly selector: Readonly<Record<string, string>> | undefined
    /** It is attached to other objects by `targetRefs`, not to workloads. */
    readonly targeted: boolean
    readonly action: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM'
    /** Rules are OR-ed; none: the policy matches nothing. */
    readonly rules: readonly AuthorizationRule[]
  }
>

export interface ObjectOf {
  Namespace: NamespaceObject
  Service: Service
  EndpointSlice: EndpointSlice
  Pod: Pod
  Deployment: Deployment
  Secret: Secret
  Workspace: Workspace
  WorkspaceSetting: WorkspaceSetting
  OrganizationSetting: OrganizationSetting
  Cluster: Cluster
  IngressGateway: IngressGateway
  Gateway: Gateway
  ServiceEntry: ServiceEntry
  DestinationRule: DestinationRule
  AuthorizationPolicy: AuthorizationPolicy
}
export type Kind = keyof ObjectOf
export type KubeObject = ObjectOf[Kind]

/** Plain document to be written: what `apply` takes. */
export type Manifest = Readonly<Record<string, unknown>>

export function refOf(object: KubeObject): ObjectRef {
  const { namespace, organization, tenant, workspace, name } = object.metadata
  return { kind: object.kind, namespace, organization, tenant, workspace, name }
}

/** `Service/bookinfo/productpage`, `WorkspaceSetting/acme/eng/bookinfo-ws/bookinfo-ws-setting`: a key and a name for messages. */
export function refKey(ref: ObjectRef): string {
  return [ref.kind, ref.namespace, ref.organization, ref.tenant, ref.workspace, ref.name]
    .filter((part) => part !== '')
    .join('/')
}
