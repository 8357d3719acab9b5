import type { EndpointConfig, EndpointsConfig, UpstreamConfig } from '../resources/accept-types.ts'
import type { DnsConfig } from '../resources/upstream-types.ts'
import { Endpoint, formatAddress } from './endpoint.ts'
import type { Locality } from './load-balancer.ts'
import { NameResolver, type NameResolverOptions, type NameStatus } from './resolver.ts'

export interface NamedLocality extends Locality<Endpoint> {
  readonly region: string
  readonly zone: string
  readonly subZone: string
}

export interface EndpointSetDeps extends NameResolverOptions {
  /** What stands at an address that is never called; undefined where it may be. */
  readonly forbidden: (host: string) => string | undefined
  /** An endpoint is gone. */
  readonly onGone: (endpoint: Endpoint) => void
}

/**
 * The endpoints that one upstream has now: those of its assignment, with host names resolved, addresses that must not be called left
 * out, and, under active health checks, those that discovery took away and that are still well (as Envoy, which trusts checks more).
 */
export class EndpointSet {
  readonly #deps: EndpointSetDeps
  readonly #resolver: NameResolver
  #byName = new Map<string, Endpoint>()
  #localities: readonly NamedLocality[] = []
  #refused = new Map<string, string>()
  #config: UpstreamConfig
  #assignment: EndpointsConfig | undefined

  constructor(config: UpstreamConfig, deps: EndpointSetDeps) {
    this.#config = config
    this.#deps = deps
    this.#resolver = new NameResolver(deps)
  }

  get localities(): readonly NamedLocality[] {
    return this.#localities
  }

  get size(): number {
    return this.#byName.size
  }

  /** All of them, in any order. */
  [Symbol.iterator](): Iterator<Endpoint> {
    return this.#byName.values()
  }

  /** Endpoints that are named and never called. */
  get refused(): readonly { readonly address: string; readonly reason: string }[] {
    return [...this.#refused].map(([address, reason]) => ({ address, reason }))
  }

  names(): NameStatus[] {
    return this.#resolver.status()
  }

  /** Why names have no address; empty where all have. */
  unresolved(): string {
    const hosts = hostsOf(this.#assignment)
    return [...hosts]
      .map((host) => this.#resolver.error(host))
      .filter((error) => error !== '')
      .join(', ')
  }

  /** Puts a configuration in force. Endpoints that stay keep what was learnt of them. */
  update(config: UpstreamConfig, assignment: EndpointsConfig | undefined): void {
    this.#config = config
    this.#assignment = assignment
    this.#resolver.watch(hostsOf(assignment), dnsFor(config))
    this.rebuild()
  }

  /** Looks again at names, and at who may stay. */
  rebuild(): void {
    const known = this.#byName
    const before = this.#localities
    const taken = new Map<string, Endpoint>()
    const refusedBefore = this.#refused
    this.#byName = taken
    this.#refused = new Map()
    const localities = (this.#assignment?.localities ?? []).map(
      ({
        region,
        zone,
        subZone,
        priority,
        weight,
        endpoints,
      }): NamedLocality & { endpoints: Endpoint[] } => ({
        region,
        zone,
        subZone,
        priority,
        weight,
        endpoints: endpoints.flatMap((config) => this.#materialise(config, known, taken)),
      }),
    )
    this.#localities = localities
    for (const [address, reason] of this.#refused)
      if (!refusedBefore.has(address))
        this.#deps.logger.warn({ upstream: this.#config.name, address, reason }, 'endpoint left out')
    for (const [name, endpoint] of known) {
      if (taken.has(name)) continue
      if (this.#mayLinger(endpoint)) {
        endpoint.mark('pending_dynamic_removal', true)
        taken.set(name, endpoint)
        this.#keepIn(localities, before, endpoint)
      } else {
        this.#deps.onGone(endpoint)
      }
    }
  }

  close(): void {
    this.#resolver.close()
    for (const endpoint of this.#byName.values()) this.#deps.onGone(endpoint)
    this.#byName.clear()
  }

  /** One endpoint for each address; the first of two with the same address counts, as in Envoy. */
  #materialise(
    config: EndpointConfig,
    known: ReadonlyMap<string, Endpoint>,
    taken: Map<string, Endpoint>,
  ): Endpoint[] {
    const found: Endpoint[] = []
    const { healthCheck, balancing, ignoreNewUntilChecked: excludePending, type } = this.#config
    const addresses = this.#resolver.addresses(config.address.host)
    for (const host of type === 'LOGICAL_DNS' ? addresses.slice(0, 1) : addresses) {
      const name = formatAddress(host, config.address.port)
      const forbidden = this.#deps.forbidden(host)
      if (forbidden !== undefined) {
        this.#refused.set(name, refusalOf(config.address.host, host, forbidden))
        continue
      }
      if (taken.has(name)) continue
      const endpoint = known.get(name) ?? new Endpoint(config, host)
      taken.set(name, endpoint)
      if (!known.has(name) && healthCheck !== undefined && !config.healthCheck.disabled) {
        // Not to be trusted before its first check.
        endpoint.mark('failed_active_hc', true)
        endpoint.mark('pending_active_hc', true)
      }
      endpoint.mark('pending_dynamic_removal', false)
      endpoint.configure(config, { hashByHostname: balancing.useHostnameForHashing, excludePending })
      found.push(endpoint)
    }
    return found
  }

  #mayLinger({ flags, config }: Endpoint): boolean {
    const { healthCheck, ignoreHealthOnRemoval } = this.#config
    if (healthCheck === undefined || ignoreHealthOnRemoval || config.healthCheck.disabled) return false
    return !flags.has('failed_active_hc') && !flags.has('pending_active_hc')
  }

  /** Puts an endpoint that lingers into the place that it had. */
  #keepIn(
    localities: (NamedLocality & { endpoints: Endpoint[] })[],
    before: readonly NamedLocality[],
    endpoint: Endpoint,
  ): void {
    const home = before.find(({ endpoints }) => endpoints.includes(endpoint))
    if (home === undefined) return
    const same = localities.find(
      ({ priority, region, zone, subZone }) =>
        priority === home.priority &&
        region === home.region &&
        zone === home.zone &&
        subZone === home.subZone,
    )
    if (same === undefined) localities.push({ ...home, endpoints: [endpoint] })
    else same.endpoints.push(endpoint)
  }
}

function hostsOf(assignment: EndpointsConfig | undefined): Set<string> {
  return new Set(
    assignment?.localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address.host)),
  )
}

/** Envoy has no host names in EDS; ours are load balancers', of which every address and the TTL count. */
function dnsFor({ type, dns }: UpstreamConfig): DnsConfig {
  return type === 'EDS' ? { ...dns, respectTtl: true, family: 'ALL' } : dns
}

function refusalOf(configured: string, host: string, what: string): string {
  const via = configured === host ? '' : `${configured} resolves to ${host}: `
  return `${via}expected no local address, found ${what}`
}
