import { NO_REFERENCES, type References, references } from '../../resources/accept-references.ts'
import { TYPE, type XdsResource } from '../../xds/types.ts'
import { secretsOf } from '../upstream-page.ts'

/** What the Listeners and Clusters that we hold refer to: the names to ask for by EDS and SDS. Costs O(change). */
export class ReferenceIndex {
  /** By type URL and name. */
  readonly #byResource: ReadonlyMap<string, Map<string, References>> = new Map(
    [TYPE.listener, TYPE.cluster, TYPE.upstreamPage].map((typeUrl) => [typeUrl, new Map()]),
  )
  readonly #endpoints = new Map<string, number>()
  readonly #secrets = new Map<string, number>()
  #generation = 0

  update(typeUrl: string, upserted: readonly XdsResource[], removed: readonly string[]): void {
    if (!this.#byResource.has(typeUrl)) return
    for (const resource of upserted) this.set(typeUrl, resource.name, referencesOf(typeUrl, resource))
    for (const name of removed) this.set(typeUrl, name, undefined)
  }

  /** Changes whenever the set of names does. */
  get generation(): number {
    return this.#generation
  }

  endpoints(): string[] {
    return [...this.#endpoints.keys()]
  }

  secrets(): string[] {
    return [...this.#secrets.keys()]
  }

  /** True when the resource is of a type that is only held as long as something refers to it, and nothing does. */
  isOrphan(typeUrl: string, name: string): boolean {
    if (typeUrl === TYPE.endpoints) return !this.#endpoints.has(name)
    if (typeUrl === TYPE.secret) return !this.#secrets.has(name)
    return false
  }

  /** What a resource refers to, for who knows that already; undefined: it is gone. */
  set(typeUrl: string, name: string, next: References | undefined): void {
    const all = this.#byResource.get(typeUrl)
    const old = all?.get(name)
    if (next === undefined) all?.delete(name)
    else all?.set(name, next)
    // The new ones first: a name that is in both never leaves.
    for (const name of next?.endpoints ?? []) this.#count(this.#endpoints, name, 1)
    for (const name of next?.secrets ?? []) this.#count(this.#secrets, name, 1)
    for (const name of old?.endpoints ?? []) this.#count(this.#endpoints, name, -1)
    for (const name of old?.secrets ?? []) this.#count(this.#secrets, name, -1)
  }

  #count(counts: Map<string, number>, name: string, by: number): void {
    const before = counts.get(name) ?? 0
    const after = before + by
    if (after === 0) counts.delete(name)
    else counts.set(name, after)
    if (before === 0 || after === 0) this.#generation++
  }
}

/** Of a resource that was accepted. */
function referencesOf(typeUrl: string, resource: XdsResource): References {
  if (typeUrl !== TYPE.upstreamPage) return references(typeUrl, resource)
  try {
    return { endpoints: [], secrets: secretsOf(resource.body) }
  } catch {
    return NO_REFERENCES
  }
}
