import type { CircuitBreakerStatus } from './circuit-breaker.ts'
import type { HealthFlag } from './endpoint.ts'
import type { NameStatus } from './resolver.ts'

export interface EndpointStatus {
  /** `ip:port`. */
  readonly address: string
  /** As configured: a host name where the engine resolved one. */
  readonly hostname: string
  readonly priority: number
  readonly region: string
  readonly zone: string
  readonly subZone: string
  /** `region/zone`, for people. */
  readonly locality: string
  readonly weight: number
  /** It may be chosen: healthy, or degraded. */
  readonly healthy: boolean
  readonly health: 'healthy' | 'degraded' | 'unhealthy' | 'excluded'
  /** What counts against it, in Envoy's words; empty = nothing. */
  readonly healthFlags: readonly HealthFlag[]
  /** What discovery says of it. */
  readonly edsHealth: 'UNKNOWN' | 'HEALTHY' | 'UNHEALTHY' | 'DRAINING' | 'TIMEOUT' | 'DEGRADED'
  /** Why it is not chosen, in words; empty when it is. */
  readonly detail: string
  /** Connections open and being opened. */
  readonly active: number
  /** Consecutive failed connects. */
  readonly failures: number
  readonly ejections: number
  /** Percent, -1 = too little traffic. */
  readonly successRate: number
  readonly cxTotal: number
  readonly cxConnectFail: number
  readonly cxConnectTimeout: number
  /** Payload to and from it, of connections that have ended. */
  readonly bytesSent: number
  readonly bytesReceived: number
}

export interface UpstreamHealth {
  readonly name: string
  /** Endpoints that may be chosen, and the others. */
  readonly healthy: number
  readonly unhealthy: number
  /** Connections open and being opened. */
  readonly active: number
}

export interface UpstreamStatus {
  readonly name: string
  readonly type: 'EDS' | 'STATIC' | 'STRICT_DNS' | 'LOGICAL_DNS'
  readonly version: string
  readonly policy: 'LEAST_REQUEST' | 'ROUND_ROBIN' | 'RANDOM' | 'RING_HASH' | 'MAGLEV'
  readonly endpoints: readonly EndpointStatus[]
  /** Endpoints that discovery named and that are never called, with the reason. */
  readonly refused: readonly { readonly address: string; readonly reason: string }[]
  /** Host names behind endpoints. */
  readonly names: readonly NameStatus[]
  /** Traffic goes to all endpoints of a priority, because too few of them are healthy. */
  readonly panicking: boolean
  readonly circuitBreakers: CircuitBreakerStatus
  readonly counters: UpstreamCounters
  /** Why nothing can be chosen; empty when something can. */
  readonly detail: string
}

export interface UpstreamCounters {
  cxTotal: number
  cxConnectFail: number
  cxConnectTimeout: number
  /** Connects to a second or later endpoint. */
  cxRetry: number
  /** Connects that failed for a reason of this machine, by its code: `EMFILE`, `EADDRNOTAVAIL`; `CONFIG` for a missing secret. */
  cxLocalFail: Record<string, number>
  /** Connections refused by `drop_overloads`. */
  dropped: number
  /** Connections cut because their endpoint became unhealthy. */
  cxCutUnhealthy: number
}
