import type { CircuitBreakerConfig } from '../resources/upstream-types.ts'

/** Names of the limits, as Envoy's thresholds have them. */
export type Limit = 'max_connections' | 'max_pending_requests' | 'max_retries'

export interface CircuitBreakerStatus {
  readonly connections: number
  readonly pending: number
  readonly retries: number
  /** Null = no limit (JSON has no infinity). */
  readonly limits: Readonly<Record<Limit | 'max_connections_per_endpoint', number | null>>
  /** How often each limit refused a connection. */
  readonly overflows: Readonly<Record<Limit | 'max_connections_per_endpoint', number>>
  /** What is left of each limit, where `track_remaining` asks for it. */
  readonly remaining?: Readonly<Record<Limit, number | null>>
}

/** Counts what one upstream has going on in this worker, and refuses what would be too much. */
export class CircuitBreaker {
  /** Open and being opened. */
  connections = 0
  /** Being opened. */
  pending = 0
  /** Being opened after another endpoint of the same connection had failed. */
  retries = 0
  #config: CircuitBreakerConfig
  readonly #overflows = {
    max_connections: 0,
    max_pending_requests: 0,
    max_retries: 0,
    max_connections_per_endpoint: 0,
  }

  constructor(config: CircuitBreakerConfig) {
    this.#config = config
  }

  configure(config: CircuitBreakerConfig): void {
    this.#config = config
  }

  get perEndpoint(): number {
    return this.#config.maxConnectionsPerEndpoint
  }

  /** The limit that one more connect would break, in words; counts the refusal. */
  refuse(retrying: boolean): string | undefined {
    const { maxConnections, maxPending, maxRetries } = this.#config
    if (this.connections >= maxConnections) return this.#refused('max_connections', maxConnections)
    if (this.pending >= maxPending) return this.#refused('max_pending_requests', maxPending)
    if (retrying && this.retries >= maxRetries) return this.#refused('max_retries', maxRetries)
    return undefined
  }

  refusePerEndpoint(): string {
    this.#overflows.max_connections_per_endpoint += 1
    return `every endpoint has reached per_host_thresholds.max_connections (${this.perEndpoint})`
  }

  status(): CircuitBreakerStatus {
    const { connections, pending, retries } = this
    const { maxConnections, maxPending, maxRetries, trackRemaining } = this.#config
    const limits = {
      max_connections: finite(maxConnections),
      max_pending_requests: finite(maxPending),
      max_retries: finite(maxRetries),
      max_connections_per_endpoint: finite(this.perEndpoint),
    }
    const remaining = {
      max_connections: finite(Math.max(0, maxConnections - connections)),
      max_pending_requests: finite(Math.max(0, maxPending - pending)),
      max_retries: finite(Math.max(0, maxRetries - retries)),
    }
    const overflows = { ...this.#overflows }
    return { connections, pending, retries, limits, overflows, ...(trackRemaining && { remaining }) }
  }

  #refused(limit: Limit, value: number): string {
    this.#overflows[limit] += 1
    return `${limit} (${value}) is reached`
  }
}

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null)
