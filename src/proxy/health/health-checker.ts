import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Result } from '../../lib/result.ts'
import type { TransportSocketConfig } from '../../resources/accept-types.ts'
import type { HealthCheckConfig } from '../../resources/upstream-types.ts'
import { Cancellation, type Connector } from '../connector.ts'
import type { Endpoint } from '../endpoint.ts'
import { proxyHeader } from '../proxy-protocol-encode.ts'
import type { PumpEnd } from '../pump.ts'
import { type Checked, type CheckFailure, runCheck } from './check.ts'
import type { ProbeGate } from './probe-gate.ts'

export interface HealthCheckerDeps {
  readonly clock: Clock
  readonly logger: Logger
  readonly random: () => number
  readonly connector: Pick<Connector, 'connect'>
  readonly gate: ProbeGate
  readonly upstream: string
  /** Which socket an endpoint is checked over; by these criteria where given. */
  readonly socketFor: (
    endpoint: Endpoint,
    criteria: Readonly<Record<string, unknown>> | undefined,
  ) => TransportSocketConfig
  /** Why an address must not be called at all. */
  readonly forbidden: (host: string) => string | undefined
  /** Whether the upstream has ever had a connection: until then checks are rare. */
  readonly hasTraffic: () => boolean
  /** A check was passed or failed for good; `changed`: the endpoint's flags are not what they were. */
  readonly onResult: (endpoint: Endpoint, healthy: boolean, changed: boolean) => void
}

/** Active health checking of one upstream's endpoints, by Envoy's rules. */
export class HealthChecker {
  readonly #deps: HealthCheckerDeps
  readonly #sessions = new Map<Endpoint, CheckSession>()
  #config: HealthCheckConfig

  constructor(config: HealthCheckConfig, deps: HealthCheckerDeps) {
    this.#config = config
    this.#deps = deps
  }

