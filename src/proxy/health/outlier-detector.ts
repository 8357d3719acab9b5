import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { OutlierConfig } from '../../resources/upstream-types.ts'
import type { Endpoint } from '../endpoint.ts'

export interface OutlierDeps {
  readonly clock: Clock
  readonly logger: Logger
  readonly random: () => number
  /** For log lines. */
  readonly upstream: string
  readonly endpoints: () => readonly Endpoint[]
  /** An endpoint was ejected or came back. */
  readonly onChange: (endpoint: Endpoint, ejected: boolean) => void
}

/** What the detector remembers of one endpoint. */
interface Record {
  consecutive: number
  consecutiveGateway: number
  /** Ejections, less one for each interval since that went well: the next one lasts so many times longer. */
  ejections: number
  returnedMs: number
  cancelReturn: (() => void) | undefined
  /** Results since the last sweep. */
  total: number
  successes: number
  successRate: number
}

export interface OutlierStatus {
  readonly consecutiveFailures: number
  readonly ejections: number
  /** Percent, of the last interval with enough connects; -1 = there was none. */
  readonly successRate: number
}

/** Passive health checking by Envoy's rules: ejects endpoints whose connects fail, and lets them return after a time that grows. */
export class OutlierDetector {
  readonly #deps: OutlierDeps
  readonly #records = new Map<Endpoint, Record>()
  #config: OutlierConfig | undefined
  #cancelSweep: (() => void) | undefined

  constructor(deps: OutlierDeps) {
    this.#deps = deps
  }

  configure(config: OutlierConfig | undefined): void {
    this.#config = config
    if (config !== undefined) return
    for (const endpoint of [...this.#records.keys()]) this.forget(endpoint)
    this.#cancelSweep?.()
    this.#cancelSweep = undefined
  }

  status(endpoint: Endpoint): OutlierStatus {
    const { consecutive = 0, ejections = 0, successRate = -1 } = this.#records.get(endpoint) ?? {}
    return { consecutiveFailures: consecutive, ejections, successRate }
  }

  /** A connect, TLS included, went well. */
  succeeded(endpoint: Endpoint): void {
    // Most endpoints never fail, and those without a rate to be judged by need no record.
    if (this.#config === undefined || (!this.#sweeping && !this.#records.has(endpoint))) return
    const record = this.#recordOf(endpoint)
    record.consecutive = 0
    record.consecutiveGateway = 0
    this.#count(record, true)
  }

  failed(endpoint: Endpoint, reason: string): void {
    const config = this.#config
    if (config === undefined) return
    const record = this.#recordOf(endpoint)
    this.#count(record, false)
    record.consecutive += 1
    record.consecutiveGateway += 1
    if (record.consecutiveGateway === config.consecutiveGatewayFailures) {
      record.consecutiveGateway = 0
      this.#eject(
        endpoint,
        record,
        config.enforcingGatewayFailures,
        `consecutive gateway failures: ${reason}`,
      )
    }
    if (record.consecutive >= config.consecutiveFailures && config.consecutiveFailures > 0) {
      const { consecutive } = record
      record.consecutive = 0
      this.#eject(endpoint, record, config.enforcingConsecutive, `${consecutive} failed connects: ${reason}`)
    }
  }

  /** A health check says that it is well again. */
  checkPassed(endpoint: Endpoint): void {
    if (this.#config?.healthCheckUnejects === true) this.#return(endpoint)
  }

  forget(endpoint: Endpoint): void {
    this.#return(endpoint)
    this.#records.delete(endpoint)
  }

  close(): void {
    this.configure(undefined)
  }

  get #sweeping(): boolean {
    const { successRate, failurePercentage } = this.#config ?? {}
    return (successRate?.enforcing ?? 0) > 0 || (failurePercentage?.enforcing ?? 0) > 0
  }

  #recordOf(endpoint: Endpoint): Record {
    let record = this.#records.get(endpoint)
    if (record === undefined) {
      record = {
        consecutive: 0,
        consecutiveGateway: 0,
        ejections: 0,
        returnedMs: 0,
        cancelReturn: undefined,
        total: 0,
        successes: 0,
        successRate: -1,
      }
      this.#records.set(endpoint, record)
    }
    return record
  }

  #eject(endpoint: Endpoint, record: Record, enforcing: number, reason: string): void {
    const config = this.#config
    if (config === undefined || endpoint.flags.has('failed_outlier_check')) return
    const { clock, logger, random, upstream } = this.#deps
    if (random() * 100 >= enforcing) return
    const all = this.#deps.endpoints()
    const ejected = all.filter(({ flags }) => flags.has('failed_outlier_check')).length
    const within = (100 * (ejected + 1)) / all.length <= config.maxEjectionPercent
    if (!within && !(config.alwaysEjectOne && ejected === 0)) return
    const calm =
      record.ejections === 0 ? 0 : Math.floor((clock.now() - record.returnedMs) / config.intervalMs)
    record.ejections = Math.max(0, record.ejections - calm) + 1
    const forMs =
      Math.min(config.baseEjectionMs * record.ejections, config.maxEjectionMs) +
      Math.floor(random() * config.maxEjectionJitterMs)
    record.cancelReturn = clock.after(forMs, () => this.#return(endpoint))
    endpoint.mark('failed_outlier_check', true)
    logger.warn({ upstream, endpoint: endpoint.name, reason, forMs }, 'endpoint ejected')
    this.#deps.onChange(endpoint, true)
  }

  #return(endpoint: Endpoint): void {
    const record = this.#records.get(endpoint)
    if (record === undefined || !endpoint.flags.has('failed_outlier_check')) return
    record.cancelReturn?.()
    record.cancelReturn = undefined
    record.returnedMs = this.#deps.clock.now()
    record.consecutive = 0
    record.consecutiveGateway = 0
    endpoint.mark('failed_outlier_check', false)
    const { logger, upstream } = this.#deps
    logger.info({ upstream, endpoint: endpoint.name }, 'endpoint is back in rotation')
    this.#deps.onChange(endpoint, false)
  }

