// Everything that a new client wants, worked out once for all who want the same of the same state.
import { encodedSize } from './resource.ts'
import type { XdsResource } from './types.ts'

type View = ReadonlyMap<string, XdsResource>

/** One response: what there is, and which of the names that were asked for is not. */
export interface Part {
  readonly resources: readonly XdsResource[]
  readonly removed: readonly string[]
}

interface Whole {
  readonly budget: number
  readonly parts: readonly Part[]
}

/** By state, and by the set of names that was asked for, or by the state itself where all is. */
const wholes = new WeakMap<View, WeakMap<object, Whole>>()

/** The view, or the names asked for, in responses that are each no longer than `budget` bytes unless a single resource is. */
export function wholeOf(view: View, names: ReadonlySet<string> | undefined, budget: number): readonly Part[] {
  const byNames = wholes.get(view) ?? new WeakMap<object, Whole>()
  wholes.set(view, byNames)
  const known = byNames.get(names ?? view)
  if (known?.budget === budget) return known.parts
  const parts = split(view, names ?? view.keys(), budget)
  byNames.set(names ?? view, { budget, parts })
  return parts
}

function split(view: View, names: Iterable<string>, budget: number): readonly Part[] {
  let resources: XdsResource[] = []
  let removed: string[] = []
  const parts = [{ resources, removed }]
  let bytes = 0
  for (const name of names) {
    const resource = view.get(name)
    const size = resource === undefined ? name.length + 4 : encodedSize(resource)
    if (bytes > 0 && bytes + size > budget) {
      resources = []
      removed = []
      parts.push({ resources, removed })
      bytes = 0
    }
    if (resource === undefined) removed.push(name)
    else resources.push(resource)
    bytes += size
  }
  return parts
}
