// A user's own ServiceEntries beside those that Isthmus writes for what its peers export.
import type { ServiceEntry } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { parseServiceHost } from './host.ts'

import { byText } from './labels.ts'
import { CLUSTER_LABEL, ENTRY_NAMESPACE, isManagedEntry } from './managed.ts'

/** Istio's root namespace: what stands there is for the whole mesh. */
const ROOT_NAMESPACE = 'istio-system'

export interface CountingEntries {
  /** Sorted by name, as they came. */
  readonly entries: readonly ServiceEntry[]
  /** The user's own, in place of what is imported. */
  readonly overrides: boolean
}

/**
 * Which entries of a host count. A user's own one that may speak for the host does, and what is imported under that name does not: the
 * user said where the host leads, and endpoints of others beside it would take a part of the traffic somewhere else. `local`: the
 * namespace of the host is one of this cluster.
 */
export function countingEntries(
  host: string,
  entries: readonly ServiceEntry[],
  local: boolean,
  conditions: Conditions,
): CountingEntries {
  const imported = entries.filter(({ metadata }) => isManagedEntry(metadata))
  const own = entries.filter((entry) => !imported.includes(entry))
  const guarded = imported.length > 0 || local
  const speaking = guarded ? own.filter((entry) => maySpeakFor(host, entry, imported, conditions)) : own
  if (imported.length === 0 || speaking.length === 0)
    return { entries: speaking.length > 0 ? speaking : imported, overrides: false }
  const clusters = [
    ...new Set(
      imported.flatMap(({ spec }) => spec.endpoints.map(({ labels }) => labels[CLUSTER_LABEL] ?? '')),
    ),
  ]
  const named = speaking.map(nameOf).join(', ')
  for (const entry of speaking) {
    const message = `spec.hosts: "${host}" is imported from ${clusters.sort(byText).join(', ')} too; this entry counts instead`
    conditions.holds(entry, 'Accepted', 'OverridesImport', message)
  }
  for (const entry of imported)
    conditions.fails(
      entry,
      'Accepted',
      'Overridden',
      `spec.hosts: "${host}" is described by ${named}, which counts instead`,
    )
  return { entries: speaking, overrides: true }
}

/**
 * A Kubernetes service is spoken for by its own namespace, by the root namespace and where Isthmus' own entries stand; a host that is no
 * Kubernetes service by whoever names it. Else whoever may write in one namespace would take the callers of another's services.
 */
function maySpeakFor(
  host: string,
  entry: ServiceEntry,
  imported: readonly ServiceEntry[],
  conditions: Conditions,
): boolean {
  const service = parseServiceHost(host)
  if (service === undefined) return true
  if ([service.namespace, ROOT_NAMESPACE, ENTRY_NAMESPACE].includes(entry.metadata.namespace)) return true
  const what =
    imported.length > 0 ? 'is imported' : `is a service of namespace "${service.namespace}" of this cluster`
  const message = `spec.hosts: "${host}" ${what}; only an entry of namespace "${service.namespace}" or "${ROOT_NAMESPACE}" speaks for it, and this one does not count for it`
  conditions.fails(entry, 'Accepted', 'HostConflict', message)
  return false
}
