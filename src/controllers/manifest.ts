import { MANAGED_BY, MANAGER } from '../model/managed.ts'
import type { KubeObject } from '../objects/types.ts'

export const isManaged = (object: KubeObject): boolean => object.metadata.labels[MANAGED_BY] === MANAGER

/**
 * Whether everything that `wanted` says is so in `found` already: members that only `found` has (status, defaults that a server
 * filled in) do not count, lists must be equal in length and order.
 */
export function isSubset(wanted: unknown, found: unknown): boolean {
  if (Array.isArray(wanted)) {
    return (
      Array.isArray(found) &&
      found.length === wanted.length &&
      wanted.every((item, i) => isSubset(item, found[i]))
    )
  }
  if (wanted === null || typeof wanted !== 'object') return Object.is(wanted, found)
  if (found === null || typeof found !== 'object' || Array.isArray(found)) return false
  const members = found as Record<string, unknown>
  return Object.entries(wanted).every(
    ([key, value]) => Object.hasOwn(members, key) && isSubset(value, members[key]),
  )
}
