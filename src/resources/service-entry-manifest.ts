import type { EntryConfig, EntryEndpoint } from './service-entry.ts'

/** The YAML form, as `kubectl apply` would take it; empty members left out. */
export function entryManifest(entry: EntryConfig): Readonly<Record<string, unknown>> {
  return {
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'ServiceEntry',
    metadata: {
      name: entry.name,
      namespace: entry.namespace,
      ...filled({ labels: entry.labels, annotations: entry.annotations }),
    },
    spec: {
      hosts: entry.hosts,
      location: entry.location,
      resolution: entry.resolution,
      ports: entry.ports.map(({ number, name, protocol }) => ({ number, name, protocol })),
      endpoints: entry.endpoints.map(({ address, ports, labels, network, locality, weight }) => ({
        address,
        ...filled({ ports, labels }),
        ...(network === '' ? {} : { network }),
        ...(locality === '' ? {} : { locality }),
        ...(weight === 0 ? {} : { weight }),
      })),
      ...(entry.exportTo.length === 0 ? {} : { exportTo: entry.exportTo }),
      ...(entry.subjectAltNames.length === 0 ? {} : { subjectAltNames: entry.subjectAltNames }),
    },
  }
}

/** The parts of a stored ServiceEntry that we read. */
export interface StoredEntry {
  readonly metadata: Pick<EntryConfig, 'namespace' | 'name' | 'labels' | 'annotations'> & {
    readonly creationTimestamp?: string
  }
  readonly spec: Omit<
    EntryConfig,
    'namespace' | 'name' | 'labels' | 'annotations' | 'createTime' | 'endpoints'
  > & {
    readonly endpoints: readonly Omit<EntryEndpoint, 'network'>[]
  }
}

/** The inverse; `network` of an endpoint is not among what the store keeps (Isthmus leaves it empty). */
export function entryOf(object: StoredEntry): EntryConfig {
  const { metadata, spec } = object
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    labels: metadata.labels,
    annotations: metadata.annotations,
    ...(metadata.creationTimestamp === undefined ? {} : { createTime: metadata.creationTimestamp }),
    hosts: spec.hosts,
    location: spec.location,
    resolution: spec.resolution,
    ports: spec.ports.map(({ name, number, protocol }) => ({ name, number, protocol })),
    endpoints: spec.endpoints.map((endpoint) => ({ ...endpoint, network: '' })),
    exportTo: spec.exportTo,
    subjectAltNames: spec.subjectAltNames,
  }
}

function filled(
  members: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => Object.keys(value).length > 0))
}
