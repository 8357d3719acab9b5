import { rawResource } from '../../xds/resource.ts'
import { type Snapshot, TYPE, type XdsResource } from '../../xds/types.ts'
import { encodePage, type PackedUpstream, placeOf } from '../upstream-page.ts'
import type { ResourceSet } from './resource-set.ts'

type Resources = ReadonlyMap<string, XdsResource>

/** An upstream that rests. */
interface Resting extends PackedUpstream {
  readonly cluster: XdsResource
  readonly endpoints: XdsResource | undefined
  readonly aliases: readonly string[]
  readonly secrets: readonly string[]
}

/** What is in one page. */
interface Content {
  readonly upstreams: Map<string, Resting>
  readonly aliases: Map<string, Set<string>>
}

/**
 * What a worker that reads pages is given: an upstream that only its server name leads to, and that has nothing to do before it is called,
 * is packed into a page with its endpoints; everything else is a resource of its own. A name is in its page once its endpoints are known.
 */
export class WorkerView {
  readonly #resources: ResourceSet
  readonly #resting = new Map<string, Resting>()
  /** Clusters whose endpoints have not come yet. */
  readonly #waiting = new Set<string>()
  /** Endpoints → Clusters that have them, and back. */
  readonly #usersOf = new Map<string, Set<string>>()
  readonly #endpointsOf = new Map<string, string>()
  readonly #content = new Map<number, Content>()
  readonly #stale = new Set<number>()
  #pages: Resources = new Map()
  /** By server name, and which upstreams Listeners name. */
  #routing = { bySni: false, named: new Set<string>() }
  /** Inputs of the last snapshot of Clusters and endpoints, and what came of them. */
  #kept: {
    readonly inputs: readonly unknown[]
    readonly clusters: Resources
    readonly endpoints: Resources
  } = {
    inputs: [],
    clusters: new Map(),
    endpoints: new Map(),
  }
  #generation = 0

  constructor(resources: ResourceSet) {
    this.#resources = resources
  }

  /** Those at rest: name → its resources. */
  get resting(): ReadonlyMap<string, PackedUpstream & { readonly cluster: XdsResource }> {
    return this.#resting
  }

  /** `whole` is everything that workers are given, as it was accepted; immutable. */
  snapshot(whole: Snapshot): Snapshot {
    this.#follow()
    const [clusters, endpoints] = [whole.get(TYPE.cluster), whole.get(TYPE.endpoints)]
    const inputs = [clusters, endpoints, this.#generation]
    if (!inputs.every((input, i) => input === this.#kept.inputs[i])) {
      const aside = (name: string) => this.#resting.has(name) || this.#waiting.has(name)
      this.#kept = {
        inputs,
        clusters: without(clusters, aside),
        endpoints: without(endpoints, (name) => this.#onlyUsedBy(aside, name)),
      }
    }
    const snapshot = new Map(whole).set(TYPE.upstreamPage, this.#pages)
    if (clusters !== undefined) snapshot.set(TYPE.cluster, this.#kept.clusters)
    if (endpoints !== undefined) snapshot.set(TYPE.endpoints, this.#kept.endpoints)
    return snapshot
  }

  /** Takes in what changed. */
  #follow(): void {
    const clusters = new Set(this.#resources.takeChanged(TYPE.cluster))
    for (const name of clusters) this.#link(name)
    if (this.#resources.takeChanged(TYPE.listener).size > 0)
      for (const name of this.#reroute()) clusters.add(name)
    for (const name of this.#resources.takeChanged(TYPE.endpoints))
      for (const user of this.#users(name)) clusters.add(user)
    for (const name of clusters) this.#place(name)
    this.#encode()
  }

  #users(endpoints: string): string[] {
    return [...(this.#usersOf.get(endpoints) ?? [])]
  }

  #onlyUsedBy(aside: (name: string) => boolean, endpoints: string): boolean {
    const users = this.#users(endpoints)
    return users.length > 0 && users.every(aside) && !this.#resources.fixedEndpoints.has(endpoints)
  }

  #link(name: string): void {
    const before = this.#endpointsOf.get(name)
    const now = this.#resources.facts(TYPE.cluster, name)?.references.endpoints[0]
    if (before === now) return
    if (before !== undefined) {
      const users = this.#usersOf.get(before)
      users?.delete(name)
      if (users?.size === 0) this.#usersOf.delete(before)
      this.#endpointsOf.delete(name)
    }
    if (now === undefined) return
    this.#endpointsOf.set(name, now)
    this.#usersOf.set(now, (this.#usersOf.get(now) ?? new Set()).add(name))
  }

  /** Reads the Listeners again; the Clusters that are led to in another way now. */
  #reroute(): Iterable<string> {
    const before = this.#routing
    const named = new Set<string>()
    let bySni = false
    for (const facts of this.#resources.allFacts(TYPE.listener)) {
      bySni ||= facts.bySni
      for (const name of facts.upstreams) named.add(name)
    }
    this.#routing = { bySni, named }
    if (bySni !== before.bySni) return this.#endpointsOf.keys()
    return [...before.named, ...named].filter((name) => !named.has(name) || !before.named.has(name))
  }

  #place(name: string): void {
    const before = this.#resting.get(name)
    const now = this.#restingOf(name, before)
    if (now === 'waits') {
      if (!this.#waiting.has(name)) this.#generation++
      this.#waiting.add(name)
      this.#take(name, before, undefined)
      return
    }
    if (this.#waiting.delete(name)) this.#generation++
    this.#take(name, before, now)
  }

  /** Undefined: it is given as it is, or is not there. */
  #restingOf(name: string, before: Resting | undefined): Resting | 'waits' | undefined {
    const [facts, cluster] = [
      this.#resources.facts(TYPE.cluster, name),
      this.#resources.get(TYPE.cluster, name),
    ]
    const { bySni, named } = this.#routing
    if (facts === undefined || cluster === undefined || !facts.rests || !bySni || named.has(name))
      return undefined
    const [endpointsName = ''] = facts.references.endpoints
    const about = this.#resources.facts(TYPE.endpoints, endpointsName)
    const { aliases, references } = facts
    const common = { cluster, aliases, secrets: references.secrets }
    if (about !== undefined)
      return about.rests
        ? { ...common, endpoints: this.#resources.get(TYPE.endpoints, endpointsName) }
        : undefined
    // As in Envoy, endpoints that are taken away alone stay as they were last.
    if (before !== undefined && before.endpoints?.name === endpointsName)
      return { ...common, endpoints: before.endpoints }
    if (this.#resources.isWithout(TYPE.endpoints, endpointsName)) return { ...common, endpoints: undefined }
    // As in Envoy, what is there serves until what takes its place is whole.
    return before ?? 'waits'
  }

  #take(name: string, before: Resting | undefined, now: Resting | undefined): void {
    if (before === now) return
    if (before === undefined || now === undefined) this.#generation++
    else if (
      before.cluster.version === now.cluster.version &&
      before.endpoints?.version === now.endpoints?.version
    )
      return
    if (before !== undefined) {
      this.#contentOf(name).upstreams.delete(name)
      for (const alias of before.aliases) {
        const { aliases } = this.#contentOf(alias)
        const claimants = aliases.get(alias)
        claimants?.delete(name)
        if (claimants?.size === 0) aliases.delete(alias)
      }
      this.#resting.delete(name)
    }
    if (now === undefined) return
    this.#contentOf(name).upstreams.set(name, now)
    for (const alias of now.aliases) {
      const { aliases } = this.#contentOf(alias)
      aliases.set(alias, (aliases.get(alias) ?? new Set()).add(name))
    }
    this.#resting.set(name, now)
  }

  /** To be changed. */
  #contentOf(name: string): Content {
    const { page } = placeOf(name)
    this.#stale.add(page)
    let content = this.#content.get(page)
    if (content === undefined) {
      content = { upstreams: new Map(), aliases: new Map() }
      this.#content.set(page, content)
    }
    return content
  }

  #encode(): void {
    if (this.#stale.size === 0) return
    const pages = new Map(this.#pages)
    for (const page of this.#stale) {
      const { upstreams, aliases } = this.#content.get(page) ?? { upstreams: new Map(), aliases: new Map() }
      const name = String(page)
      if (upstreams.size + aliases.size === 0) {
        this.#content.delete(page)
        pages.delete(name)
        continue
      }
      const secrets = [...new Set([...upstreams.values()].flatMap((one: Resting) => one.secrets))]
      const claims = new Map([...aliases].map(([alias, claimants]) => [alias, [...claimants]]))
      const bytes = encodePage({ upstreams, aliases: claims, secrets })
      pages.set(name, rawResource(name, TYPE.upstreamPage, bytes))
    }
    this.#stale.clear()
    this.#pages = pages
  }
}

function without(all: Resources | undefined, aside: (name: string) => boolean): Resources {
  return new Map([...(all ?? [])].filter(([name]) => !aside(name)))
}
