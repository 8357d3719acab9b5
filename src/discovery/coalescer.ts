import type { Clock } from '../lib/clock.ts'

/** Runs at once when triggered out of rest, then at most once per `windowMs`: a burst costs two runs and waits at most that long. */
export class Coalescer {
  readonly #clock: Clock
  readonly #windowMs: number
  readonly #run: () => void
  #dirty = false
  #cancel: (() => void) | undefined

  constructor(clock: Clock, windowMs: number, run: () => void) {
    this.#clock = clock
    this.#windowMs = windowMs
    this.#run = run
  }

  trigger(): void {
    if (this.#cancel !== undefined) {
      this.#dirty = true
      return
    }
    this.#dirty = false
    this.#cancel = this.#clock.after(this.#windowMs, () => {
      this.#cancel = undefined
      if (this.#dirty) this.trigger()
    })
    this.#run()
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#dirty = false
  }
}
