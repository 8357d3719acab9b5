// Incremental computation: what was derived before is used again where everything that it was made from is identical.
import { own } from './own.ts'

/** Everything that a derivation reads, by name. Values are compared by identity, those of arrays one by one. */
export type Inputs = object

interface Entry {
  inputs: Inputs
  readonly value: unknown
  round: number
}

/**
 * Values by key, kept from one round of computation to the next. A derivation is a pure function of its inputs, which are immutable:
 * it must be a function without a view of anything else, or the value goes stale.
 */
export class Memo {
  readonly #entries = new Map<string, Entry>()
  #round = 0
  #asked = 0
  #derived = 0

  /** How often something was derived in the memo's life: what a change costs is counted, not timed. */
  get derived(): number {
    return this.#derived
  }

  /** The value of `key`: as it was if the inputs are, else derived anew. One key stands for one function. */
  get<I extends Inputs, V>(key: string, inputs: I, derive: (inputs: I, previous: V | undefined) => V): V {
    const known = this.#entries.get(key)
    if (known !== undefined) {
      if (known.round !== this.#round) this.#asked++
      known.round = this.#round
      if (identical(known.inputs, inputs)) {
        // The newest arrays are the ones that come again.
        known.inputs = inputs
        return known.value as V
      }
    } else this.#asked++
    this.#derived++
    const value = derive(inputs, known?.value as V | undefined)
    this.#entries.set(key, { inputs, value, round: this.#round })
    return value
  }

  /** Ends a round: what nobody asked for in it is forgotten. */
  sweep(): void {
    if (this.#asked < this.#entries.size)
      for (const [key, { round }] of this.#entries) if (round !== this.#round) this.#entries.delete(key)
    this.#round++
    this.#asked = 0
  }
}

function identical(before: Inputs, after: Inputs): boolean {
  const [a, b] = [before, after] as [Record<string, unknown>, Record<string, unknown>]
  for (const name in b) {
    const one = a[name]
    const other = b[name]
    if (one === other) continue
    if (!Array.isArray(one) || !Array.isArray(other) || one.length !== other.length) return false
    for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false
  }
  return true
}

/**
 * `after`, but with the parts of `before` that are equal to it: so that what is equal is identical too, and nothing that is made
 * from it is made again. Goes into arrays, Maps and plain objects; anything else is equal only to itself.
 */
export function share<T>(before: T | undefined, after: T): T {
  return shared(before, after) as T
}

function shared(before: unknown, after: unknown): unknown {
  if (Object.is(before, after)) return before
  if (Array.isArray(before) && Array.isArray(after)) {
    const parts = after.map((part, i) => shared(before[i], part))
    return choose([before, before], [after, after], parts, () => parts)
  }
  if (before instanceof Map && after instanceof Map) {
    const parts = [...after].map(([key, part]) => [key, shared(before.get(key), part)] as const)
    return choose(
      [before, [...before].flat()],
      [after, [...after].flat()],
      parts.flat(),
      () => new Map(parts),
    )
  }
  if (isPlain(before) && isPlain(after)) {
    const parts = Object.entries(after).map(([key, part]) => [key, shared(own(before, key), part)] as const)
    const [old, members] = [Object.entries(before).flat(), Object.entries(after).flat()]
    return choose([before, old], [after, members], parts.flat(), () => Object.fromEntries(parts))
  }
  return after
}

/** Whichever of the two has these parts; neither: one made of them. */
function choose(
  [before, old]: readonly [unknown, readonly unknown[]],
  [after, members]: readonly [unknown, readonly unknown[]],
  parts: readonly unknown[],
  make: () => unknown,
): unknown {
  if (sameMembers(old, parts)) return before
  return sameMembers(members, parts) ? after : make()
}

function sameMembers(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((one, i) => Object.is(one, b[i]))
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
}
