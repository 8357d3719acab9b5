import type { EndpointConfig } from '../resources/accept-types.ts'
import type { Candidate } from './balance/pickers.ts'
import type { PumpEnd } from './pump.ts'

/** What counts against an endpoint, in the words of Envoy's `/clusters`. */
export type HealthFlag =
  | 'failed_active_hc'
  | 'failed_outlier_check'
  | 'failed_eds_health'
  | 'degraded_active_hc'
  | 'degraded_eds_health'
  | 'pending_dynamic_removal'
  | 'pending_active_hc'
  | 'active_hc_timeout'
  | 'eds_status_draining'

/** One address that an upstream's connections may go to, with what we learnt of it; survives changes of its configuration. */
export class Endpoint implements Candidate {
  /** `ip:port`. */
  readonly name: string
  readonly host: string
  readonly port: number
  /** As configured: differs from `host` where the engine resolved a name. */
  readonly configuredHost: string
  config: EndpointConfig
  /** Place in hash rings. */
  hashKey: string
  /** Connections open and being opened. */
  active = 0
  cxTotal = 0
  cxConnectFail = 0
  cxConnectTimeout = 0
  /** Payload of connections that have ended. */
  bytesSent = 0
  bytesReceived = 0
  // Most of thousands of endpoints have neither flags nor connections.
  #flags: Set<HealthFlag> | undefined
  #connections: Set<PumpEnd> | undefined
  #health: Candidate['health'] = 'healthy'
  #excludePending = false

  constructor(config: EndpointConfig, host: string) {
    this.config = config
    this.host = host
    this.port = config.address.port
    this.configuredHost = config.address.host
    this.name = formatAddress(host, config.address.port)
    this.hashKey = this.name
  }

  get weight(): number {
    return this.config.weight
  }

  get health(): Candidate['health'] {
    return this.#health
  }

  get flags(): ReadonlySet<HealthFlag> {
    return this.#flags ?? NO_FLAGS
  }

  /** The flags that are set, in Envoy's order. */
  flagList(): HealthFlag[] {
    return ORDER.filter((flag) => this.flags.has(flag))
  }

  /** Takes over what discovery says of it. `excludePending`: it does not count while its first check is to come. */
  configure(config: EndpointConfig, options: { hashByHostname: boolean; excludePending: boolean }): void {
    this.config = config
    this.hashKey = config.hashKey || (options.hashByHostname ? config.hostname : '') || this.name
    this.#excludePending = options.excludePending
    const { healthStatus } = config
    this.#flag('failed_eds_health', ['UNHEALTHY', 'DRAINING', 'TIMEOUT'].includes(healthStatus))
    this.#flag('eds_status_draining', healthStatus === 'DRAINING')
    this.#flag('degraded_eds_health', healthStatus === 'DEGRADED')
    this.#judge()
  }

  /** Sets or clears a flag; true where that changes whether it may be chosen. */
  mark(flag: HealthFlag, on: boolean): boolean {
    const before = this.#health
    this.#flag(flag, on)
    this.#judge()
    return before !== this.#health
  }

  /** Remembers a connection to it. */
  hold(end: PumpEnd): void {
    this.#connections ??= new Set()
    this.#connections.add(end)
  }

  /** Its socket is closed. */
  release(end: PumpEnd): void {
    this.#connections?.delete(end)
  }

  /** Breaks its connections, with an error so that nobody takes a cut stream for a whole one. */
  cut(reason: string): number {
    const connections = [...(this.#connections ?? [])]
    for (const { stream } of connections) stream.destroy(new Error(reason))
    return connections.length
  }

  #flag(flag: HealthFlag, on: boolean): void {
    if (!on) {
      this.#flags?.delete(flag)
      return
    }
    this.#flags ??= new Set()
    this.#flags.add(flag)
  }

  #judge(): void {
    const { flags } = this
    if (flags.has('pending_active_hc') && this.#excludePending) this.#health = 'excluded'
    else if (FAILED.some((flag) => flags.has(flag))) this.#health = 'unhealthy'
    else this.#health = DEGRADED.some((flag) => flags.has(flag)) ? 'degraded' : 'healthy'
  }
}

const NO_FLAGS: ReadonlySet<HealthFlag> = new Set()
const ORDER: readonly HealthFlag[] = [
  'failed_active_hc',
  'failed_outlier_check',
  'failed_eds_health',
  'degraded_active_hc',
  'degraded_eds_health',
  'pending_dynamic_removal',
  'pending_active_hc',
  'active_hc_timeout',
  'eds_status_draining',
]
const FAILED: readonly HealthFlag[] = ['failed_active_hc', 'failed_outlier_check', 'failed_eds_health']
const DEGRADED: readonly HealthFlag[] = ['degraded_active_hc', 'degraded_eds_health']

/** `1.2.3.4:80`, `[::1]:80`. */
export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
