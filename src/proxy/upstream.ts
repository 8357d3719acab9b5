import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { EndpointsConfig, TransportSocketConfig, UpstreamConfig } from '../resources/accept-types.ts'
import type { Ending } from './access-log.ts'
import { CircuitBreaker } from './circuit-breaker.ts'
import { type AttemptOwner, ConnectAttempt } from './connect-attempt.ts'
import type { ConnectFailure, Connector } from './connector.ts'
import type { Endpoint } from './endpoint.ts'
import { EndpointSet } from './endpoint-set.ts'
import { Failback } from './failback.ts'
import { HealthChecker } from './health/health-checker.ts'
import { OutlierDetector } from './health/outlier-detector.ts'
import type { ProbeGate } from './health/probe-gate.ts'
import { LoadBalancer } from './load-balancer.ts'
import type { Resolve } from './resolve.ts'
import type { EndpointStatus, UpstreamCounters, UpstreamHealth, UpstreamStatus } from './upstream-status.ts'

export interface UpstreamDeps {
  readonly clock: Clock
  readonly logger: Logger
  readonly resolve: Resolve
  readonly random: () => number
  /** For health checks. */
  readonly connector: Pick<Connector, 'connect'>
  readonly gate: ProbeGate
  /** What stands at an address that no endpoint may name; undefined where it may be called. */
  readonly forbidden: (host: string) => string | undefined
}

