import type { Pod } from '../objects/types.ts'
import { matchesLabels } from './labels.ts'

/** Pods of one cluster, found by name, by namespace and by label. */
export class PodIndex {
  readonly #byNamespace: ReadonlyMap<string, readonly Pod[]>
  readonly #byName: ReadonlyMap<string, Pod>
  /** By namespace, made when first asked for: `key=value` → the pods that carry it. */
  readonly #byLabel = new Map<string, ReadonlyMap<string, readonly Pod[]>>()

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
    const byLabel = this.#labelsOf(namespace)
    // The rarest of the labels leaves the fewest to look at.
    let fewest: readonly Pod[] | undefined
    for (const pair of Object.entries(selector)) {
      const carriers = byLabel.get(pair.join('=')) ?? []
      if (fewest === undefined || carriers.length < fewest.length) fewest = carriers
    }
    return (fewest ?? []).filter((pod) => matchesLabels(selector, pod.metadata.labels))
  }

  #labelsOf(namespace: string): ReadonlyMap<string, readonly Pod[]> {
    const known = this.#byLabel.get(namespace)
    if (known !== undefined) return known
    const byLabel = new Map<string, Pod[]>()
    for (const pod of this.in(namespace)) {
      for (const pair of Object.entries(pod.metadata.labels)) {
        const carriers = byLabel.get(pair.join('='))
        if (carriers === undefined) byLabel.set(pair.join('='), [pod])
        else carriers.push(pod)
      }
    }
    this.#byLabel.set(namespace, byLabel)
    return byLabel
  }
}
