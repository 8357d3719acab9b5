// What a client was told of each resource. A thousand clients in step have the same: that is one reference to the view's state for
// each of them, and only what sets a client apart is its own.
import type { Interest } from './interest.ts'
import type { XdsResource } from './types.ts'

/** The client was told that the name does not exist. */
export const GONE = Symbol('gone')
/** The client may have anything: it refused the last one. Equals no version. */
export const UNKNOWN = Symbol('unknown')
/** The client has nothing of that name, whatever the shared state says. */
const NOTHING = Symbol('nothing')

/** A version, or what is known instead of it. */
export type Held = string | typeof GONE | typeof UNKNOWN

type View = ReadonlyMap<string, XdsResource>

export class Holdings {
  readonly #interest: Interest
  /** State of which the client has everything that it wants, but for what `#own` says. Immutable. */
  #shared: View | undefined
  readonly #own = new Map<string, Held | typeof NOTHING>()

  constructor(interest: Interest) {
    this.#interest = interest
  }

  /** Nothing was ever told, as far as is known. */
  get empty(): boolean {
    return this.#shared === undefined && this.#own.size === 0
  }

  get(name: string): Held | undefined {
    const own = this.#own.get(name)
    if (own !== undefined) return own === NOTHING ? undefined : own
    return this.#interest.covers(name) ? this.#shared?.get(name)?.version : undefined
  }

  set(name: string, held: Held): void {
    this.#own.set(name, held)
  }

  delete(name: string): void {
    if (this.#shared?.has(name) === true) this.#own.set(name, NOTHING)
    else this.#own.delete(name)
  }

  /** Names that something is known of. */
  *names(): Iterable<string> {
    for (const [name, held] of this.#own) if (held !== NOTHING) yield name
    for (const name of this.#shared?.keys() ?? [])
      if (!this.#own.has(name) && this.#interest.covers(name)) yield name
  }

  /** The client has all that it wants of this state. */
  inStepWith(view: View): void {
    this.#shared = view
    for (const [name, held] of this.#own)
      if (held === view.get(name)?.version || (held === NOTHING && !view.has(name))) this.#own.delete(name)
  }

  /** More will be wanted than was told: what was is noted by name. */
  part(): void {
    for (const name of [...this.names()]) {
      const held = this.get(name)
      if (held !== undefined) this.#own.set(name, held)
    }
    for (const [name, held] of this.#own) if (held === NOTHING) this.#own.delete(name)
    this.#shared = undefined
  }
}
