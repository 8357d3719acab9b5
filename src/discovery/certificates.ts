import type { Clock } from '../lib/clock.ts'
import type { ModelCondition } from '../model/types.ts'
import {
  type ClusterTrust,
  certificateCondition,
  nextVerdictMs,
  type WatchedCertificate,
  watchedCertificates,
} from './certificate-watch.ts'

/** The certificates of this cluster and its peers, from the leaves that their discovery servers show up to the roots. */
export class Certificates {
  readonly #clock: Clock
  readonly #onChange: () => void
  /** By cluster, the leaf shown last. */
  readonly #leaves = new Map<string, Uint8Array>()
  #trust: readonly Omit<ClusterTrust, 'leaf'>[] = []
  #watched: readonly WatchedCertificate[] = []
  #cancel: () => void = () => {}

  constructor(clock: Clock, onChange: () => void) {
    this.#clock = clock
    this.#onChange = onChange
  }

  /** What is trusted now; clusters that are not named are forgotten. */
  trust(clusters: readonly Omit<ClusterTrust, 'leaf'>[]): void {
    const known = new Set(clusters.map(({ cluster }) => cluster))
    for (const cluster of this.#leaves.keys()) if (!known.has(cluster)) this.#leaves.delete(cluster)
    this.#trust = clusters
    this.#refresh()
  }

  /** A cluster's discovery server has shown this leaf (DER), and it was verified. */
  seen(cluster: string, leaf: Uint8Array): void {
    const before = this.#leaves.get(cluster)
    if (before !== undefined && Buffer.from(before).equals(leaf)) return
    this.#leaves.set(cluster, leaf)
    this.#refresh()
  }

  list(): readonly WatchedCertificate[] {
    return this.#watched
  }

  conditions(objectOf: (cluster: string) => string): ModelCondition[] {
    const nowMs = this.#clock.now()
    return this.#trust.map(({ cluster }) =>
      certificateCondition(
        objectOf(cluster),
        this.#watched.filter((one) => one.cluster === cluster),
        nowMs,
      ),
    )
  }

  stop(): void {
    this.#cancel()
  }

  #refresh(): void {
    const nowMs = this.#clock.now()
    this.#watched = this.#trust.flatMap((one) =>
      watchedCertificates({ ...one, leaf: this.#leaves.get(one.cluster) }, nowMs),
    )
    this.#arm()
  }

  #arm(): void {
    this.#cancel()
    const nextMs = nextVerdictMs(this.#watched, this.#clock.now())
    if (nextMs === undefined) return
    this.#cancel = this.#clock.after(Math.max(0, nextMs - this.#clock.now()) + 1, () => {
      this.#arm()
      this.#onChange()
    })
  }
}