  /** Begins checks of endpoints that are new, ends those of endpoints that are gone. */
  sync(config: HealthCheckConfig, endpoints: Iterable<Endpoint>): void {
    const changed = config !== this.#config
    this.#config = config
    const gone = new Set(this.#sessions.keys())
    for (const endpoint of endpoints) {
      if (endpoint.config.healthCheck.disabled) continue
      gone.delete(endpoint)
      const session = this.#sessions.get(endpoint)
      if (session === undefined) this.#sessions.set(endpoint, new CheckSession(endpoint, config, this.#deps))
      else if (changed) session.configure(config)
    }
    for (const endpoint of gone) {
      this.#sessions.get(endpoint)?.close()
      this.#sessions.delete(endpoint)
    }
  }

  /** What the last check said; empty where it was passed or is still to come. */
  detail(endpoint: Endpoint): string {
    return this.#sessions.get(endpoint)?.detail ?? ''
  }

  close(): void {
    for (const session of this.#sessions.values()) session.close()
    this.#sessions.clear()
  }
}

/** The checks of one endpoint, one after the other. */
class CheckSession {
  detail = ''
  readonly #endpoint: Endpoint
  readonly #deps: HealthCheckerDeps
  #config: HealthCheckConfig
  #first = true
  #passed = 0
  #failed = 0
  #connection: PumpEnd | undefined
  #cancellation = new Cancellation()
  #cancelTimer: (() => void) | undefined
  #closed = false
  #running = false
  /** The kept connection is that of an older configuration. */
  #stale = false

  constructor(endpoint: Endpoint, config: HealthCheckConfig, deps: HealthCheckerDeps) {
    this.#endpoint = endpoint
    this.#config = config
    this.#deps = deps
    this.#schedule(Math.floor(deps.random() * config.initialJitterMs))
  }

  configure(config: HealthCheckConfig): void {
    this.#config = config
    // A check that is running ends by itself: what we break is no failure of the endpoint.
    if (this.#running) this.#stale = true
    else this.#drop()
  }

  close(): void {
    this.#closed = true
    this.#cancelTimer?.()
    this.#cancellation.cancel()
    this.#drop()
  }

  #schedule(ms: number): void {
    if (!this.#closed) this.#cancelTimer = this.#deps.clock.after(ms, () => void this.#run())
  }

  async #run(): Promise<void> {
    await this.#deps.gate.enter()
    if (this.#closed) return this.#deps.gate.leave()
    this.#running = true
    const result = await this.#check()
    this.#running = false
    this.#deps.gate.leave()
    if (this.#stale) this.#drop()
    this.#stale = false
    if (this.#closed) return this.#drop()
    this.#schedule(result.ok ? this.#onSuccess(result.value) : this.#onFailure(result.error))
  }

  async #check(): Promise<Result<Checked, CheckFailure>> {
    const config = this.#config
    const { clock } = this.#deps
    const beganMs = clock.now()
    const connection = await this.#connect(config)
    if (!connection.ok) return connection
    // A connect that went well is all that such a check asks for.
    if (config.check.kind === 'tcp' && config.check.receive.length === 0) {
      this.#drop()
      return { ok: true, value: { degraded: false, reusable: false } }
    }
    const { stream } = connection.value
    let late = false
    const cancelTimer = clock.after(Math.max(0, config.timeoutMs - (clock.now() - beganMs)), () => {
      late = true
      stream.destroy()
    })
    this.#cancellation.listener = () => stream.destroy()
    const result = await runCheck(config.check, connection.value, this.#hostHeader(), config.reuseConnection)
    cancelTimer()
    this.#cancellation.listener = undefined
    if (!result.ok || !result.value.reusable || !config.reuseConnection) this.#drop()
    return late && !result.ok
      ? { ok: false, error: { kind: 'timeout', detail: `no answer within ${config.timeoutMs} ms` } }
      : result
  }

  async #connect(config: HealthCheckConfig): Promise<Result<PumpEnd, CheckFailure>> {
    const kept = this.#connection
    if (kept !== undefined && !kept.stream.destroyed && !kept.stream.readableEnded)
      return { ok: true, value: kept }
    this.#drop()
    const { connector, socketFor, forbidden } = this.#deps
    const { healthCheck } = this.#endpoint.config
    const host = healthCheck.host || this.#endpoint.host
    const port = healthCheck.port || this.#endpoint.port
    const unfit = forbidden(host)
    if (unfit !== undefined) return { ok: false, error: { kind: 'active', detail: `${host} is ${unfit}` } }
    const socket = socketFor(this.#endpoint, config.socketCriteria)
    const result = await connector.connect(host, port, socket, {
      timeoutMs: config.timeoutMs,
      keepalive: undefined,
      header: socket.proxyProtocol && proxyHeader(socket.proxyProtocol, undefined, []),
      ...(config.alpn.length > 0 && { alpn: config.alpn }),
      cancellation: this.#cancellation,
    })
    if (!result.ok) {
      const { kind, detail } = result.error
      return { ok: false, error: { kind: kind === 'timeout' ? 'timeout' : 'network', detail } }
    }
    this.#connection = result.value
    result.value.stream.on('error', () => {})
    return result
  }

  #hostHeader(): string {
    const { check } = this.#config
    return (
      this.#endpoint.config.healthCheck.hostname ||
      (check.kind === 'http' && check.host) ||
      this.#deps.upstream
    )
  }

  /** The delay until the next check. The first success of all counts at once, later ones only when there were enough in a row. */
  #onSuccess({ degraded }: Checked): number {
    const endpoint = this.#endpoint
    const config = this.#config
    this.#failed = 0
    this.detail = ''
    let [changed, pending] = [endpoint.mark('degraded_active_hc', degraded), false]
    if (endpoint.flags.has('failed_active_hc')) {
      this.#passed += 1
      if (this.#first || this.#passed >= config.healthyThreshold) {
        this.#passed = 0
        endpoint.mark('active_hc_timeout', false)
        changed = endpoint.mark('failed_active_hc', false) || changed
        this.#deps.logger.info(this.#fields(), 'endpoint passes its health checks')
      } else pending = true
    }
    if (config.logSuccesses) this.#deps.logger.info(this.#fields(), 'health check passed')
    changed = endpoint.mark('pending_active_hc', false) || changed
    this.#first = false
    this.#deps.onResult(endpoint, true, changed)
    if (!this.#deps.hasTraffic()) return this.#jittered(config.noTrafficHealthyIntervalMs)
    return this.#jittered(pending ? config.healthyEdgeIntervalMs : config.intervalMs)
  }

  #onFailure({ kind, detail }: CheckFailure): number {
    const endpoint = this.#endpoint
    const config = this.#config
    const first = this.#first
    this.#passed = 0
    this.detail = detail
    let [changed, pending] = [false, false]
    if (!endpoint.flags.has('failed_active_hc')) {
      this.#failed += 1
      // A bad answer is enough; silence and refusals may pass.
      if (kind === 'active' || this.#failed >= config.unhealthyThreshold) {
        this.#failed = 0
        endpoint.mark('active_hc_timeout', kind === 'timeout')
        changed = endpoint.mark('failed_active_hc', true)
        this.#deps.logger.warn({ ...this.#fields(), detail }, 'endpoint fails its health checks')
      } else pending = true
    }
    if (config.logFailures || first)
      this.#deps.logger.warn({ ...this.#fields(), detail }, 'health check failed')
    changed = endpoint.mark('pending_active_hc', false) || changed
    this.#first = false
    this.#deps.onResult(endpoint, false, changed)
    if (!this.#deps.hasTraffic()) return this.#jittered(config.noTrafficIntervalMs)
    return this.#jittered(pending ? config.unhealthyEdgeIntervalMs : config.unhealthyIntervalMs)
  }

  #jittered(ms: number): number {
    const { intervalJitterMs, intervalJitterPercent } = this.#config
    const { random } = this.#deps
    return ms + random() * ((ms * intervalJitterPercent) / 100) + random() * intervalJitterMs
  }

  #drop(): void {
    this.#connection?.stream.destroy()
    this.#connection?.raw.destroy()
    this.#connection = undefined
  }

  #fields() {
    return { upstream: this.#deps.upstream, endpoint: this.#endpoint.name }
  }
}
