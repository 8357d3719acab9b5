import { inSlices } from '../../lib/slices.ts'
import { acceptEndpoints } from '../../resources/accept-endpoints.ts'
import { acceptUpstream } from '../../resources/accept-upstream.ts'
import { TYPE, type XdsResource } from '../../xds/types.ts'
import { ProbeGate } from '../health/probe-gate.ts'
import { Upstream, type UpstreamDeps } from '../upstream.ts'
import type { PackedUpstream } from '../upstream-page.ts'
import type { UpstreamHealth, UpstreamStatus } from '../upstream-status.ts'
import type { ResourceSet } from './resource-set.ts'
import type { WorkerStatus } from './worker.ts'
import { bounded, MAX_UPSTREAMS, type WorkerStats } from './worker-stats.ts'
import type { WorkerView } from './worker-view.ts'

/**
 * What a worker would say of the upstreams that rest in it. It is said here: nothing has happened to them, and a worker would have to
 * unpack all of them for it while traffic waits.
 */
export class RestingUpstreams {
  readonly #view: WorkerView
  readonly #resources: ResourceSet
  readonly #deps: UpstreamDeps
  /** By Cluster: whoever asks once asks again. */
  readonly #statuses = new WeakMap<
    XdsResource,
    { readonly endpoints: unknown; readonly status: UpstreamStatus }
  >()

  constructor(view: WorkerView, resources: ResourceSet, deps: Pick<UpstreamDeps, 'clock' | 'logger'>) {
    this.#view = view
    this.#resources = resources
    const never = (): never => {
      throw new Error('an upstream that rests neither resolves nor connects')
    }
    this.#deps = {
      ...deps,
      ...{ resolve: never, connector: { connect: never }, random: Math.random },
      gate: new ProbeGate(0),
      forbidden: () => undefined,
    }
  }

  /** The statuses of workers, each with all upstreams in it, sorted by name. */
  async addTo(workers: readonly WorkerStatus[]): Promise<readonly WorkerStatus[]> {
    const resting = new Map<string, UpstreamStatus>()
    await inSlices([...this.#view.resting], ([name, packed]) => {
      const status = this.#statusOf(packed)
      if (status !== undefined) resting.set(name, status)
    })
    if (resting.size === 0) return workers
    return workers.map((worker) => {
      const all = new Map(resting)
      for (const one of worker.engine.upstreams) all.set(one.name, one)
      return { ...worker, engine: { ...worker.engine, upstreams: sorted(all) } }
    })
  }

  /** The numbers of workers; the first that is there has all upstreams in it. */
  addHealth(stats: readonly WorkerStats[]): readonly WorkerStats[] {
    const first = stats.findIndex(({ departed }) => departed !== true)
    return stats.map((one, i) => {
      if (i !== first) return one
      // So many are in force that they are not told apart, and which of those that rest are among them is not known.
      if (one.upstreams.length >= MAX_UPSTREAMS) return one
      const live = new Set(one.upstreams.map(({ name }) => name))
      const resting = [...this.#view.resting.keys()].filter((name) => !live.has(name)).sort()
      return {
        ...one,
        upstreams: bounded([...one.upstreams, ...resting.map((name) => this.#healthOf(name))]),
      }
    })
  }

  #healthOf(name: string): UpstreamHealth {
    const [endpoints = ''] = this.#resources.facts(TYPE.cluster, name)?.references.endpoints ?? []
    const { healthy = 0, unhealthy = 0 } = this.#resources.facts(TYPE.endpoints, endpoints) ?? {}
    return { name, healthy, unhealthy, active: 0 }
  }

  #statusOf({ cluster, endpoints }: PackedUpstream & { readonly cluster: XdsResource }) {
    const known = this.#statuses.get(cluster)
    if (known !== undefined && known.endpoints === endpoints) return known.status
    const config = acceptUpstream(cluster)
    if (!config.ok) return undefined
    const upstream = new Upstream(config.value, this.#deps)
    const assignment = endpoints && acceptEndpoints({ ...endpoints, anyTypeUrl: TYPE.endpoints })
    if (assignment?.ok) upstream.setEndpoints(assignment.value)
    const status = upstream.status()
    upstream.close()
    this.#statuses.set(cluster, { endpoints, status })
    return status
  }
}

function sorted<T extends { readonly name: string }>(all: ReadonlyMap<string, T>): T[] {
  return [...all.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}
