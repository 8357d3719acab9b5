/** What the machine of one cluster is told, as JSON in a file of the demo's folder. Folders are absolute. */
/** The whole world of the demo is on loopback addresses, which no gateway or sidecar would call by itself. */
export const ON_LOOPBACK = { ISTHMUS_ALLOW_LOCAL_ENDPOINTS: 'true' } as const

export interface MachineConfig {
  readonly cluster: string
  readonly trustDomain: string
  readonly zone: string
  /** The objects a user edits; what controllers and this machine write is in its hidden folder. */
  readonly yaml: string
  /** The CA's files, for the certificates of pods. */
  readonly ca: string
  readonly logs: string
  /** Per pod: certificates and the run folder. */
  readonly run: string
  /** `127.X.N`: addresses of pods. */
  readonly podPrefix: string
  /** Addresses of gateway pods: the same, or with namespaces those that other clusters can reach. */
  readonly gatewayPrefix: string
  readonly nodeAddress: string
  readonly discovery: DiscoveryPlan
  readonly sidecar: SidecarPlan | undefined
  /** Pods get this DNS server in ISTHMUS_DNS; undefined: resolv.conf already says so. */
  readonly podDns: string | undefined
  /** ORG and TEN, for the objects' substitutions. */
  readonly substitutions: Readonly<Record<string, string>>
}

export interface DiscoveryPlan {
  readonly ads: string
  readonly adsPlain: string
  readonly admin: string
  readonly health: string
  readonly metrics: string
  readonly certs: string
}

export interface SidecarPlan {
  /** `ip` of the node id. */
  readonly address: string
  readonly dns: string
  readonly dnsUpstream: string | undefined
  readonly socks: string
  readonly connect: string
  readonly admin: string
  readonly health: string
  readonly metrics: string
  readonly certs: string
  /** Where its listeners live, a CIDR. */
  readonly bind: string
}

export interface PodReport {
  readonly name: string
  readonly namespace: string
  readonly deployment: string
  readonly ip: string
  readonly ready: boolean
  readonly terminating: boolean
  readonly pids: readonly number[]
  /** Of gateways only. */
  readonly gateway:
    | { readonly address: string; readonly admin: string; readonly health: string; readonly log: string }
    | undefined
}

/** One line of JSON on the machine's file descriptor 4, at every change. */
export type MachineLine =
  | {
      readonly type: 'state'
      /** What the cluster's own `Cluster` object says; '' = unnamed. */
      readonly network: string
      readonly pods: readonly PodReport[]
      readonly discovery: { readonly pids: readonly number[] }
      readonly sidecar: { readonly pids: readonly number[] } | undefined
    }
  | { readonly type: 'notice'; readonly text: string }
