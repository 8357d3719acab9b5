import { canonicalJson } from '../lib/canonical.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { type Problem, problem } from '../lib/result.ts'
import { ENTRY_NAMESPACE } from '../model/managed.ts'
import type { ObjectStore } from '../objects/store.ts'
import { refKey, refOf, type ServiceEntry } from '../objects/types.ts'
import type { EntryConfig } from '../resources/service-entry.ts'
import { entryManifest, entryOf } from '../resources/service-entry-manifest.ts'
import { isManaged } from './manifest.ts'
import { ReconcileLoop } from './reconcile-loop.ts'

export interface ServiceEntryWriterOptions {
  readonly store: ObjectStore
  readonly logger: Logger
  readonly clock?: Clock
}

/**
 * Keeps the ServiceEntries of namespace `xcp-multicluster` as the peers' offers say: written, replaced and deleted by this
 * controller alone. Entries without our label are a user's own and stay untouched, also when the names meet.
 */
export class ServiceEntryWriter {
  readonly #options: ServiceEntryWriterOptions
  readonly #loop: ReconcileLoop
  readonly #unwatch: () => void
  #desired: readonly EntryConfig[] | undefined
  #problems: readonly Problem[] = []

  constructor(options: ServiceEntryWriterOptions) {
    this.#options = options
    this.#loop = new ReconcileLoop({ ...options, name: 'service-entries', run: () => this.#reconcile() })
    // Somebody deleted or changed one of ours: it is made again.
    this.#unwatch = options.store.watch((changes) => {
      if (changes.some(({ object }) => object.kind === 'ServiceEntry' && isOurs(object))) this.#loop.trigger()
    })
  }

  /** Nothing is written or deleted before the first call. */
  set(desired: readonly EntryConfig[]): void {
    this.#desired = desired
    this.#loop.trigger()
  }

  /** What could not be written, and why. */
  problems(): readonly Problem[] {
    return this.#problems
  }

  idle(): Promise<void> {
    return this.#loop.idle()
  }

  async stop(): Promise<void> {
    this.#unwatch()
    await this.#loop.stop()
  }

  async #reconcile(): Promise<void> {
    const desired = this.#desired
    if (desired === undefined) return
    const { store, logger } = this.#options
    const present = store
      .list('ServiceEntry')
      .filter(({ metadata }) => metadata.namespace === ENTRY_NAMESPACE)
    const byName = new Map(present.map((object) => [object.metadata.name, object]))
    const problems: Problem[] = []
    for (const entry of desired) {
      const object = byName.get(entry.name)
      const found = object === undefined ? undefined : conflict(object)
      const outcome = found === undefined ? await this.#write(entry, object) : found
      if (outcome !== undefined) problems.push(outcome)
    }
    const wanted = new Set(desired.map(({ name }) => name))
    for (const object of present.filter((each) => isManaged(each) && !wanted.has(each.metadata.name))) {
      await store.delete(refOf(object))
      logger.info({ entry: refKey(refOf(object)), host: object.spec.hosts[0] }, 'ServiceEntry removed')
    }
    this.#problems = problems
  }

  async #write(entry: EntryConfig, object: ServiceEntry | undefined): Promise<Problem | undefined> {
    const manifest = entryManifest(entry)
    if (object !== undefined && canonicalJson(entryManifest(entryOf(object))) === canonicalJson(manifest))
      return undefined
    const result = await this.#options.store.apply(manifest)
    if (!result.ok) return result.error
    this.#options.logger.info(
      { entry: entry.name, host: entry.hosts[0], outcome: result.value },
      'ServiceEntry written',
    )
    return undefined
  }
}

const isOurs = (object: ServiceEntry): boolean =>
  object.metadata.namespace === ENTRY_NAMESPACE && isManaged(object)

function conflict(object: ServiceEntry): Problem | undefined {
  if (isManaged(object)) return undefined
  const message =
    'an entry of this name exists that Isthmus did not make; it is left alone and counts instead of ours'
  return problem(`${object.source} ${refKey(refOf(object))}`, 'metadata.labels', message)
}
