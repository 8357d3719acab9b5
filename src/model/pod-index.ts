import type { Pod } from '../objects/types.ts'
import { matchesLabels } from './labels.ts'

/** Pods of one cluster, found by name and by namespace. */
export class PodIndex {
  readonly #byNamespace: ReadonlyMap<string, readonly Pod[]>
  readonly #byName: ReadonlyMap<string, Pod>

  constructor(pods: readonly Pod[]) {
    this.#byNamespace = Map.groupBy(pods, (pod) => pod.metadata.namespace)
    this.#byName = new Map(pods.map((pod) => [`${pod.metadata.namespace}/${pod.metadata.name}`, pod]))
  }

  get(namespace: string, name: string): Pod | undefined {
    return this.#byName.get(`${namespace}/${name}`)
  }

  in(namespace: string): readonly Pod[] {
    return this.#byNamespace.get(namespace) ?? []
  }

  /** Pods of a namespace that carry every label of the selector; none for an empty selector. */
  select(namespace: string, selector: Readonly<Record<string, string>>): readonly Pod[] {
    return this.in(namespace).filter((pod) => matchesLabels(selector, pod.metadata.labels))
  }
}
