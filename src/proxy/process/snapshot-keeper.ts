import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { formatProblem } from '../../lib/result.ts'
import type { SnapshotFile } from '../../xds/snapshot-file.ts'
import type { ResourceSet } from './resource-set.ts'

/** Changes in quick succession are one write. */
const SAVE_DELAY_MS = 200
/** Of the time, what saving may take where one change follows the other: a snapshot of thousands of services is not a matter of moments. */
const SAVE_SHARE = 0.05
/** How long after a failure to write it is tried again, whatever changes meanwhile: a full disk. */
const SAVE_AGAIN_MS = 2_000
/** How often a snapshot that does not change is confirmed while discovery is there. */
const CONFIRM_MS = 10 * 60_000

export interface SnapshotKeeperOptions {
  readonly file: SnapshotFile
  /** What discovery sent is saved and restored, and nothing else. */
  readonly resources: ResourceSet
  /** Whether discovery is there, so that what is held is still true. */
  readonly connected: () => boolean
  readonly clock: Clock
  readonly logger: Logger
}

/** Keeps the last good configuration on disk: after each change, once it is whole, and now and then for its age. */
export class SnapshotKeeper {
  readonly #options: SnapshotKeeperOptions
  #cancelSave: (() => void) | undefined
  #cancelConfirm: (() => void) | undefined
  #savedMs = 0
  /** How long the last one took. */
  #tookMs = 0
  #problems: readonly string[] = []
  /** Why the last attempt to save failed; empty when it did not. */
  #failed = ''

  constructor(options: SnapshotKeeperOptions) {
    this.#options = options
  }

  /** When what is on disk was saved or confirmed, ISO 8601; empty = never. */
  get saved(): string {
    return this.#savedMs === 0 ? '' : new Date(this.#savedMs).toISOString()
  }

  /** Why what was on disk is not used, or why it cannot be saved. */
  get problems(): readonly string[] {
    return this.#problems
  }

  /** Takes over what an earlier run left; the file that it was in, or undefined. */
  restore(): string | undefined {
    const { file, resources, logger } = this.#options
    const { loaded, problems } = file.load()
    this.#problems = problems.map(formatProblem)
    for (const one of problems) logger.warn({ problem: one }, `snapshot not used: ${formatProblem(one)}`)
    if (loaded === undefined) return undefined
    this.#confirm()
    const refused = resources.restore(loaded.snapshot)
    for (const one of refused) logger.warn({ problem: one }, `in the snapshot: ${formatProblem(one)}`)
    this.#savedMs = loaded.savedAtMs
    logger.info(
      { file: loaded.file, savedAt: this.saved, ...resources.counts() },
      'started from the snapshot',
    )
    return loaded.file
  }

  /** Something has changed. */
  saveSoon(ms = Math.max(SAVE_DELAY_MS, this.#tookMs / SAVE_SHARE)): void {
    this.#confirm()
    this.#cancelSave ??= this.#options.clock.after(ms, () => {
      this.#cancelSave = undefined
      this.#save()
    })
  }

  stop(): void {
    this.#cancelSave?.()
    this.#cancelConfirm?.()
  }

  #save(): void {
    const { file, resources, clock, logger } = this.#options
    if (resources.missing().length > 0) return
    const beganMs = performance.now()
    try {
      file.save(resources.snapshot())
      this.#tookMs = performance.now() - beganMs
      this.#savedMs = clock.now()
      this.#problems = []
      if (this.#failed !== '') logger.info('the snapshot is saved again')
      this.#failed = ''
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      // Said once, not every two seconds.
      if (why !== this.#failed) logger.warn({ err: error }, 'the snapshot could not be saved')
      this.#failed = why
      this.#problems = [`not saved: ${why}`]
      this.saveSoon(SAVE_AGAIN_MS)
    }
  }

  #confirm(): void {
    this.#cancelConfirm ??= this.#options.clock.after(CONFIRM_MS, () => {
      this.#cancelConfirm = undefined
      if (this.#options.connected()) this.#save()
      this.#confirm()
    })
  }
}
