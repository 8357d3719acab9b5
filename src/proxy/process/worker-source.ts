import type { Clock } from '../../lib/clock.ts'
import { SnapshotCache, type ViewSource } from '../../xds/snapshot-cache.ts'
import { type NodeInfo, type Snapshot, TYPE } from '../../xds/types.ts'
import { READS_PAGES } from '../upstream-page.ts'
import type { ResourceSet } from './resource-set.ts'
import { WorkerView } from './worker-view.ts'

/** How long endpoints may be on their way after their Cluster came, before what is there is given to the workers without them. */
const ENDPOINTS_MS = 200
/** How long the workers may wait for a change in all, milliseconds, while ever more Clusters come. */
const LONGEST_MS = 1_000

export interface WorkerSourceOptions {
  readonly resources: ResourceSet
  /** `control_plane.identifier`. */
  readonly identifier: string
  readonly clock: Clock
}

/**
 * What the workers are given. Thousands of services come in many messages, their endpoints in others that answer to these: a page would be
 * packed and sent anew for each. It is once, when the endpoints of all Clusters are there, or have been waited for long enough.
 */
export class WorkerSource {
  readonly #options: WorkerSourceOptions
  /** For workers that do not read pages, and for people: each resource by itself. */
  readonly #whole: SnapshotCache
  readonly #packed: SnapshotCache
  readonly view: WorkerView
  #published = false
  #generation = -1
  /** When the names of Clusters or of what they refer to were others last, and since when something waits; milliseconds. */
  #grownMs = 0
  #waitingMs: number | undefined
  #cancel = () => {}

  constructor(options: WorkerSourceOptions) {
    this.#options = options
    this.#whole = new SnapshotCache(options)
    this.#packed = new SnapshotCache(options)
    this.view = new WorkerView(options.resources)
  }

  /** For a worker that says this of itself. */
  for({ clientFeatures }: NodeInfo): ViewSource {
    return clientFeatures?.includes(READS_PAGES) === true ? this.#packed : this.#whole
  }

  /** Everything, each resource by itself. */
  current(): Snapshot {
    return this.#whole.current()
  }

  /** Replaces everything. */
  set(snapshot: Snapshot): void {
    const { resources, clock } = this.#options
    this.#whole.set(snapshot)
    const nowMs = clock.now()
    if (this.#generation !== resources.generation) this.#grownMs = nowMs
    this.#generation = resources.generation
    this.#cancel()
    const since = this.#waitingMs ?? nowMs
    const waitMs = Math.min(this.#grownMs + ENDPOINTS_MS, since + LONGEST_MS) - nowMs
    // Whoever set the clock back waits no longer for it.
    if (!this.#published || waitMs <= 0 || waitMs > LONGEST_MS || !resources.awaits(TYPE.endpoints)) {
      this.#pack()
      return
    }
    this.#waitingMs = since
    this.#cancel = clock.after(waitMs, () => this.#pack())
  }

  stop(): void {
    this.#cancel()
  }

  #pack(): void {
    this.#published = true
    this.#waitingMs = undefined
    this.#packed.set(this.view.snapshot(this.#whole.current()))
  }
}
