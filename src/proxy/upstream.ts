import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type {
  EndpointConfig,
  EndpointsConfig,
  TransportSocketConfig,
  UpstreamConfig,
} from '../resources/accept-types.ts'
import { Endpoint, formatAddress } from './endpoint.ts'
import { LoadBalancer, type Locality } from './load-balancer.ts'
import { NameResolver, type Resolve } from './resolver.ts'

export interface UpstreamDeps {
  readonly clock: Clock
  readonly logger: Logger
  readonly resolve: Resolve
  readonly random: () => number
}

export interface EndpointStatus {
  readonly address: string
  readonly priority: number
  readonly locality: string
  readonly weight: number
  readonly healthy: boolean
  /** Why it is not chosen; empty when it is. */
  readonly detail: string
  readonly active: number
  readonly failures: number
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
  readonly type: UpstreamConfig['type']
  readonly version: string
  readonly policy: UpstreamConfig['policy']
  readonly endpoints: readonly EndpointStatus[]
  /** Why nothing can be chosen; empty when something can. */
  readonly detail: string
}

/** Where connections of one name go: its endpoints, their health, and the choice between them. */
export class Upstream {
  readonly name: string
  readonly #deps: UpstreamDeps
  readonly #resolver: NameResolver
  #config: UpstreamConfig
  #assignment: EndpointsConfig | undefined
  #localities: readonly LabelledLocality[] = []
  #balancer: LoadBalancer<Endpoint> | undefined

  constructor(config: UpstreamConfig, deps: UpstreamDeps) {
    this.name = config.name
    this.#config = config
    this.#deps = deps
    const { clock, logger, resolve } = deps
    this.#resolver = new NameResolver({ clock, logger, resolve, onChange: () => this.#rebuild() })
    this.#assignment = config.inlineEndpoints
    this.#rebuild()
  }

  get config(): UpstreamConfig {
    return this.#config
  }

  /** Puts a new configuration in force. Endpoints that stay keep what was learnt of them. */
  update(config: UpstreamConfig): void {
    this.#config = config
    if (config.type !== 'EDS') this.#assignment = config.inlineEndpoints
    this.#rebuild()
  }

  setEndpoints(assignment: EndpointsConfig): void {
    if (this.#config.type !== 'EDS') return
    this.#assignment = assignment
    this.#rebuild()
  }

  /** An endpoint for a new connection, none of those that were `tried`. */
  choose(tried: ReadonlySet<Endpoint>): Endpoint | undefined {
    this.#balancer ??= new LoadBalancer(
      this.#localities,
      { ...this.#config, overprovisioningFactor: this.#assignment?.overprovisioningFactor ?? 140 },
      viewOf,
      this.#deps.random,
    )
    return this.#balancer.choose(tried)
  }

  /** How an endpoint wants to be spoken to: the first match whose every pair its metadata holds. */
  socketFor(endpoint: Endpoint): TransportSocketConfig {
    const metadata = endpoint.config.socketMetadata
    const found = this.#config.socketMatches.find(({ match }) =>
      Object.entries(match).every(([key, value]) => metadata[key] === value),
    )
    return found?.socket ?? this.#config.defaultSocket
  }

  connected(endpoint: Endpoint): void {
    endpoint.succeeded()
  }

