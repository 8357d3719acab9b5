// The cluster that the benchmark serves: services with endpoints, as objects in memory.
import { type FileVersion, ObjectTable } from '../../src/objects/object-table.ts'
import { identify, parseManifest } from '../../src/objects/parse.ts'
import type { ObjectChange, ObjectStore } from '../../src/objects/store.ts'
import type { Manifest, ObjectRef } from '../../src/objects/types.ts'

export const ENDPOINTS_PER_SERVICE = 10
const SERVICES_PER_NAMESPACE = 50

export const namespaceOf = (index: number): string => `ns-${Math.floor(index / SERVICES_PER_NAMESPACE)}`

export function service(index: number, annotations: Readonly<Record<string, string>> = {}): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: `service-${index}`,
      namespace: namespaceOf(index),
      labels: { app: `a-${index}` },
      annotations,
    },
    spec: { selector: { app: `a-${index}` }, ports: [{ name: 'http', port: 9080, targetPort: 9080 }] },
  }
}

/** The endpoints of a service; `revision` moves one of them. */
export function slice(
  index: number,
  revision: number,
  annotations: Readonly<Record<string, string>> = {},
): Manifest {
  const endpoints = Array.from({ length: ENDPOINTS_PER_SERVICE }, (_, i) => {
    const moved = i === 0 ? revision % 65_536 : 0
    const last = i === 0 ? `${moved >> 8}.${moved & 255}` : `0.${i}`
    return {
      addresses: [`10.${i === 0 ? 200 : index >> 8}.${last}`],
      conditions: { ready: true, serving: true, terminating: false },
    }
  })
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `service-${index}-1`,
      namespace: namespaceOf(index),
      labels: { 'kubernetes.io/service-name': `service-${index}` },
      annotations,
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 9_080 + (index & 255), protocol: 'TCP' }],
    endpoints,
  }
}

/** The upstream, and so the ClusterLoadAssignment, of a service in a sidecar's view. */
export function upstreamOf(index: number): string {
  return `outbound|9080||service-${index}.${namespaceOf(index)}.svc.cluster.local`
}

/** A store without files, over the table of the directory store: what a Kubernetes watch would feed. */
export class MemoryStore implements ObjectStore {
  readonly #table = new ObjectTable((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  readonly #listeners = new Set<(changes: readonly ObjectChange[]) => void>()

  put(documents: readonly Manifest[]): void {
    this.#update(
      documents.map((doc) => {
        const { source, ref } = sourceOf(doc)
        const parsed = parseManifest(doc, 'bench')
        if (!parsed.ok) throw new Error(`not an object: ${JSON.stringify(parsed)}`)
        const entry = { source, document: 0, item: undefined, ref, doc, object: parsed.value, problems: [] }
        return [source, { ok: true, value: [entry] }]
      }),
    )
  }

  remove(documents: readonly Manifest[]): void {
    this.#update(documents.map((doc) => [sourceOf(doc).source, undefined]))
  }

  #update(files: readonly (readonly [string, FileVersion])[]): void {
    const changes = this.#table.update(new Map(files))
    if (changes.length > 0) for (const listener of this.#listeners) listener(changes)
  }

  readonly list: ObjectStore['list'] = (kind) => this.#table.list(kind)
  readonly refused: ObjectStore['refused'] = (kind) => this.#table.refused(kind)
  readonly problems: ObjectStore['problems'] = () => this.#table.problems()

  watch(listener: (changes: readonly ObjectChange[]) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  apply(): never {
    throw new Error('nothing is written in the benchmark')
  }

  delete(): never {
    throw new Error('nothing is written in the benchmark')
  }

  updateStatus(): Promise<void> {
    return Promise.resolve()
  }
}

/** What stands for the file of an object. */
function sourceOf(doc: Manifest): { readonly source: string; readonly ref: ObjectRef } {
  const ref = identify(doc)
  if (ref === undefined) throw new Error(`not an object: ${JSON.stringify(doc)}`)
  return { source: `${ref.kind}/${ref.namespace}/${ref.name}`, ref }
}
