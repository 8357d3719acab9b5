import type { Problem } from '../lib/result.ts'
import { problem } from '../lib/result.ts'
import { acceptEndpoints } from '../resources/accept-endpoints.ts'
import { upstreamSecrets } from '../resources/accept-references.ts'
import type { EndpointsConfig, UpstreamConfig } from '../resources/accept-types.ts'
import { acceptUpstream } from '../resources/accept-upstream.ts'
import { TYPE, type XdsResource } from '../xds/types.ts'
import type { SecretStore } from './secrets.ts'
import { Upstream, type UpstreamDeps } from './upstream.ts'
import { UpstreamNames } from './upstream-names.ts'
import { PAGES, type PackedResource, type PackedUpstream, placeOf, UpstreamPage } from './upstream-page.ts'

export interface UpstreamRegistryOptions {
  readonly deps: UpstreamDeps
  readonly secrets: Pick<SecretStore, 'missing'>
  /** An upstream is there no more; its connections are to drain. */
  readonly onRemoved: (name: string) => void
}

/** The upstream that never exists: what `tcp_proxy` behind `sni_cluster` names. */
const BLACK_HOLE = 'BlackHole'

/** Which version of an upstream in a page is in force. */
interface Waked {
  cluster: string
  /** Their name and version, since two assignments may have one version; undefined: none. */
  endpoints: string | undefined
}

/**
 * The upstreams of an engine. Those that come as Clusters of their own are in force at once; those in pages (`upstream-page.ts`) rest until
 * somebody asks for one by its name, and are in force from then on.
 */
export class UpstreamRegistry {
  readonly #options: UpstreamRegistryOptions
  readonly #live = new Map<string, Upstream>()
  /** Of those that are not in pages. */
  readonly #names = new UpstreamNames()
  readonly #endpoints = new Map<string, EndpointsConfig>()
  /** Upstreams by the name of their endpoints, so that a change costs what it changes. */
  readonly #usersOfEndpoints = new Map<string, Set<string>>()
  /** Configurations whose secrets are not there yet; what was in force before still is. */
  readonly #warming = new Map<string, UpstreamConfig>()
  readonly #pages = new Array<UpstreamPage | undefined>(PAGES)
  /** By page and name: those in force that came from a page. */
  readonly #waked = new Map<number, Map<string, Waked>>()
  /** What could not be waked, by name. */
  readonly #broken = new Map<string, Problem>()

  constructor(options: UpstreamRegistryOptions) {
    this.#options = options
  }

  /** An upstream in force; one at rest is put in force. */
  get(name: string): Upstream | undefined {
    return this.#live.get(name) ?? this.#wake(name)
  }

  has(name: string): boolean {
    return this.#live.has(name) || this.#isAtRest(name)
  }

  /** Those in force. */
  live(): IterableIterator<Upstream> {
    return this.#live.values()
  }

