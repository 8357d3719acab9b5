// What an Istio control plane of this cluster is told of the services that the cluster imports: the same that its sidecars of ours are
// told, in the objects that the reference product writes.
import { isIP } from 'node:net'
import { contentHash } from '../lib/canonical.ts'
import { own } from '../lib/own.ts'
import { isMeshWorkload } from '../model/endpoints.ts'
import { byText } from '../model/labels.ts'
import { ENTRY_NAMESPACE, MANAGED_BY, MANAGER } from '../model/managed.ts'
import { workloadIdsOf } from '../model/mode.ts'
import { annotatedSubsets, readySubsets } from '../model/subsets.ts'
import type { ClusterInfo, Model, ModelService } from '../model/types.ts'
import { TYPE, type XdsResource } from '../xds/types.ts'
import { type DestinationRuleConfig, encodeDestinationRule } from './destination-rule.ts'
import type { McpMetadata } from './mcp.ts'
import { type EntryConfig, type EntryEndpoint, encodeEntry } from './service-entry.ts'
import { CLUSTER_LABEL } from './service-entry-export.ts'
import { SnapshotBuilder } from './snapshot-builder.ts'
import { encodeWorkloadEntry, type WorkloadEntryConfig } from './workload-entry.ts'

/** What follows from the imports. Plain JSON. */
export interface IstioConfig {
  readonly serviceEntries: readonly EntryConfig[]
  readonly workloadEntries: readonly WorkloadEntryConfig[]
  readonly destinationRules: readonly DestinationRuleConfig[]
}

/** Istio asks for the newest version that it knows; the bodies are the same. */
const VERSIONS = ['v1alpha3', 'v1beta1', 'v1'] as const

/** What one host is made of. */
interface HostInputs {
  readonly self: ClusterInfo
  readonly entry: EntryConfig
  /** The Service of the host here. */
  readonly service: ModelService | undefined
  /** The user's own entry stands instead. */
  readonly overridden: boolean
}

/**
 * The view of an Istio control plane; every type that it holds none of is answered as empty. `entryOf` reads an entry that Isthmus wrote.
 * A host of which nothing changed since the time before costs nothing.
 */
export function istioResources(
  model: Model,
  entryOf: (object: Model['written'][number]) => EntryConfig,
  previous?: SnapshotBuilder,
): SnapshotBuilder {
  const builder = new SnapshotBuilder(previous)
  for (const type of [TYPE.serviceEntry, TYPE.workloadEntry, TYPE.destinationRule])
    for (const each of versionsOf(type)) builder.type(each)
  const memo = builder.memo('entries')
  const entries = model.written.map((object) =>
    memo.get(object.metadata.name, { object }, (inputs) => entryOf(inputs.object)),
  )
  for (const inputs of hostInputs(model, entries)) {
    builder.group(inputs.entry.name, inputs, (of) => {
      const { serviceEntries, workloadEntries, destinationRules } = hostConfig(of)
      addAll(builder, TYPE.serviceEntry, serviceEntries, encodeEntry)
      addAll(builder, TYPE.workloadEntry, workloadEntries, encodeWorkloadEntry)
      addAll(builder, TYPE.destinationRule, destinationRules, encodeDestinationRule)
    })
  }
  return builder
}

const versionsOf = (type: string): string[] => VERSIONS.map((version) => type.replace('v1alpha3', version))

function addAll<T extends McpMetadata>(
  builder: SnapshotBuilder,
  type: string,
  configs: readonly T[],
  encode: (config: T) => XdsResource,
): void {
  for (const config of configs) {
    let made: XdsResource | undefined
    const make = (): XdsResource => {
      made ??= encode(config)
      return made
    }
    for (const each of versionsOf(type)) builder.add(each, `${config.namespace}/${config.name}`, config, make)
  }
}

/** What follows from the `entries` that Isthmus wrote for the imports. */
export function istioConfig(model: Model, entries: readonly EntryConfig[]): IstioConfig {
  const parts = hostInputs(model, entries).map(hostConfig)
  return {
    serviceEntries: parts.flatMap(({ serviceEntries }) => serviceEntries),
    workloadEntries: parts.flatMap(({ workloadEntries }) => workloadEntries),
    destinationRules: parts.flatMap(({ destinationRules }) => destinationRules),
  }
}

function hostInputs(model: Model, entries: readonly EntryConfig[]): HostInputs[] {
  const services = new Map(model.services.map((service) => [service.host, service]))
  const overridden = new Set(
    model.imports.flatMap(({ host, overrides }) => (overrides === true ? [host] : [])),
  )
  return entries.map((entry) => {
    const [host = ''] = entry.hosts
    return { self: model.self, entry, service: services.get(host), overridden: overridden.has(host) }
  })
}

/**
 * A host that is not a Service here is a ServiceEntry. One that is has its Service already, and its remote gateways join it as
 * WorkloadEntries in the Service's own namespace, as endpoints by the Service's selector.
 */