  #count(record: Record, success: boolean): void {
    record.total += 1
    if (success) record.successes += 1
    const config = this.#config
    if (config === undefined || !this.#sweeping) return
    this.#cancelSweep ??= this.#deps.clock.after(config.intervalMs, () => this.#sweep())
  }

  /** Looks at the success rates of an interval; only intervals in which anything happened have an end. */
  #sweep(): void {
    this.#cancelSweep = undefined
    const config = this.#config
    if (config === undefined) return
    const { successRate: rates, failurePercentage: failures } = config
    const counted: { endpoint: Endpoint; record: Record; rate: number; total: number }[] = []
    for (const [endpoint, record] of this.#records) {
      const { total, successes } = record
      record.total = 0
      record.successes = 0
      record.successRate = -1
      if (endpoint.flags.has('failed_outlier_check') || total === 0) continue
      const rate = (100 * successes) / total
      if (total >= Math.min(rates.volume, failures.volume)) record.successRate = rate
      counted.push({ endpoint, record, rate, total })
    }
    const judged = counted.filter(({ total }) => total >= rates.volume)
    if (judged.length > 0 && judged.length >= rates.minimumHosts) {
      const mean = judged.reduce((sum, { rate }) => sum + rate, 0) / judged.length
      const variance = judged.reduce((sum, { rate }) => sum + (rate - mean) ** 2, 0) / judged.length
      const threshold = mean - (rates.stdevFactor / 1_000) * Math.sqrt(variance)
      for (const { endpoint, record, rate } of judged)
        if (rate < threshold)
          this.#eject(
            endpoint,
            record,
            rates.enforcing,
            `success rate ${rate.toFixed(1)} %, below ${threshold.toFixed(1)} %`,
          )
    }
    const failing = counted.filter(({ total }) => total >= failures.volume)
    if (failing.length > 0 && failing.length >= failures.minimumHosts) {
      for (const { endpoint, record, rate } of failing)
        if (100 - rate >= failures.threshold)
          this.#eject(
            endpoint,
            record,
            failures.enforcing,
            `${(100 - rate).toFixed(1)} % of its connects failed`,
          )
    }
  }
}
