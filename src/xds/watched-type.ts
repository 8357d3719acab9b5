// All watches of one type: what they want together, what is in force, who is told what.
import type { Clock } from '../lib/clock.ts'
import type { Problem } from '../lib/result.ts'
import type { XdsUpdate } from './client.ts'
import type { ResourceType } from './resource-types.ts'
import type { XdsResource } from './types.ts'
import { problemsOf, type Wanted, Watch, type WatchOwner, type XdsChange } from './watch.ts'

/** After which silence a name that was asked for does not exist (gRFC A57), milliseconds. */
export const DOES_NOT_EXIST_MS = 15_000

export interface WatchedTypeOptions {
  readonly clock: Clock
  readonly doesNotExistMs: number
  /** Absence from a response means that there is no such resource: SotW of LDS and CDS. */
  readonly tellsAll: boolean
  /** The names that all watches want together have changed. */
  onWanted(wanted: Wanted): void
  /** What is in force has changed. */
  onKept(): void
}

/** One resource in force. */
interface Kept<T> {
  readonly resource: XdsResource
  readonly value: T
}

export class WatchedType<T> implements WatchOwner {
  readonly type: ResourceType<T>
  readonly #options: WatchedTypeOptions
  readonly #kept = new Map<string, Kept<T>>()
  readonly #watches = new Set<Watch<T>>()
  /** Names of which it was told that they do not exist. */
  readonly #gone = new Set<string>()
  readonly #timers = new Map<string, () => void>()
  /** Until the server has spoken of the type: where what is in force comes from. */
  #source: 'server' | 'disk' = 'server'
  #heard = false
  #connected = false

  constructor(type: ResourceType<T>, options: WatchedTypeOptions) {
    this.type = type
    this.#options = options
  }