function hostConfig({ self, entry, service, overridden }: HostInputs): IstioConfig {
  // Istio has the user's own entry from where he wrote it.
  if (overridden) return NOTHING
  if (service === undefined) {
    const serviceEntry = { ...entry, endpoints: partsOf(entry).map(({ endpoint }) => endpoint) }
    const rule = ruleOf(entry, ENTRY_NAMESPACE, [])
    return { serviceEntries: [serviceEntry], workloadEntries: [], destinationRules: [rule] }
  }
  const joining = joiningEndpoints(service, entry)
  if (joining.length === 0) return NOTHING
  const ids = [...new Set([...workloadIdsOf(self, service), ...entry.subjectAltNames])].sort(byText)
  return {
    serviceEntries: [],
    workloadEntries: partsOf({ ...entry, endpoints: joining }).map((part) =>
      workloadEntry(service, entry, part),
    ),
    destinationRules: [ruleOf(entry, service.namespace, ids)],
  }
}

const NOTHING: IstioConfig = { serviceEntries: [], workloadEntries: [], destinationRules: [] }

/**
 * The remote gateways that may stand beside the endpoints of a Service here. A sidecar of Istio pins one list of ids for all endpoints
 * of a host, and only where it speaks TLS to all of them: so none joins unless every local endpoint is a mesh workload. Nor where
 * a traffic policy of the user's would stand instead of ours, or nothing selects it; and nobody but an address can be an endpoint of a Service.
 */
function joiningEndpoints(service: ModelService, entry: EntryConfig): readonly EntryEndpoint[] {
  const clear = service.ports.some(({ endpoints }) => endpoints.some((endpoint) => !isMeshWorkload(endpoint)))
  if (clear || service.policed === true || entry.subjectAltNames.length === 0) return []
  if (Object.keys(service.selector).length === 0) return []
  return entry.endpoints.filter(({ address }) => isIP(address) !== 0)
}

/**
 * Each endpoint for the whole host, first, and once for each subset that is ready behind it, with the labels of that subset's pods, by
 * which Istio chooses. Of one address that is there twice an Envoy takes the first.
 */
function partsOf({ annotations, endpoints }: Pick<EntryConfig, 'annotations' | 'endpoints'>): Part[] {
  const subsets = annotatedSubsets(annotations)
  return endpoints.flatMap((endpoint) => {
    const ready = readySubsets(endpoint.labels)
    const parts = subsets.flatMap(({ name, labels }) => {
      const weight = own(ready, name) ?? 0
      if (weight === 0) return []
      return [{ subset: name, endpoint: { ...endpoint, weight, labels: { ...labels, ...endpoint.labels } } }]
    })
    return [{ subset: '', endpoint }, ...parts]
  })
}

interface Part {
  /** Empty: the whole host. */
  readonly subset: string
  readonly endpoint: EntryEndpoint
}

function workloadEntry(
  service: ModelService,
  entry: EntryConfig,
  { subset, endpoint }: Part,
): WorkloadEntryConfig {
  const who = [entry.hosts[0], endpoint.labels[CLUSTER_LABEL], endpoint.address, subset].join(' ')
  const at = new Map(entry.ports.map(({ name, number }) => [number, endpoint.ports[name]]))
  const ports = service.ports.flatMap(({ name, number }) => {
    const port = at.get(number)
    return port === undefined ? [] : [[name, port] as const]
  })
  return {
    namespace: service.namespace,
    // As the reference product names them; the hash tells the gateways of a host apart.
    name: `k-${service.name}-${contentHash(who)}`,
    ...common(entry),
    address: endpoint.address,
    ports: Object.fromEntries(ports),
    endpointLabels: { ...endpoint.labels, ...service.selector },
    locality: endpoint.locality,
    weight: endpoint.weight,
  }
}

/** The rule that goes with an exported entry whose host has subsets. */
export function subsetRule(entry: EntryConfig): DestinationRuleConfig | undefined {
  return annotatedSubsets(entry.annotations).length === 0 ? undefined : ruleOf(entry, entry.namespace, [])
}

function ruleOf(entry: EntryConfig, namespace: string, ids: readonly string[]): DestinationRuleConfig {
  const [host = ''] = entry.hosts
  return {
    namespace,
    name: entry.name.replace('gwinternal', 'drinternal'),
    ...common(entry),
    host,
    subsets: annotatedSubsets(entry.annotations),
    subjectAltNames: ids,
    // Endpoints of the own cluster have no such label, nor have the callers: they come first, other clusters when none of them answers.
    failoverPriority: [CLUSTER_LABEL],
    exportTo: ['*'],
  }
}

function common({ annotations, createTime }: EntryConfig) {
  return {
    labels: { [MANAGED_BY]: MANAGER },
    annotations,
    ...(createTime === undefined ? {} : { createTime }),
  }
}
