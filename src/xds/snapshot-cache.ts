import type { Snapshot, XdsResource } from './types.ts'

/**
 * What changed, by type URL: the names that were added, changed or removed. No name: the resources are as they were, and what
 * is new is the view's identifier, which has to be told.
 */
export type Changes = ReadonlyMap<string, ReadonlySet<string>>

/** Where a stream's content comes from: one view, shared by every client that sees the same. */
export interface ViewSource {
  /** Everything the view holds now. The inner maps are immutable: a change makes a new map. */
  current(): Snapshot
  /** Calls back after each change, synchronously; returns the function that stops it. */
  watch(callback: (changes: Changes) => void): () => void
  /** `control_plane.identifier` of the responses: free text for the other side's logs. */
  identifier?(): string
  /** Told which names a client asks for, before they are looked up: for what is made for one client alone. */
  asked?(names: readonly string[]): void
  /** Whom its content is for, in the server's own words: compared where a response is built (`mayServe`). */
  readonly scope?: string | undefined
}

const NOTHING: ReadonlyMap<string, XdsResource> = new Map()

/**
 * A view that is set from outside, whole or by type. Only differences are told, and a resource whose version did not change
 * keeps its identity, so that what was encoded for it is used again.
 */
export class SnapshotCache implements ViewSource {
  readonly #identifier: string
  readonly #watchers = new Set<(changes: Changes) => void>()
  #snapshot: Snapshot = new Map()

  constructor(options: { readonly identifier?: string } = {}) {
    this.#identifier = options.identifier ?? ''
  }

  current(): Snapshot {
    return this.#snapshot
  }

  identifier(): string {
    return this.#identifier
  }

  watch(callback: (changes: Changes) => void): () => void {
    this.#watchers.add(callback)
    return () => this.#watchers.delete(callback)
  }

  /** Replaces everything; a type that the new snapshot does not name becomes empty. */
  set(snapshot: Snapshot): void {
    const next = new Map<string, ReadonlyMap<string, XdsResource>>()
    const changes = new Map<string, ReadonlySet<string>>()
    for (const typeUrl of new Set([...this.#snapshot.keys(), ...snapshot.keys()])) {
      const merged = merge(this.#snapshot.get(typeUrl) ?? NOTHING, snapshot.get(typeUrl) ?? NOTHING)
      next.set(typeUrl, merged.resources)
      if (merged.changed.size > 0) changes.set(typeUrl, merged.changed)
    }
    this.#snapshot = next
    this.#tell(changes)
  }

  /** Replaces the resources of one type. */
  setType(typeUrl: string, resources: ReadonlyMap<string, XdsResource>): void {
    this.set(new Map(this.#snapshot).set(typeUrl, resources))
  }

  /** Says that the identifier is another, to those who want all of a type. */
  announce(typeUrl: string): void {
    this.#tell(new Map([[typeUrl, new Set()]]))
  }

  #tell(changes: Changes): void {
    if (changes.size === 0) return
    for (const watcher of [...this.#watchers]) watcher(changes)
  }
}

function merge(old: ReadonlyMap<string, XdsResource>, wanted: ReadonlyMap<string, XdsResource>) {
  if (old === wanted) return { resources: old, changed: new Set<string>() }
  const changed = new Set<string>()
  const same: XdsResource[] = []
  for (const [name, resource] of wanted) {
    const before = old.get(name)
    if (before === resource) continue
    if (before?.version === resource.version) same.push(before)
    else changed.add(name)
  }
  for (const name of old.keys()) if (!wanted.has(name)) changed.add(name)
  if (changed.size === 0) return { resources: old, changed }
  if (same.length === 0) return { resources: wanted, changed }
  const resources = new Map(wanted)
  for (const resource of same) resources.set(resource.name, resource)
  return { resources, changed }
}
