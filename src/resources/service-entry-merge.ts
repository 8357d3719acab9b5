import { own } from '../lib/own.ts'
import { byText } from '../model/labels.ts'
import { ENTRY_NAMESPACE, MANAGED_BY, MANAGER } from '../model/managed.ts'
import { annotatedSubsets, readySubsets, subsetsAnnotation } from '../model/subsets.ts'
import type { EntryConfig, EntryEndpoint, EntryPort } from './service-entry.ts'
import { CLUSTER_LABEL, entryNames, RULE_ANNOTATION, STALE_ANNOTATION } from './service-entry-export.ts'

/** What each peer offers: cluster → host → its accepted entry. */
export type Offers = ReadonlyMap<string, ReadonlyMap<string, EntryConfig>>

/**
 * One ServiceEntry per host that any peer offers, the endpoints of all of them in it; sorted by host. `stale`: since when a cluster's
 * are in force without its word.
 */
export function mergeOffers(offers: Offers, stale: ReadonlyMap<string, string> = new Map()): EntryConfig[] {
  const byHost = new Map<string, { cluster: string; entry: EntryConfig }[]>()
  for (const [cluster, entries] of [...offers].sort(([a], [b]) => byText(a, b))) {
    for (const [host, entry] of entries) byHost.set(host, [...(byHost.get(host) ?? []), { cluster, entry }])
  }
  const names = entryNames([...byHost.keys()])
  return [...byHost]
    .sort(([a], [b]) => byText(a, b))
    .map(([host, parts]) => mergeHost(host, names.get(host) ?? '', parts, stale))
}

function mergeHost(
  host: string,
  name: string,
  parts: readonly { cluster: string; entry: EntryConfig }[],
  stale: ReadonlyMap<string, string>,
): EntryConfig {
  const ports = mergePorts(parts.map(({ entry }) => entry.ports))
  const nameOf = new Map(ports.map((port) => [port.number, port.name]))
  const endpoints = parts.flatMap(({ entry }) =>
    entry.endpoints.map((endpoint) => rename(endpoint, entry.ports, nameOf)),
  )
  // Where two clusters define a subset differently, the first by name says what it is here.
  const defined = parts.toReversed().flatMap(({ entry }) => annotatedSubsets(entry.annotations))
  const subsets = new Map(defined.map((subset) => [subset.name, subset]))
  const rules = parts.map(({ cluster, entry }) => `${cluster}: ${entry.annotations[RULE_ANNOTATION] ?? ''}`)
  return {
    namespace: ENTRY_NAMESPACE,
    name,
    labels: { [MANAGED_BY]: MANAGER },
    annotations: {
      [RULE_ANNOTATION]: rules.join('; '),
      ...subsetsAnnotation([...subsets.values()]),
      ...staleMark(parts, stale),
    },
    hosts: [host],
    location: 'MESH_INTERNAL',
    resolution: parts.some(({ entry }) => entry.resolution === 'DNS') ? 'DNS' : 'STATIC',
    ports,
    endpoints,
    exportTo: ['*'],
    subjectAltNames: [...new Set(parts.flatMap(({ entry }) => entry.subjectAltNames))].sort(),
  }
}

function staleMark(
  parts: readonly { cluster: string }[],
  stale: ReadonlyMap<string, string>,
): Record<string, string> {
  const marks = parts.flatMap(({ cluster }) => {
    const since = stale.get(cluster)
    return since === undefined ? [] : [`${cluster} ${since}`]
  })
  return marks.length === 0 ? {} : { [STALE_ANNOTATION]: marks.join('; ') }
}

/** Since when an earlier run had not heard a cluster, milliseconds since the epoch; undefined where it had. */
export function staleSinceOf(entries: readonly EntryConfig[], cluster: string): number | undefined {
  const marks = entries.flatMap(({ annotations }) => (annotations[STALE_ANNOTATION] ?? '').split('; '))
  const times = marks
    .filter((mark) => mark.startsWith(`${cluster} `))
    .map((mark) => Date.parse(mark.slice(cluster.length + 1)))
    .filter((ms) => !Number.isNaN(ms))
  return times.length === 0 ? undefined : Math.min(...times)
}

/** All numbers, each once, under the first name given; a name already used for another number gets the number behind. */
function mergePorts(lists: readonly (readonly EntryPort[])[]): EntryPort[] {
  const byNumber = new Map<number, EntryPort>()
  const used = new Set<string>()
  for (const port of lists.flat()) {
    if (byNumber.has(port.number)) continue
    const name = used.has(port.name) ? `${port.name}-${port.number}` : port.name
    used.add(name)
    byNumber.set(port.number, { ...port, name })
  }
  return [...byNumber.values()].sort((a, b) => a.number - b.number)
}

/** An endpoint's port map under the merged names. */
function rename(
  endpoint: EntryEndpoint,
  ports: readonly EntryPort[],
  nameOf: ReadonlyMap<number, string>,
): EntryEndpoint {
  const renamed = ports.flatMap(({ name, number }) => {
    const at = own(endpoint.ports, name)
    return at === undefined ? [] : [[nameOf.get(number) ?? name, at] as const]
  })
  return { ...endpoint, ports: Object.fromEntries(renamed) }
}

/**
 * The inverse of `mergeOffers` for one peer, from entries that an earlier run wrote: what it offered then stays in force until
 * it has been heard again.
 */
export function offersOf(
  entries: readonly EntryConfig[],
  peer: { readonly cluster: string; readonly trustDomain: string },
): Map<string, EntryConfig> {
  const offers = new Map<string, EntryConfig>()
  for (const entry of entries) {
    const [host] = entry.hosts
    const endpoints = entry.endpoints.filter(({ labels }) => labels[CLUSTER_LABEL] === peer.cluster)
    if (host === undefined || endpoints.length === 0) continue
    const served = new Set(endpoints.flatMap(({ ports }) => Object.keys(ports)))
    const rules = (entry.annotations[RULE_ANNOTATION] ?? '').split('; ')
    const rule =
      rules.find((text) => text.startsWith(`${peer.cluster}: `))?.slice(peer.cluster.length + 2) ?? ''
    const named = endpoints.map(({ labels }) => readySubsets(labels))
    const subsets = annotatedSubsets(entry.annotations).filter(({ name }) =>
      named.some((ready) => own(ready, name) !== undefined),
    )
    offers.set(host, {
      ...entry,
      annotations: { [RULE_ANNOTATION]: rule, ...subsetsAnnotation(subsets) },
      ports: entry.ports.filter(({ name }) => served.has(name)),
      endpoints,
      subjectAltNames: entry.subjectAltNames.filter((id) => id.startsWith(`spiffe://${peer.trustDomain}/`)),
    })
  }
  return offers
}
