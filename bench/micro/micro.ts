/** One step of the hot path or of discovery by itself: no socket, no other process, nothing but what it computes. */
export interface Micro {
  readonly name: string
  /** Does it once. What it returns is kept, so that no compiler leaves the work out. */
  readonly once: () => unknown
  /** The name of one that comes before it: what this costs is held against that, in turns with it. */
  readonly beside?: string
  /** What it did since it was made, where its own counters tell: work is counted, not only timed. */
  readonly counted?: () => Readonly<Record<string, number>>
}
