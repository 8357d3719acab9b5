/**
 * Why a connection ended: one closed list for the access log and the metrics. Envoy's response flags, and our own for TLS,
 * identity and policy.
 */
export const RESPONSE_FLAGS = {
  '-': 'ended well',
  NR: 'no route: nothing is configured for what was asked',
  UH: 'no healthy upstream endpoint',
  UF: 'the upstream could not be connected',
  UO: 'overflow: too much is going on already',
  UC: 'the upstream broke the connection',
  DC: 'the downstream broke the connection',
  SI: 'idle for too long',
  DT: 'the connection reached its longest duration',
  PROXY_HEADER: 'the PROXY protocol header is missing, late or malformed',
  TLS_HELLO: 'what came was no acceptable ClientHello',
  TLS_SNI: 'the server name is missing, malformed, unknown or not exposed',
  TLS_HANDSHAKE: 'the handshake failed or took too long',
  ID_REFUSED: "the peer's certificate is not that of anyone we accept",
  ID_EXPIRED: "the peer's certificate ended while the connection was open",
  RBAC_DENIED: 'policy denies this caller',
  DRAIN: 'cut at the end of a drain',
  BUG: 'a fault of ours',
} as const

export type ResponseFlag = keyof typeof RESPONSE_FLAGS

/** How a connection ended, in a flag and in words that name what an operator can change. */
export interface Ending {
  readonly flag: ResponseFlag
  readonly reason: string
}

/** One line per connection, refused ones too. Empty strings and -1 where a connection did not come that far. */
export interface AccessLogEntry {
  /** When the connection was accepted, ISO 8601. */
  readonly time: string
  readonly listener: string
  readonly upstream: string
  /** Service, as far as the listener or the server name tells: host, port (0 unknown), subset. */
  readonly host: string
  readonly port: number
  readonly subset: string
  /** As asked for, lower case. */
  readonly sni: string
  /** `ip:port`. */
  readonly remoteAddress: string
  /** `ip:port` of the load balancer that told `remoteAddress` by the PROXY protocol; empty without one. */
  readonly directRemoteAddress: string
  /** The verified SPIFFE id of the caller. */
  readonly peerId: string
  /** The trust domain of that id. */
  readonly peerTrustDomain: string
  /** Whether the gateway knows who called; `unverified` where the connection is passed through to a workload that finds out. */
  readonly caller: 'verified' | 'unverified' | ''
  readonly alpn: string
  readonly tlsVersion: string
  /** The policy that decided. */
  readonly rule: string
  /** What the shadow rules would have done: `allowed` or `denied`, with the policy where one matched: `denied: no-frontend`. */
  readonly shadowRule: string
  /** `ip:port`. */
  readonly endpoint: string
  /** Payload bytes from downstream to upstream. */
  readonly bytesIn: number
  /** Payload bytes from upstream to downstream. */
  readonly bytesOut: number
  readonly durationMs: number
  /** Upstream connect with its handshake, retries included; -1 = did not succeed. */
  readonly connectMs: number
  /** Downstream, from accept; -1 = none or not finished. */
  readonly handshakeMs: number
  readonly flag: ResponseFlag
  readonly reason: string
}
