// What an upstream is configured by, after an Envoy Cluster was accepted. Times are milliseconds, shares percent.

/** Passed over where Envoy's own default applies: the reader fills it in. */
export interface BalancingConfig {
  readonly policy: 'LEAST_REQUEST' | 'ROUND_ROBIN' | 'RANDOM' | 'RING_HASH' | 'MAGLEV'
  /** LEAST_REQUEST: of how many taken at random the least loaded is chosen. */
  readonly choiceCount: number
  /** LEAST_REQUEST among unequal weights: weight / (active + 1) ^ bias. */
  readonly activeRequestBias: number
  /** RING_HASH. */
  readonly minimumRingSize: number
  readonly maximumRingSize: number
  readonly hashFunction: 'XX_HASH' | 'MURMUR_HASH_2'
  /** MAGLEV; a prime. */
  readonly tableSize: number
  /** Hashing policies: place endpoints by their host name instead of their address. */
  readonly useHostnameForHashing: boolean
  /** Localities are chosen by weight before endpoints are. */
  readonly localityWeighted: boolean
  /** Below this share of healthy and degraded endpoints all are used; 0 = never. */
  readonly panicThreshold: number
  /** In panic no endpoint is chosen at all. */
  readonly failTrafficOnPanic: boolean
}

/** Passive ejection on what connecting tells, by Envoy's rules for TCP. */
export interface OutlierConfig {
  /** Consecutive failed connects, TLS included, that make an outlier; 0 = off. */
  readonly consecutiveFailures: number
  /** Chance in percent that such an outlier is really ejected. */
  readonly enforcingConsecutive: number
  /** The same failures, counted as Envoy's gateway failures; 0 = off. Only without the split of local errors. */
  readonly consecutiveGatewayFailures: number
  readonly enforcingGatewayFailures: number
  /** How often success rates are looked at, and how fast past ejections are forgiven. */
  readonly intervalMs: number
  readonly baseEjectionMs: number
  readonly maxEjectionMs: number
  readonly maxEjectionJitterMs: number
  readonly maxEjectionPercent: number
  readonly alwaysEjectOne: boolean
  /** A passed active health check brings an ejected endpoint back. */
  readonly healthCheckUnejects: boolean
  readonly successRate: {
    readonly enforcing: number
    readonly minimumHosts: number
    readonly volume: number
    /** In thousandths of a standard deviation. */
    readonly stdevFactor: number
  }
  readonly failurePercentage: {
    readonly enforcing: number
    readonly threshold: number
    readonly minimumHosts: number
    readonly volume: number
  }
}

/** Limits of one upstream in one worker. `Infinity` = none. */
export interface CircuitBreakerConfig {
  /** Connections open and being opened. */
  readonly maxConnections: number
  /** Connections being opened. */
  readonly maxPending: number
  /** Connects to a second or later endpoint going on at one time. */
  readonly maxRetries: number
  /** The same as `maxConnections`, per endpoint. */
  readonly maxConnectionsPerEndpoint: number
  /** The status says what is left. */
  readonly trackRemaining: boolean
}

/** TCP keepalive towards the upstream; undefined = the system's default. */
export interface KeepaliveConfig {
  readonly idleMs: number | undefined
}

export interface DnsConfig {
  readonly refreshMs: number
  /** Delay after failures: doubled from base to max, with jitter. */
  readonly failureBaseMs: number
  readonly failureMaxMs: number
  /** The answer's TTL decides when to ask again. */
  readonly respectTtl: boolean
  readonly family: 'AUTO' | 'V4_ONLY' | 'V6_ONLY' | 'V4_PREFERRED' | 'ALL'
}

/** Matched one after the other, with anything between them. */
export type PayloadBlocks = readonly Buffer[]

export type HealthCheckKind =
  | { readonly kind: 'tcp'; readonly send: Buffer | undefined; readonly receive: PayloadBlocks }
  | {
      readonly kind: 'http'
      readonly method: string
      readonly path: string
      /** Empty: the upstream's name. An endpoint's own host name goes before it. */
      readonly host: string
      readonly headers: readonly (readonly [name: string, value: string])[]
      readonly expected: readonly StatusRange[]
      readonly retriable: readonly StatusRange[]
      readonly receive: PayloadBlocks
      /** How much of a response's body is kept for `receive`; 0 = all of it, up to our own bound. */
      readonly responseBytes: number
    }

/** `[start, end)`. */
export interface StatusRange {
  readonly start: number
  readonly end: number
}

export interface HealthCheckConfig {
  readonly check: HealthCheckKind
  readonly timeoutMs: number
  readonly intervalMs: number
  readonly unhealthyIntervalMs: number
  readonly unhealthyEdgeIntervalMs: number
  readonly healthyEdgeIntervalMs: number
  /** While the upstream has never had a connection. */
  readonly noTrafficIntervalMs: number
  readonly noTrafficHealthyIntervalMs: number
  readonly initialJitterMs: number
  readonly intervalJitterMs: number
  readonly intervalJitterPercent: number
  readonly unhealthyThreshold: number
  readonly healthyThreshold: number
  readonly reuseConnection: boolean
  /** Instead of those of the endpoint's TLS context; empty = those. */
  readonly alpn: readonly string[]
  /** Chooses the transport socket of checks instead of the endpoint's metadata. */
  readonly socketCriteria: Readonly<Record<string, unknown>> | undefined
  readonly logFailures: boolean
  readonly logSuccesses: boolean
}

/** When connections leave a priority that gets nothing new: once they rest, or at the deadline. Milliseconds. */
export interface FailbackConfig {
  /** Silence after the server's last word that counts as rest. */
  readonly quietMs: number
  readonly deadlineMs: number
}

/** One TLV of a PROXY protocol v2 header: a literal, or a format of the access log's commands. */
export interface ProxyProtocolTlv {
  readonly type: number
  readonly value: Buffer | undefined
  readonly format: string
}

/** The PROXY protocol header before everything else, TLS included. */
export interface UpstreamProxyProtocolConfig {
  readonly version: 'V1' | 'V2'
  /** Which of the connection's own TLVs (`tcp_proxy`'s and the downstream header's) go along. */
  readonly passTlvs: 'none' | 'all' | readonly number[]
  readonly addedTlvs: readonly ProxyProtocolTlv[]
}
