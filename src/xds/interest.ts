// What one stream wants of one type. Source: xds_protocol.rst, "How the client specifies what resources to return"; the
// oracle of the tests is written from go-control-plane's pkg/server/stream/v3/subscription.go.
import { sharedSet } from './name-lists.ts'

/** How a request changed what is wanted. */
export interface InterestChange {
  /** Names that must be answered although the client may have them already. */
  readonly asked: readonly string[]
  /** Names that were wanted by name and are not covered any more. */
  readonly dropped: readonly string[]
  /** The wildcard was switched on or off by this request. */
  readonly wildcard: 'on' | 'off' | 'same'
}

export const WILDCARD = '*'

/**
 * Names and wildcard of one (stream, type). A type that allows the legacy wildcard is wanted whole as long as no request on
 * the stream ever named anything; an empty first request for any other type wants nothing.
 */
export class Interest {
  #names: Set<string> | ReadonlySet<string> = new Set()
  /** Of many streams: to be copied before it is changed. */
  #shared = false
  wildcard = false
  #legacy: boolean
  #first = true
  #length = 0

  constructor(allowsLegacyWildcard: boolean) {
    this.#legacy = allowsLegacyWildcard
  }

  get names(): ReadonlySet<string> {
    return this.#names
  }

  /** How many names, and how long they are together (UTF-16 units). */
  get size(): { readonly names: number; readonly length: number } {
    return { names: this.#names.size, length: this.#length }
  }

  covers(name: string): boolean {
    return this.wildcard || this.#names.has(name)
  }

  /** State of the world: `names` is the whole set each time. */
  replace(names: readonly string[]): InterestChange {
    const before = this.wildcard
    if (names.length > 0) this.#legacy = false
    const wanted = new Set(names)
    this.wildcard = wanted.delete(WILDCARD) || this.#legacy
    const asked = [...wanted].filter((name) => !this.names.has(name))
    const dropped = [...this.names].filter((name) => !wanted.has(name) && !this.wildcard)
    if (asked.length > 0 || this.names.size !== wanted.size) {
      this.#own(wanted)
      this.#length = lengthOf(wanted)
    }
    this.#first = false
    return { asked, dropped, wildcard: switched(before, this.wildcard) }
  }

  /** Delta: differences, subscriptions first. A name in `subscribe` is asked again even when it is wanted already. */
  update(subscribe: readonly string[], unsubscribe: readonly string[]): InterestChange {
    const before = this.wildcard
    if (this.#first && this.#legacy && subscribe.length === 0) this.wildcard = true
    this.#first = false
    const shared = this.names.size + unsubscribe.length === 0 ? sharedSet(subscribe) : undefined
    if (shared !== undefined && !shared.has(WILDCARD)) {
      this.#names = shared
      this.#length = lengthOf(shared)
      this.#shared = true
      return { asked: subscribe, dropped: [], wildcard: switched(before, this.wildcard) }
    }
    const asked = new Set<string>()
    if (subscribe.length + unsubscribe.length > 0) this.#own(this.#names)
    const names = this.#names as Set<string>
    for (const name of subscribe) {
      if (name === WILDCARD) this.wildcard = true
      else {
        if (!names.has(name)) this.#length += name.length
        names.add(name)
        asked.add(name)
      }
    }
    if (unsubscribe.includes(WILDCARD)) this.wildcard = false
    const dropped: string[] = []
    for (const name of unsubscribe) {
      // What was never wanted by name cannot be unsubscribed.
      if (name === WILDCARD || !names.delete(name)) continue
      this.#length -= name.length
      // The wildcard may still cover it, and the client has forgotten it: it must be told which.
      if (this.wildcard) asked.add(name)
      else {
        asked.delete(name)
        dropped.push(name)
      }
    }
    return { asked: [...asked], dropped, wildcard: switched(before, this.wildcard) }
  }

  /** From here on the names are this stream's own. */
  #own(names: Set<string> | ReadonlySet<string>): void {
    if (names !== this.#names) this.#names = names
    else if (this.#shared) this.#names = new Set(names)
    this.#shared = false
  }
}

function lengthOf(names: Iterable<string>): number {
  let length = 0
  for (const name of names) length += name.length
  return length
}

function switched(before: boolean, after: boolean): InterestChange['wildcard'] {
  if (before === after) return 'same'
  return after ? 'on' : 'off'
}
