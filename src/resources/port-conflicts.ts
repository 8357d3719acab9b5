// Where clusters that serve one host disagree about its ports: a call would find another port, or another protocol, depending on which of
// them answers it. The MCS API calls it `PortConflict`.
import { Memo } from '../lib/memo.ts'
import { byText } from '../model/labels.ts'
import { ENTRY_NAMESPACE } from '../model/managed.ts'
import type { ModelCondition, ModelService } from '../model/types.ts'
import type { EntryConfig } from './service-entry.ts'
import { entryNames } from './service-entry-export.ts'
import type { Offers } from './service-entry-merge.ts'

interface PortOf {
  readonly cluster: string
  readonly name: string
  readonly number: number
  /** Lower case. */
  readonly protocol: string
}

/** What each cluster says of one host, the first whose word counts first. */
interface Said {
  readonly host: string
  readonly self: string
  /** Ours. */
  readonly ports: ModelService['ports'] | undefined
  /** By name; `entries` in the same order. */
  readonly clusters: readonly string[]
  readonly entries: readonly EntryConfig[]
}

/**
 * A condition for the ServiceEntry of each such host, and for the Service where this cluster has one too. What counts is what is said
 * first: here, then by the first cluster by name. With the `memo` of the time before, only hosts that changed are compared again.
 */
export function portConflicts(
  self: string,
  services: readonly ModelService[],
  offers: Offers,
  memo = new Memo(),
): readonly ModelCondition[] {
  const offered = new Map<string, { clusters: string[]; entries: EntryConfig[] }>()
  for (const [cluster, byHost] of [...offers].sort(([a], [b]) => byText(a, b))) {
    for (const [host, entry] of byHost) {
      const known = offered.get(host) ?? { clusters: [], entries: [] }
      offered.set(host, known)
      known.clusters.push(cluster)
      known.entries.push(entry)
    }
  }
  const own = new Map(services.map((service) => [service.host, service]))
  const conflicts = [...offered].flatMap(([host, { clusters, entries }]) => {
    const service = own.get(host)
    const message = memo.get(host, { host, self, ports: service?.ports, clusters, entries }, compare)
    return message === '' ? [] : [{ host, service, message }]
  })
  memo.sweep()
  const names = conflicts.length === 0 ? new Map<string, string>() : entryNames([...offered.keys()])
  return conflicts.flatMap(({ host, service, message }) => {
    const objects = [`ServiceEntry/${ENTRY_NAMESPACE}/${names.get(host)}`]
    if (service !== undefined) objects.push(`Service/${service.namespace}/${service.name}`)
    return objects.map((object): ModelCondition => {
      return { object, type: 'Agreed', status: false, reason: 'PortConflict', message: `${host}: ${message}` }
    })
  })
}

function compare({ self, ports, clusters, entries }: Said): string {
  const offered = entries.flatMap((entry, i) =>
    entry.ports.map((port) => ({
      ...port,
      protocol: port.protocol.toLowerCase(),
      cluster: clusters[i] ?? '',
    })),
  )
  const ours = (ports ?? []).map((port) => ({ ...port, cluster: self }))
  return conflictsOf([...ours, ...offered]).join('; ')
}

/** Each disagreement with whoever said it first. */
function conflictsOf(ports: readonly PortOf[]): string[] {
  const byNumber = new Map<number, PortOf>()
  const byName = new Map<string, PortOf>()
  const found: string[] = []
  for (const port of ports) {
    const sameNumber = byNumber.get(port.number)
    const sameName = port.name === '' ? undefined : byName.get(port.name)
    if (sameNumber === undefined) byNumber.set(port.number, port)
    else if (sameNumber.protocol !== port.protocol)
      found.push(
        `port ${port.number} is ${sameNumber.protocol} in ${sameNumber.cluster}, which counts, and ${port.protocol} in ${port.cluster}`,
      )
    if (port.name !== '' && sameName === undefined) byName.set(port.name, port)
    // The ports of one cluster have names of their own.
    else if (sameName !== undefined && sameName.number !== port.number && sameName.cluster !== port.cluster)
      found.push(
        `port "${port.name}" is ${sameName.number} in ${sameName.cluster} and ${port.number} in ${port.cluster}, so each is to be had from one of them only`,
      )
  }
  return found
}