  /** What is in force, as it came. */
  get kept(): ReadonlyMap<string, XdsResource> {
    return new Map([...this.#kept].map(([name, { resource }]) => [name, resource]))
  }

  get watched(): boolean {
    return this.#watches.size > 0
  }

  /** What an earlier run left; what cannot be read of it is left out. */
  restore(resources: Iterable<XdsResource>): void {
    for (const resource of resources) {
      const decoded = this.type.decode(resource)
      if (decoded.ok) this.#kept.set(resource.name, { resource, value: decoded.value })
    }
    if (this.#kept.size > 0) this.#source = 'disk'
  }

  /** A watch that is told at once of what is there already. */
  watch(wanted: Wanted, onChange: ((change: XdsChange<T>) => void | Promise<void>) | undefined): Watch<T> {
    const watch = new Watch(wanted, this, onChange)
    this.#watches.add(watch)
    const known = this.#of(watch)
    const removed = [...this.#gone].filter((name) => wanted !== '*' && watch.covers(name))
    this.rewatched()
    if (known.size > 0 || removed.length > 0 || (wanted === '*' && this.#heard)) {
      const source = this.#source === 'disk' && !this.#heard ? 'disk' : 'cache'
      const empty = { version: '', identifier: '' }
      void watch.deliver({ resources: known, changed: known, removed, source, ...empty })
    }
    return watch
  }

  rewatched(): void {
    for (const watch of this.#watches) if (watch.stopped) this.#watches.delete(watch)
    const wanted = this.#wanted()
    if (wanted !== '*') {
      const names = new Set(wanted)
      for (const name of this.#kept.keys()) if (!names.has(name)) this.#kept.delete(name)
      for (const name of this.#gone) if (!names.has(name)) this.#gone.delete(name)
    }
    this.#options.onWanted(wanted)
    this.#armTimers()
  }

  /** The stream is up, or lost. Time that passes without one says nothing about what exists. */
  connected(connected: boolean): void {
    this.#connected = connected
    this.#armTimers()
  }

  stop(): void {
    for (const watch of [...this.#watches]) watch.stop()
    this.connected(false)
  }

  /** Takes a response: whoever it concerns is asked, and what nobody refuses comes into force. */
  async take(update: XdsUpdate): Promise<readonly Problem[]> {
    const problems: Problem[] = []
    const good = new Map<string, Kept<T>>()
    for (const resource of update.upserted) {
      this.#cancelTimer(resource.name)
      this.#gone.delete(resource.name)
      const decoded = this.type.decode(resource)
      if (decoded.ok) good.set(resource.name, { resource, value: decoded.value })
      else problems.push({ ...decoded.error, object: resource.name })
    }
    const first = !this.#heard
    this.#heard = true
    const removed = [...update.removed, ...this.#untold(update)]
    for (const name of removed) this.#cancelTimer(name)
    const told = [...this.#watches].map((watch) => this.#tell(watch, update, good, removed, first))
    const refused = (await Promise.all(told)).flat()
    const names = new Set(refused.map(({ object }) => object))
    for (const name of removed) this.#kept.delete(name)
    for (const name of removed) if (this.#wantedByName(name)) this.#gone.add(name)
    for (const [name, kept] of good) if (!names.has(name) && !names.has('')) this.#kept.set(name, kept)
    this.#options.onKept()
    return [...problems, ...refused]
  }

  async #tell(
    watch: Watch<T>,
    { systemVersion: version, identifier }: XdsUpdate,
    good: ReadonlyMap<string, Kept<T>>,
    allRemoved: readonly string[],
    first: boolean,
  ): Promise<readonly Problem[]> {
    const changed = new Map(
      [...good].filter(([name]) => watch.covers(name)).map(([n, { value }]) => [n, value]),
    )
    const removed = allRemoved.filter((name) => watch.covers(name))
    // That there is nothing is an answer too, the first time that everything was asked for.
    const answers = first && watch.wanted === '*'
    if (changed.size === 0 && removed.length === 0 && !answers) return []
    const resources = this.#of(watch)
    for (const name of removed) resources.delete(name)
    for (const [name, value] of changed) resources.set(name, value)
    const verdict = await watch.deliver({
      resources,
      changed,
      removed,
      source: 'server',
      version,
      identifier,
    })
    return problemsOf(verdict, changed.keys())
  }

  /** Wanted names that a response which tells all did not have. */
  #untold({ upserted }: XdsUpdate): string[] {
    const wanted = this.#wanted()
    if (!this.#options.tellsAll || wanted === '*') return []
    const there = new Set(upserted.map(({ name }) => name))
    return wanted.filter((name) => !there.has(name) && !this.#kept.has(name) && !this.#gone.has(name))
  }

  #of(watch: Watch<T>): Map<string, T> {
    const own = [...this.#kept].filter(([name]) => watch.covers(name))
    return new Map(own.map(([name, { value }]) => [name, value]))
  }

  #wanted(): Wanted {
    const names = new Set<string>()
    for (const { wanted } of this.#watches) {
      if (wanted === '*') return '*'
      for (const name of wanted) names.add(name)
    }
    return [...names]
  }

  #wantedByName(name: string): boolean {
    return [...this.#watches].some(({ wanted }) => wanted !== '*' && wanted.includes(name))
  }

  #armTimers(): void {
    const wanted = this.#connected ? this.#wanted() : []
    const waiting =
      wanted === '*' ? [] : wanted.filter((name) => !this.#kept.has(name) && !this.#gone.has(name))
    const names = new Set(waiting)
    for (const name of this.#timers.keys()) if (!names.has(name)) this.#cancelTimer(name)
    const { clock, doesNotExistMs } = this.#options
    for (const name of names) {
      if (this.#timers.has(name)) continue
      this.#timers.set(
        name,
        clock.after(doesNotExistMs, () => this.#missing(name)),
      )
    }
  }

  #missing(name: string): void {
    this.#timers.delete(name)
    this.#gone.add(name)
    for (const watch of this.#watches) {
      if (watch.wanted === '*' || !watch.covers(name)) continue
      const told = { changed: new Map(), removed: [name], version: '', identifier: '' }
      void watch.deliver({ resources: this.#of(watch), ...told, source: 'server' })
    }
  }

  #cancelTimer(name: string): void {
    this.#timers.get(name)?.()
    this.#timers.delete(name)
  }
}
