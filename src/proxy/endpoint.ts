import type { Clock } from '../lib/clock.ts'
import type { EndpointConfig, OutlierConfig } from '../resources/accept-types.ts'

/** One address that an upstream's connections may go to, with what we learnt of it; survives changes of its configuration. */
export class Endpoint {
  /** `ip:port`. */
  readonly name: string
  readonly host: string
  readonly port: number
  /** As configured: differs from `host` where the engine resolved a name. */
  readonly configuredHost: string
  config: EndpointConfig
  /** Open connections, and those being opened. */
  active = 0
  #failures = 0
  #ejections = 0
  #ejected = false
  #cancelReturn: (() => void) | undefined

  constructor(config: EndpointConfig, host: string) {
    this.config = config
    this.host = host
    this.port = config.address.port
    this.configuredHost = config.address.host
    this.name = formatAddress(host, config.address.port)
  }

  get ejected(): boolean {
    return this.#ejected
  }

  get available(): boolean {
    return this.config.healthy && !this.#ejected
  }

  /** Consecutive failed connects. */
  get failures(): number {
    return this.#failures
  }

  succeeded(): void {
    this.#failures = 0
    this.#ejections = 0
  }

  /** Counts a failed connect; true when it was one too many. */
  failed(outlier: OutlierConfig | undefined): boolean {
    this.#failures += 1
    return outlier !== undefined && this.#failures >= outlier.consecutiveFailures && !this.#ejected
  }

  /** Takes it out for `baseEjectionMs` times the number of ejections in a row (Envoy's rule), then calls back. */
  eject(outlier: OutlierConfig, clock: Clock, onReturn: () => void): void {
    this.#ejected = true
    this.#ejections += 1
    const forMs = Math.min(outlier.baseEjectionMs * this.#ejections, outlier.maxEjectionMs)
    this.#cancelReturn = clock.after(forMs, () => {
      this.#ejected = false
      this.#failures = 0
      onReturn()
    })
  }

  dispose(): void {
    this.#cancelReturn?.()
  }
}

/** `1.2.3.4:80`, `[::1]:80`. */
export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
