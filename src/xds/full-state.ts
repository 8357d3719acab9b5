// SotW for types whose response is the complete state: absence means deletion, so every change sends everything.
import type { Interest } from './interest.ts'
import { mapVersion, setVersion } from './resource.ts'
import type { XdsResource } from './types.ts'

type View = ReadonlyMap<string, XdsResource>

export interface StateAnswer {
  readonly version: string
  readonly resources: readonly XdsResource[]
  /** Those that the client did not have in this form. */
  readonly fresh: readonly XdsResource[]
}

const NOTHING: View = new Map()

/**
 * Make before break in a protocol that cannot say "remove": while something is added or changed, what is to go is sent along
 * once more, and left out in a second response.
 */
export class FullState {
  #last: View = NOTHING
  /** What the client had before the last one; and still has, if it refuses the last one. */
  #before: View = NOTHING
  /** Of the last one, if it was refused: the same is not said twice. */
  #refusedVersion: string | undefined

  rejected(version: string): void {
    this.#refusedVersion = version
  }

  /** Whether the last one is refused. */
  get refusing(): boolean {
    return this.#refusedVersion !== undefined
  }

  /** How far a resource of the view has come. `awaiting`: the last state was not answered. */
  progress({ name, version }: XdsResource, awaiting: boolean): 'unsent' | 'pending' | 'acked' | 'nacked' {
    const sent = this.#last.get(name)?.version
    if (sent === undefined) return 'unsent'
    if (sent !== version) return 'pending'
    if (this.#before.get(name)?.version === version) return 'acked'
    if (this.#refusedVersion !== undefined) return 'nacked'
    return awaiting ? 'pending' : 'acked'
  }

  /** The client does not want some of it any more, and so has it no more. */
  forget(interest: Interest): void {
    this.#last = covered(this.#last, interest)
    this.#before = covered(this.#before, interest)
  }

  /** Takes what it deals with out of `dirty`; removals stay there until the `break` phase. `owed`: answer even if unchanged. */
  next(
    phase: 'make' | 'break',
    view: View,
    interest: Interest,
    dirty: Set<string>,
    owed: boolean,
  ): StateAnswer | undefined {
    let changed = false
    let gone = false
    for (const name of dirty) {
      const resource = view.get(name)
      const before = this.#last.get(name)
      if (resource !== undefined && interest.covers(name)) changed ||= before?.version !== resource.version
      if (resource === undefined && before !== undefined) gone = true
      else dirty.delete(name)
    }
    if (phase === 'make' ? !changed && !owed : !gone) return undefined
    // What was refused may be what is to go: then it is not sent along.
    const keep = phase === 'make' && this.#refusedVersion === undefined
    const payload = this.#payload(view, interest, keep)
    if (!keep) dirty.clear()
    const version = payload === view ? mapVersion(view) : setVersion(payload.values())
    if (version === this.#refusedVersion && !owed) return undefined
    const resources = [...payload.values()]
    // After a refusal the client may have either: what it had, or part of what it refused.
    if (this.#refusedVersion === undefined) this.#before = this.#last
    const fresh = resources.filter((one) => !isIn(this.#last, one) || !isIn(this.#before, one))
    this.#last = payload
    this.#refusedVersion = undefined
    return { version, resources, fresh }
  }

  #payload(view: View, interest: Interest, keepStale: boolean): View {
    const stale = keepStale
      ? [...this.#last.values()].filter((one) => !view.has(one.name) && interest.covers(one.name))
      : []
    if (interest.wildcard && stale.length === 0) return view
    const payload = new Map<string, XdsResource>()
    for (const one of view.values()) if (interest.covers(one.name)) payload.set(one.name, one)
    for (const one of stale) payload.set(one.name, one)
    return payload
  }
}

function covered(state: View, interest: Interest): View {
  if (interest.wildcard) return state
  return new Map([...state].filter(([name]) => interest.covers(name)))
}

function isIn(state: View, { name, version }: XdsResource): boolean {
  return state.get(name)?.version === version
}
