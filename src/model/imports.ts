import { own } from '../lib/own.ts'
import type { ServiceEntry, ServiceEntryEndpoint } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { failoverLabels } from './failover.ts'
import { isDnsName, parseServiceHost } from './host.ts'
import { byText } from './labels.ts'
import { CLUSTER_LABEL } from './managed.ts'
import { countingEntries } from './own-entries.ts'
import { protocolOf } from './protocol.ts'
import { Stage } from './stage.ts'
import { annotatedSubsets, readySubsets } from './subsets.ts'
import { isTopLevelDomain } from './top-level-domains.ts'
import type { ImportedService } from './types.ts'

/** Endpoint labels that say where an address leads (Tetrate's and Istio's names). */
const NETWORK_LABELS = ['network', 'topology.istio.io/network'] as const
/** Ours: port numbers without a ready endpoint behind the address, with dots between them. */
export const NOT_READY_LABEL = 'isthmus.io/not-ready'
const TLS_MODE_LABEL = 'security.istio.io/tlsMode'

type ImportedPort = ImportedService['ports'][number]
type ImportedEndpoint = ImportedService['endpoints'][number]

interface HostInputs {
  readonly host: string
  /** Sorted by name. */
  readonly entries: readonly ServiceEntry[]
  /** This cluster has a namespace of the host's name for it. */
  readonly local: boolean
}

/** Runs for an entry or a host where it, or what it is made of, is another than at the last model. */
export class ImportStages {
  readonly entries = new Stage(({ entry }: { entry: ServiceEntry }, said) => usableHosts(entry, said))
  readonly hosts = new Stage(importHost, { shares: true })
}

/**
 * Services that ServiceEntries describe, ours and the user's own, one per host, sorted by host. Several entries of one
 * host add up: ports by number, endpoints by address; where they disagree about a port, the first by name is right. But a user's own
 * entry stands instead of what is imported.
 * `namespaces` are those that this cluster itself has.
 */
export function collectImports(
  entries: readonly ServiceEntry[],
  namespaces: ReadonlySet<string>,
  stages: ImportStages,
  conditions: Conditions,
): readonly ImportedService[] {
  const byHost = new Map<string, ServiceEntry[]>()
  const named = entries.map((entry) => [nameOf(entry), entry] as const).sort(([a], [b]) => byText(a, b))
  for (const [name, entry] of named) {
    for (const host of stages.entries.get({ entry }, conditions, name)) {
      const sources = byHost.get(host)
      if (sources === undefined) byHost.set(host, [entry])
      else sources.push(entry)
    }
  }
  const imports = [...byHost]
    .sort(([a], [b]) => byText(a, b))
    .flatMap(([host, sources]) => {
      const local = namespaces.has(parseServiceHost(host)?.namespace ?? '')
      return stages.hosts.get({ host, entries: sources, local }, conditions, host) ?? []
    })
  stages.entries.sweep()
  stages.hosts.sweep()
  return imports
}

function importHost(
  { host, entries, local }: HostInputs,
  conditions: Conditions,
): ImportedService | undefined {
  const counting = countingEntries(host, entries, local, conditions)
  if (counting.entries.length === 0) return undefined
  const merged = merge(host, counting.entries, conditions)
  const service = counting.overrides ? { ...merged, overrides: true as const } : merged
  return withoutSiteName(service, counting.entries, local, conditions)
}

/** Takes the two-label form from a host that nobody but a peer calls a Service, and that a site may be called too. */
function withoutSiteName(
  service: ImportedService,
  sources: readonly ServiceEntry[],
  local: boolean,
  conditions: Conditions,
): ImportedService {
  const { name, namespace } = service
  if (!isTopLevelDomain(namespace) || local) return service
  const message = `"${namespace}" is a top-level domain and no namespace of this cluster: ${name}.${namespace} is left to ordinary DNS, ${name}.${namespace}.svc leads here`
  for (const entry of sources) conditions.holds(entry, 'Accepted', 'NoShortName', message)
  return { ...service, noShortName: true }
}

/** The hosts of an entry that can be used, in lower case, each once. */
function usableHosts(entry: ServiceEntry, conditions: Conditions): readonly string[] {
  if (!isUsable(entry, conditions)) return []
  const hosts: string[] = []
  for (const text of new Set(entry.spec.hosts)) {
    const host = text.toLowerCase()
    const error = hostError(host)
    if (error === undefined) hosts.push(host)
    else conditions.fails(entry, 'Accepted', 'UnsupportedHost', `spec.hosts: "${text}" ${error}`)
  }
  return hosts
}

