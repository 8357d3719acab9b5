import { type References, references } from '../../resources/accept-references.ts'
import { TYPE, type XdsResource } from '../../xds/types.ts'

/** What the Listeners and Clusters that we hold refer to: the names to ask for by EDS and SDS. Costs O(change). */
export class ReferenceIndex {
  readonly #byResource = new Map<string, References>()
  readonly #endpoints = new Map<string, number>()
  readonly #secrets = new Map<string, number>()
  #generation = 0

  update(typeUrl: string, upserted: readonly XdsResource[], removed: readonly string[]): void {
    if (typeUrl !== TYPE.listener && typeUrl !== TYPE.cluster) return
    for (const resource of upserted)
      this.#replace(`${typeUrl} ${resource.name}`, references(typeUrl, resource))
    for (const name of removed) this.#replace(`${typeUrl} ${name}`, undefined)
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

  #replace(key: string, next: References | undefined): void {
    const old = this.#byResource.get(key)
    if (next === undefined) this.#byResource.delete(key)
    else this.#byResource.set(key, next)
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