/** Where connections of one name go: its endpoints, their health, and the choice between them. */
export class Upstream {
  readonly name: string
  /** Where connections go back to when their better priority is well again. */
  readonly failback: Failback
  readonly #deps: UpstreamDeps
  readonly #endpoints: EndpointSet
  readonly #outliers: OutlierDetector
  readonly #breaker: CircuitBreaker
  /** Most of thousands of upstreams are never called. */
  #attempts: AttemptOwner | undefined
  readonly #counters: UpstreamCounters = {
    cxTotal: 0,
    cxConnectFail: 0,
    cxConnectTimeout: 0,
    cxRetry: 0,
    cxLocalFail: {},
    dropped: 0,
    cxCutUnhealthy: 0,
  }
  #config: UpstreamConfig
  #assignment: EndpointsConfig | undefined
  #checker: HealthChecker | undefined
  #balancer: LoadBalancer<Endpoint> | undefined
  #cancelStale: (() => void) | undefined
  #stale = false

  constructor(config: UpstreamConfig, deps: UpstreamDeps) {
    this.name = config.name
    this.#config = config
    this.#deps = deps
    this.#breaker = new CircuitBreaker(config.circuitBreakers)
    this.failback = new Failback({
      clock: deps.clock,
      upstream: config.name,
      passedOver: () => this.#balance().passedOver,
    })
    this.failback.configure(config.failback)
    this.#outliers = new OutlierDetector({
      ...deps,
      upstream: config.name,
      endpoints: () => [...this.#endpoints],
      onChange: (endpoint, ejected) => this.#healthChanged(endpoint, ejected ? 'was ejected' : ''),
    })
    this.#outliers.configure(config.outlier)
    this.#endpoints = new EndpointSet(config, {
      ...deps,
      onChange: () => this.#reassign(),
      onGone: (endpoint) => this.#outliers.forget(endpoint),
    })
    this.#assignment = config.inlineEndpoints
    this.#reassign()
  }

  get config(): UpstreamConfig {
    return this.#config
  }

  /** Puts a new configuration in force. Endpoints that stay keep what was learnt of them. */
  update(config: UpstreamConfig): void {
    this.#config = config
    this.#breaker.configure(config.circuitBreakers)
    this.#outliers.configure(config.outlier)
    this.failback.configure(config.failback)
    if (config.type === 'EDS') this.#reassign()
    else this.#assign(config.inlineEndpoints)
  }

  setEndpoints(assignment: EndpointsConfig): void {
    if (this.#config.type === 'EDS') this.#assign(assignment)
  }

  /** Why a new connection is refused before anything is tried (`drop_overloads`); undefined: it is not. */
  dropped(): string | undefined {
    for (const { category, share } of this.#assignment?.drops ?? []) {
      if (share === 0 || this.#deps.random() >= share) continue
      this.#counters.dropped += 1
      return `drop_overloads of ${this.name}: ${category}, ${100 * share} %`
    }
    return undefined
  }

  /** An endpoint for a new connection, none of those that were `tried`; `UO` where a limit forbids one, `UH` where none is left. */
  choose(tried: ReadonlySet<Endpoint>, hash?: bigint, retrying = false): Result<Endpoint, Ending> {
    const refusal = this.#breaker.refuse(retrying)
    if (refusal !== undefined)
      return fail({ flag: 'UO', reason: `circuit breaker of ${this.name}: ${refusal}` })
    const balancer = this.#balance()
    const limit = this.#breaker.perEndpoint
    let endpoint = balancer.choose(tried, hash)
    if (endpoint !== undefined && endpoint.active >= limit) {
      const full = [...this.#endpoints].filter(({ active }) => active >= limit)
      endpoint = balancer.choose(new Set([...tried, ...full]), hash)
      if (endpoint === undefined)
        return fail({
          flag: 'UO',
          reason: `circuit breaker of ${this.name}: ${this.#breaker.refusePerEndpoint()}`,
        })
    }
    if (endpoint !== undefined) return ok(endpoint)
    return fail({ flag: 'UH', reason: `no healthy upstream: ${this.whyNone()}` })
  }

  /** How an endpoint wants to be spoken to: the first match whose every pair its metadata holds. */
  socketFor(endpoint: Endpoint): TransportSocketConfig {
    return this.#socketMatching(endpoint.config.socketMetadata)
  }

  /** Counts a connect from now until its end, and after it the connection. */
  connecting(endpoint: Endpoint, retrying: boolean): ConnectAttempt {
    this.#counters.cxTotal += 1
    if (retrying) this.#counters.cxRetry += 1
    this.#attempts ??= {
      breaker: this.#breaker,
      onSuccess: (called) => this.#outliers.succeeded(called),
      onFailure: (called, failure) => this.#failed(called, failure),
      onFault: (error) =>
        this.#deps.logger.error({ err: error, upstream: this.name }, 'BUG: a callback of a socket threw'),
    }
    return new ConnectAttempt(this.#attempts, endpoint, retrying)
  }

  /** Why nothing can be chosen, in words for the access log and the 503. */
  whyNone(): string {
    if (this.#assignment === undefined) return `the endpoints of ${this.name} have not been received yet`
    if (this.#stale) return `the endpoints of ${this.name} are older than their endpoint_stale_after`
    const all = [...this.#endpoints]
    const refused = this.#endpoints.refused.map(({ address, reason }) => `${address} is refused: ${reason}`)
    if (all.length === 0 && refused.length === 0) {
      const unresolved = this.#endpoints.unresolved()
      return unresolved === '' ? `${this.name} has no endpoints` : `${this.name}: ${unresolved}`
    }
    const what = all.map((endpoint) => `${endpoint.name} ${this.#stateOf(endpoint) || 'failed to connect'}`)
    const shown = [...what, ...refused]
    const more = shown.length > 3 ? ` and ${shown.length - 3} more` : ''
    return `${this.name}: ${shown.slice(0, 3).join(', ')}${more}`
  }

  /** Endpoints that are left out, as problems of the assignment that names them. */
  problems(): Problem[] {
    return this.#endpoints.refused.map(({ address, reason }) =>
      problem(`ClusterLoadAssignment ${this.#assignment?.name ?? this.name}`, `endpoint ${address}`, reason),
    )
  }

  status(): UpstreamStatus {
    const { type, version, balancing } = this.#config
    const endpoints = this.#endpoints.localities.flatMap(
      ({ priority, region, zone, subZone, endpoints: members }) =>
        members.map((endpoint) => this.#statusOf(endpoint, { priority, region, zone, subZone })),
    )
    const usable = endpoints.some(({ healthy }) => healthy)
    return {
      name: this.name,
      type,
      version,
      policy: balancing.policy,
      endpoints,
      refused: this.#endpoints.refused,
      names: this.#endpoints.names(),
      // Thousands of upstreams that nobody calls keep no balancer.
      panicking: (this.#balancer ?? this.#newBalancer()).panicking,
      circuitBreakers: this.#breaker.status(),
      counters: { ...this.#counters, cxLocalFail: { ...this.#counters.cxLocalFail } },
      detail: usable ? '' : this.whyNone(),
    }
  }

  /** The same in three numbers. */
  health(): UpstreamHealth {
    let [healthy, unhealthy, active] = [0, 0, 0]
    for (const endpoint of this.#endpoints) {
      if (isUsable(endpoint)) healthy += 1
      else unhealthy += 1
      active += endpoint.active
    }
    return { name: this.name, healthy, unhealthy, active }
  }

  close(): void {
    this.#cancelStale?.()
    this.#checker?.close()
    this.#endpoints.close()
    this.#outliers.close()
    this.failback.close()
  }

  #balance(): LoadBalancer<Endpoint> {
    this.#balancer ??= this.#newBalancer()
    return this.#balancer
  }

  #newBalancer(): LoadBalancer<Endpoint> {
    return new LoadBalancer(
      this.#endpoints.localities,
      {
        config: this.#config.balancing,
        overprovisioningFactor: this.#assignment?.overprovisioningFactor ?? 140,
        weightedPriorityHealth: this.#assignment?.weightedPriorityHealth ?? false,
      },
      this.#deps.random,
    )
  }

  /** Takes over an assignment, new or confirmed: its time begins now. */
  #assign(assignment: EndpointsConfig | undefined): void {
    this.#assignment = assignment
    this.#stale = false
    this.#cancelStale?.()
    this.#cancelStale =
      assignment?.staleAfterMs === undefined
        ? undefined
        : this.#deps.clock.after(assignment.staleAfterMs, () => {
            this.#stale = true
            this.#deps.logger.warn(
              { upstream: this.name },
              'no newer endpoints came in time: these are stale',
            )
            this.#reassign()
          })
    this.#reassign()
  }

  #reassign(): void {
    this.#endpoints.update(this.#config, this.#stale ? undefined : this.#assignment)
    this.#balancer = undefined
    this.failback.changed()
    this.#check()
  }

  #check(): void {
    const { healthCheck } = this.#config
    if (healthCheck === undefined) {
      this.#checker?.close()
      if (this.#checker !== undefined) for (const endpoint of this.#endpoints) clearChecks(endpoint)
      this.#checker = undefined
      return
    }
    this.#checker ??= new HealthChecker(healthCheck, {
      ...this.#deps,
      upstream: this.name,
      socketFor: (endpoint, criteria) => this.#socketMatching(criteria ?? endpoint.config.socketMetadata),
      hasTraffic: () => this.#counters.cxTotal > 0,
      onResult: (endpoint, healthy, changed) => {
        if (healthy) this.#outliers.checkPassed(endpoint)
        if (changed) this.#healthChanged(endpoint, healthy ? '' : 'failed its health check')
      },
    })
    this.#checker.sync(healthCheck, this.#endpoints)
  }

  #socketMatching(metadata: Readonly<Record<string, unknown>>): TransportSocketConfig {
    const found = this.#config.socketMatches.find(({ match }) =>
      Object.entries(match).every(([key, value]) => metadata[key] === value),
    )
    return found?.socket ?? this.#config.defaultSocket
  }

  #failed(endpoint: Endpoint, { kind, code, detail }: ConnectFailure): void {
    if (kind === 'cancelled') return
    const counters = this.#counters
    // Ours to mend, not the endpoint's fault: nothing is held against it.
    if (kind === 'local') {
      const name = code || 'CONFIG'
      counters.cxLocalFail[name] = (counters.cxLocalFail[name] ?? 0) + 1
      return
    }
    endpoint.cxConnectFail += 1
    counters.cxConnectFail += 1
    if (kind === 'timeout') {
      endpoint.cxConnectTimeout += 1
      counters.cxConnectTimeout += 1
    }
    this.#outliers.failed(endpoint, detail)
  }

  /** `failure`: what took it out; empty where it is well again. */
  #healthChanged(endpoint: Endpoint, failure: string): void {
    this.#balancer = undefined
    this.failback.changed()
    if (failure !== '' && this.#config.closeOnHealthFailure)
      this.#counters.cxCutUnhealthy += endpoint.cut(`${endpoint.name} ${failure}`)
    if (failure !== '' && endpoint.flags.has('pending_dynamic_removal')) this.#reassign()
  }

  #statusOf(
    endpoint: Endpoint,
    place: Pick<EndpointStatus, 'priority' | 'region' | 'zone' | 'subZone'>,
  ): EndpointStatus {
    const { consecutiveFailures, ejections, successRate } = this.#outliers.status(endpoint)
    return {
      address: endpoint.name,
      hostname:
        endpoint.config.hostname ||
        (endpoint.configuredHost === endpoint.host ? '' : endpoint.configuredHost),
      ...place,
      locality: [place.region, place.zone].filter((part) => part !== '').join('/'),
      weight: endpoint.weight,
      healthy: isUsable(endpoint),
      health: endpoint.health,
      healthFlags: endpoint.flagList(),
      edsHealth: endpoint.config.healthStatus,
      detail: this.#stateOf(endpoint),
      active: endpoint.active,
      failures: consecutiveFailures,
      ejections,
      successRate,
      cxTotal: endpoint.cxTotal,
      cxConnectFail: endpoint.cxConnectFail,
      cxConnectTimeout: endpoint.cxConnectTimeout,
      bytesSent: endpoint.bytesSent,
      bytesReceived: endpoint.bytesReceived,
    }
  }

  #stateOf(endpoint: Endpoint): string {
    const { flags, config } = endpoint
    if (flags.has('failed_eds_health')) return `is ${config.healthStatus}`
    if (flags.has('failed_outlier_check')) return 'is ejected after failed connects'
    if (flags.has('pending_active_hc')) return 'waits for its first health check'
    if (flags.has('failed_active_hc'))
      return `fails its health check: ${this.#checker?.detail(endpoint) || 'not enough passed yet'}`
    return ''
  }
}

function isUsable({ health }: Endpoint): boolean {
  return health === 'healthy' || health === 'degraded'
}

function clearChecks(endpoint: Endpoint): void {
  for (const flag of [
    'failed_active_hc',
    'pending_active_hc',
    'active_hc_timeout',
    'degraded_active_hc',
  ] as const)
    endpoint.mark(flag, false)
}