function isUsable(entry: ServiceEntry, conditions: Conditions): boolean {
  const { resolution, endpoints, exportTo } = entry.spec
  if (resolution === 'NONE' || endpoints.length === 0) {
    const message =
      'spec.endpoints: expected at least one; a host without addresses of its own is left to ordinary DNS'
    conditions.fails(entry, 'Accepted', 'NoEndpoints', message)
    return false
  }
  if (exportTo.length > 0 && !exportTo.includes('*')) {
    const message = `spec.exportTo: ${exportTo.join(', ')} hides it; a sidecar serves every namespace and uses only entries exported to "*"`
    conditions.fails(entry, 'Accepted', 'NotExported', message)
    return false
  }
  return true
}

/** Whether the host can be named in DNS; in TLS it then can be, by an alias where it is too long. */
function hostError(host: string): string | undefined {
  return isDnsName(host) ? undefined : 'is not a plain DNS name (wildcards are not supported)'
}

function merge(host: string, entries: readonly ServiceEntry[], conditions: Conditions): ImportedService {
  const ports = mergePorts(entries, conditions)
  const endpoints = new Map<string, ImportedEndpoint>()
  for (const entry of entries) {
    for (const endpoint of entry.spec.endpoints) {
      const imported = toEndpoint(entry, endpoint, ports)
      const key = `${imported.cluster}\n${imported.network}\n${imported.address}`
      const known = endpoints.get(key)
      // The same address with other ports is one endpoint with more ports, not a second one.
      endpoints.set(
        key,
        known === undefined ? imported : { ...known, ports: { ...imported.ports, ...known.ports } },
      )
    }
  }
  // A host that is not `name.namespace.svc.cluster.local` belongs to no Kubernetes namespace and has no short names.
  const { name, namespace } = parseServiceHost(host) ?? { name: '', namespace: '' }
  const defined = entries.toReversed().flatMap(({ metadata }) => annotatedSubsets(metadata.annotations))
  const subsets = new Map(defined.map((subset) => [subset.name, subset]))
  return {
    host,
    name,
    namespace,
    ports: [...ports.values()],
    endpoints: [...endpoints.values()],
    ...(subsets.size > 0 && { subsets: [...subsets.values()].sort((a, b) => byText(a.name, b.name)) }),
    subjectAltNames: [...new Set(entries.flatMap((entry) => entry.spec.subjectAltNames))].sort(byText),
    source: entries.map(nameOf).join(', '),
  }
}

function mergePorts(
  entries: readonly ServiceEntry[],
  conditions: Conditions,
): ReadonlyMap<number, ImportedPort> {
  const ports = new Map<number, ImportedPort>()
  for (const entry of entries) {
    for (const { name, number, protocol } of entry.spec.ports) {
      if (protocol.toUpperCase() === 'UDP') continue
      const port: ImportedPort = { name, number, protocol: protocolOf(protocol) }
      const known = ports.get(number)
      if (known === undefined) ports.set(number, port)
      else if (known.protocol !== port.protocol) {
        const message = `spec.ports: port ${number} is ${known.protocol} in another ServiceEntry of the host, here ${port.protocol}`
        conditions.fails(entry, 'Accepted', 'PortConflict', message)
      }
    }
  }
  return new Map([...ports].sort(([a], [b]) => a - b))
}

/** The endpoint with its ports under the names that the merged service gives them: entries may name one number differently. */
function toEndpoint(
  entry: ServiceEntry,
  { address, ports: given, labels, locality, weight }: ServiceEntryEndpoint,
  merged: ReadonlyMap<number, ImportedPort>,
): ImportedEndpoint {
  const copied = failoverLabels(labels)
  const subsets = readySubsets(labels)
  const ports: Record<string, number> = {}
  for (const { name, number, targetPort } of entry.spec.ports) {
    const port = merged.get(number)
    if (port !== undefined) ports[port.name] = own(given, name) ?? targetPort ?? number
  }
  return {
    address,
    ports,
    cluster: labels[CLUSTER_LABEL] ?? '',
    network: NETWORK_LABELS.map((label) => labels[label]).find((value) => value !== undefined) ?? '',
    locality,
    mtls: labels[TLS_MODE_LABEL] === 'istio',
    weight,
    ...(Object.keys(copied).length > 0 && { failoverLabels: copied }),
    ...notReady(labels[NOT_READY_LABEL]),
    ...(Object.keys(subsets).length > 0 && { subsets }),
  }
}

function notReady(label: string | undefined): Pick<ImportedEndpoint, 'notReady'> {
  return label === undefined || label === '' ? {} : { notReady: label.split('.').map(Number) }
}