  /** The upstream that a server name means, by its own name before any alias; an alias of two means neither. Undefined: none. */
  find(serverName: string): string | undefined {
    const { page, print } = placeOf(serverName)
    const own = this.#names.find(serverName)
    const atRest = this.#pages[page]?.find(serverName, print) ?? []
    if (own === serverName || atRest.length === 0) return own
    if (atRest[0] === serverName) return serverName
    const claimants = new Set([...this.#names.claimants(serverName), ...atRest])
    const [name] = claimants
    return claimants.size === 1 ? name : undefined
  }

  /** Every name of an upstream, its own first; empty where it has no aliases. */
  namesOf(name: string): readonly string[] {
    const known = this.#names.namesOf(name)
    if (known.length > 0) return known
    const aliases = this.get(name)?.config.aliases ?? []
    return aliases.length === 0 ? [] : [name, ...aliases]
  }

  setCluster(resource: XdsResource): Problem | undefined {
    const config = acceptUpstream(resource)
    if (!config.ok) return config.error
    const found = this.#set(config.value)
    if (found === undefined) {
      this.#names.set(config.value)
      this.#waked.get(placeOf(resource.name).page)?.delete(resource.name)
    }
    return found
  }

  setEndpoints(resource: XdsResource): Problem | undefined {
    const config = acceptEndpoints(resource)
    if (!config.ok) return config.error
    this.#endpoints.set(resource.name, config.value)
    for (const name of this.#usersOfEndpoints.get(resource.name) ?? [])
      this.#live.get(name)?.setEndpoints(config.value)
    return undefined
  }

  removeCluster(name: string): void {
    this.#names.delete(name)
    const upstream = this.#live.get(name)
    if (upstream === undefined || this.#isWaked(name)) return
    // It may have gone into a page meanwhile: the same upstream, with all its connections.
    const packed = this.#packed(name)
    if (packed === undefined || !this.#apply(name, packed)) this.#remove(upstream)
  }

  /** As in Envoy, endpoints leave with what refers to them; alone they stay as they were last. */
  removeEndpoints(name: string): void {
    if (!this.#usersOfEndpoints.has(name)) this.#endpoints.delete(name)
  }

  setPage(resource: XdsResource): Problem | undefined {
    const index = Number(resource.name)
    if (!Number.isInteger(index) || index < 0 || index >= PAGES)
      return problem(`UpstreamPage ${resource.name}`, 'name', `expected a number below ${PAGES}`)
    let page: UpstreamPage
    try {
      page = new UpstreamPage(resource.body)
    } catch (error) {
      return problem(`UpstreamPage ${resource.name}`, '', (error as Error).message)
    }
    this.#pages[index] = page
    const waked = this.#waked.get(index)
    if (waked === undefined || waked.size === 0) return undefined
    const { upstreams } = page.read()
    for (const name of [...waked.keys()]) {
      const packed = upstreams.get(name)
      if (packed !== undefined) this.#apply(name, packed)
      else this.#leave(index, name)
    }
    return undefined
  }

  removePage(name: string): void {
    const index = Number(name)
    this.#pages[index] = undefined
    for (const each of [...(this.#waked.get(index)?.keys() ?? [])]) this.#leave(index, each)
  }

  /** Puts in force what waited for secrets. */
  secretsChanged(): void {
    for (const config of [...this.#warming.values()]) this.#set(config)
  }

  /** Whether something refers to a secret. */
  needsSecret(name: string): boolean {
    for (const upstream of this.#live.values())
      if (upstreamSecrets(upstream.config).includes(name)) return true
    return this.#pages.some((page) => page?.secrets.includes(name) === true)
  }

  problems(): Problem[] {
    return [...this.#broken.values(), ...[...this.#live.values()].flatMap((upstream) => upstream.problems())]
  }

  close(): void {
    for (const upstream of this.#live.values()) upstream.close()
    this.#live.clear()
    this.#pages.fill(undefined)
  }

  #set(config: UpstreamConfig): Problem | undefined {
    if (config.name === BLACK_HOLE)
      return problem(`Cluster ${BLACK_HOLE}`, 'name', 'expected another name: this one never exists')
    const current = this.#live.get(config.name)
    // A first version is there at once and says what it waits for; a later one waits while the one before it serves.
    if (current !== undefined && this.#options.secrets.missing(upstreamSecrets(config)).length > 0) {
      this.#warming.set(config.name, config)
      return undefined
    }
    this.#warming.delete(config.name)
    const upstream = current ?? new Upstream(config, this.#options.deps)
    if (current !== undefined) this.#unlinkEndpoints(current)
    this.#live.set(config.name, upstream)
    const users = this.#usersOfEndpoints.get(config.endpointsName) ?? new Set()
    this.#usersOfEndpoints.set(config.endpointsName, users.add(config.name))
    if (current !== undefined) upstream.update(config)
    const endpoints = this.#endpoints.get(config.endpointsName)
    if (endpoints !== undefined) upstream.setEndpoints(endpoints)
    return undefined
  }

  #remove(upstream: Upstream): void {
    const { name } = upstream
    upstream.close()
    this.#unlinkEndpoints(upstream)
    this.#live.delete(name)
    this.#warming.delete(name)
    this.#options.onRemoved(name)
  }

  #unlinkEndpoints({ name, config }: Upstream): void {
    const users = this.#usersOfEndpoints.get(config.endpointsName)
    users?.delete(name)
    if (users?.size === 0) this.#usersOfEndpoints.delete(config.endpointsName)
  }

  #isAtRest(name: string): boolean {
    const { page, print } = placeOf(name)
    return this.#pages[page]?.find(name, print)[0] === name
  }

  #isWaked(name: string): boolean {
    return this.#waked.get(placeOf(name).page)?.has(name) === true
  }

  #packed(name: string): PackedUpstream | undefined {
    if (!this.#isAtRest(name)) return undefined
    return this.#pages[placeOf(name).page]?.read().upstreams.get(name)
  }

  #wake(name: string): Upstream | undefined {
    const packed = this.#packed(name)
    if (packed !== undefined) this.#apply(name, packed)
    return this.#live.get(name)
  }

  /** Puts what a page holds in force, where it is not; what was good stays where it cannot be. False: nothing is in force. */
  #apply(name: string, { cluster, endpoints }: PackedUpstream): boolean {
    const index = placeOf(name).page
    const waked = this.#waked.get(index) ?? new Map<string, Waked>()
    this.#waked.set(index, waked)
    const known = waked.get(name) ?? { cluster: '', endpoints: undefined }
    if (known.cluster !== cluster.version) {
      const config = acceptUpstream(whole(TYPE.cluster, cluster))
      const found = config.ok ? this.#set(config.value) : config.error
      if (found !== undefined) return this.#refuse(name, found)
      known.cluster = cluster.version
      // From now on it is the page's, and leaves with it, whatever its endpoints are.
      waked.set(name, known)
    }
    const assignment = endpoints && `${endpoints.name} ${endpoints.version}`
    if (endpoints !== undefined && known.endpoints !== assignment) {
      const config = acceptEndpoints(whole(TYPE.endpoints, endpoints))
      if (!config.ok) return this.#refuse(name, config.error)
      this.#live.get(name)?.setEndpoints(config.value)
      known.endpoints = assignment
    }
    this.#broken.delete(name)
    return true
  }

  /** The supervisor has checked it: only one of another version than ours can have let it pass. */
  #refuse(name: string, found: Problem): boolean {
    this.#broken.set(name, found)
    this.#options.deps.logger.error(
      { problem: found },
      'an upstream that was accepted cannot be put in force',
    )
    return this.#live.has(name)
  }

  /** It is in its page no more. */
  #leave(index: number, name: string): void {
    this.#waked.get(index)?.delete(name)
    this.#broken.delete(name)
    const upstream = this.#live.get(name)
    if (upstream !== undefined) this.#remove(upstream)
  }
}

function whole(anyTypeUrl: string, packed: PackedResource): XdsResource {
  return { ...packed, anyTypeUrl }
}
