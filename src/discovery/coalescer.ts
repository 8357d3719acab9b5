import type { Clock } from '../lib/clock.ts'

/** However long a run takes, nobody waits longer for the next one to begin, milliseconds. */
const LONGEST_WINDOW_MS = 200

/**
 * Runs at once when triggered out of rest, then again `windowMs` after a run at the earliest; or as long after it as it took, so that
 * a storm of changes leaves half of the time to others. What changes meanwhile is one run, and the latest is what it sees.
 */
export class Coalescer {
  readonly #clock: Clock
  readonly #windowMs: number
  readonly #run: () => void
  readonly #settled: (callback: () => void) => void
  #dirty = false
  /** Running, or resting after a run. */
  #busy = false
  #stopped = false
  #cancel: () => void = () => {}
  #turn = 0

  /** `settled` calls back once what a run has set going is done, which counts as part of it; default at once. */
  constructor(
    clock: Clock,
    windowMs: number,
    run: () => void,
    settled: (callback: () => void) => void = (callback) => callback(),
  ) {
    this.#clock = clock
    this.#windowMs = windowMs
    this.#run = run
    this.#settled = settled
  }

  trigger(): void {
    if (this.#busy) this.#dirty = true
    else if (!this.#stopped) this.#runNow()
  }

  /** Does what is waited with, now. */
  flush(): void {
    if (!this.#dirty || this.#stopped) return
    this.#cancel()
    this.#runNow()
  }

  stop(): void {
    this.#stopped = true
    this.#cancel()
  }

  #runNow(): void {
    this.#busy = true
    this.#dirty = false
    const startedMs = this.#clock.now()
    const turn = ++this.#turn
    try {
      this.#run()
    } finally {
      this.#settled(() => {
        if (turn === this.#turn) this.#rest(this.#clock.now() - startedMs)
      })
    }
  }

  #rest(tookMs: number): void {
    if (this.#stopped) return
    const restMs = Math.max(this.#windowMs, Math.min(LONGEST_WINDOW_MS, tookMs))
    this.#cancel = this.#clock.after(restMs, () => this.#rested())
  }

  #rested(): void {
    this.#busy = false
    if (this.#dirty) this.trigger()
  }
}