  /** A connect failed: counts it, and takes the endpoint out where that was one too many. */
  failed(endpoint: Endpoint, reason: string): void {
    const { outlier } = this.#config
    if (!endpoint.failed(outlier) || outlier === undefined) return
    const all = this.#endpoints()
    const ejected = all.filter((other) => other.ejected).length
    if ((100 * (ejected + 1)) / all.length > outlier.maxEjectionPercent) return
    endpoint.eject(outlier, this.#deps.clock, () => {
      this.#balancer = undefined
      this.#deps.logger.info({ upstream: this.name, endpoint: endpoint.name }, 'endpoint is back in rotation')
    })
    this.#balancer = undefined
    const { failures } = endpoint
    this.#deps.logger.warn(
      { upstream: this.name, endpoint: endpoint.name, failures, reason },
      'endpoint ejected',
    )
  }

  /** Why nothing can be chosen, in words for the access log and the 503. */
  whyNone(): string {
    const all = this.#endpoints()
    if (this.#assignment === undefined) return `the endpoints of ${this.name} have not been received yet`
    const unresolved = this.#unresolved()
    if (all.length === 0)
      return unresolved === '' ? `${this.name} has no endpoints` : `${this.name}: ${unresolved}`
    const what = all.map((endpoint) => `${endpoint.name} ${stateOf(endpoint) || 'failed to connect'}`)
    const shown = what.slice(0, 3).join(', ')
    return `${this.name}: ${shown}${what.length > 3 ? ` and ${what.length - 3} more` : ''}`
  }

  status(): UpstreamStatus {
    const endpoints = this.#localities.flatMap(({ priority, endpoints: members, label }) =>
      members.map((endpoint) => ({
        address: endpoint.name,
        priority,
        locality: label,
        weight: endpoint.config.weight,
        healthy: endpoint.available,
        detail: stateOf(endpoint),
        active: endpoint.active,
        failures: endpoint.failures,
      })),
    )
    const { type, version, policy } = this.#config
    const detail = endpoints.some(({ healthy }) => healthy) ? '' : this.whyNone()
    return { name: this.name, type, version, policy, endpoints, detail }
  }

  /** The same in three numbers. */
  health(): UpstreamHealth {
    let [healthy, unhealthy, active] = [0, 0, 0]
    for (const { endpoints } of this.#localities)
      for (const endpoint of endpoints) {
        if (endpoint.available) healthy += 1
        else unhealthy += 1
        active += endpoint.active
      }
    return { name: this.name, healthy, unhealthy, active }
  }

  close(): void {
    this.#resolver.close()
    for (const endpoint of this.#endpoints()) endpoint.dispose()
  }

  #endpoints(): Endpoint[] {
    return this.#localities.flatMap(({ endpoints }) => endpoints)
  }

  #unresolved(): string {
    const hosts =
      this.#assignment?.localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address.host)) ??
      []
    return [...new Set(hosts.map((host) => this.#resolver.error(host)).filter((error) => error !== ''))].join(
      ', ',
    )
  }

  #rebuild(): void {
    const known = new Map(this.#endpoints().map((endpoint) => [endpoint.name, endpoint]))
    const localities = this.#assignment?.localities ?? []
    const hosts = localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address.host))
    this.#resolver.watch(new Set(hosts), this.#config.dnsRefreshMs)
    const taken = new Set<string>()
    this.#localities = localities.map(
      ({ region, zone, priority, weight, endpoints }): LabelledLocality => ({
        priority,
        weight,
        label: [region, zone].filter((part) => part !== '').join('/'),
        endpoints: endpoints.flatMap((config) => this.#materialise(config, known, taken)),
      }),
    )
    for (const [name, endpoint] of known) if (!taken.has(name)) endpoint.dispose()
    this.#balancer = undefined
  }

  /** One endpoint for each address; the first of two with the same address counts, as in Envoy. */
  #materialise(config: EndpointConfig, known: ReadonlyMap<string, Endpoint>, taken: Set<string>): Endpoint[] {
    const found: Endpoint[] = []
    for (const host of this.#resolver.addresses(config.address.host)) {
      const name = formatAddress(host, config.address.port)
      if (taken.has(name)) continue
      taken.add(name)
      const endpoint = known.get(name) ?? new Endpoint(config, host)
      endpoint.config = config
      found.push(endpoint)
    }
    return found
  }
}

interface LabelledLocality extends Locality<Endpoint> {
  readonly label: string
}

const viewOf = (endpoint: Endpoint) => ({
  weight: endpoint.config.weight,
  available: endpoint.available,
  active: endpoint.active,
})

function stateOf(endpoint: Endpoint): string {
  if (!endpoint.config.healthy) return `is ${endpoint.config.healthStatus}`
  return endpoint.ejected ? 'is ejected after failed connects' : ''
}
