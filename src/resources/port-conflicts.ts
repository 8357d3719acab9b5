// Where clusters that serve one host disagree about its ports: a call would find another port, or another protocol, depending on which of
// them answers it. The MCS API calls it `PortConflict`.
import { ENTRY_NAMESPACE } from '../model/managed.ts'
import type { ModelCondition, ModelService } from '../model/types.ts'
import { entryNames } from './service-entry-export.ts'
import type { Offers } from './service-entry-merge.ts'

interface PortOf {
  readonly cluster: string
  readonly name: string
  readonly number: number
  /** Lower case. */
  readonly protocol: string
}

/**
 * A condition for the ServiceEntry of each such host, and for the Service where this cluster has one too. What counts is what is said
 * first: here, then by the first cluster by name.
 */
export function portConflicts(
  self: string,
  services: readonly ModelService[],
  offers: Offers,
): readonly ModelCondition[] {
  const clustersOf = new Map<string, PortOf[]>()
  for (const [cluster, entries] of [...offers].sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const [host, { ports }] of entries) {
      const known = clustersOf.get(host) ?? []
      clustersOf.set(host, known)
      for (const { name, number, protocol } of ports)
        known.push({ cluster, name, number, protocol: protocol.toLowerCase() })
    }
  }
  const own = new Map(services.map((service) => [service.host, service]))
  const names = entryNames([...clustersOf.keys()])
  return [...clustersOf].flatMap(([host, offered]) => {
    const service = own.get(host)
    const ports = (service?.ports ?? []).map((port) => ({ ...port, cluster: self }))
    const message = conflictsOf([...ports, ...offered]).join('; ')
    if (message === '') return []
    const objects = [`ServiceEntry/${ENTRY_NAMESPACE}/${names.get(host)}`]
    if (service !== undefined) objects.push(`Service/${service.namespace}/${service.name}`)
    return objects.map((object): ModelCondition => {
      return { object, type: 'Agreed', status: false, reason: 'PortConflict', message: `${host}: ${message}` }
    })
  })
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
