import { Backoff } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'

export interface ReconcileLoopOptions {
  /** For the log: `service-entries`, `gateways`, … */
  readonly name: string
  /** Makes the world as it should be; must be safe to repeat. An exception is tried again with backoff (100 ms to 5 s). */
  readonly run: () => Promise<void>
  readonly logger: Logger
  readonly clock?: Clock
}

/** Runs a controller one pass at a time: what is triggered during a pass makes one more pass after it. */
export class ReconcileLoop {
  readonly #options: ReconcileLoopOptions
  readonly #clock: Clock
  readonly #backoff = new Backoff()
  #wanted = false
  #stopped = false
  #running: Promise<void> | undefined
  #cancelRetry: () => void = () => {}

  constructor(options: ReconcileLoopOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  trigger(): void {
    this.#wanted = true
    if (this.#stopped || this.#running !== undefined) return
    this.#cancelRetry()
    this.#running = this.#drain()
  }

  /** Resolves when no pass is running and none is wanted (one that waits for a retry does not count). */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  /** No pass begins after this; resolves when the one that runs has ended. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelRetry()
    await this.idle()
  }

  async #drain(): Promise<void> {
    // Not in the caller's turn: `#running` is set by then, also for a pass that triggers another.
    await Promise.resolve()
    let failed: unknown
    while (this.#wanted && !this.#stopped && failed === undefined) {
      this.#wanted = false
      try {
        await this.#options.run()
        this.#backoff.reset()
      } catch (error) {
        failed = error
      }
    }
    this.#running = undefined
    if (failed === undefined || this.#stopped) return
    const delayMs = this.#backoff.next()
    this.#options.logger.error(
      { controller: this.#options.name, err: failed },
      'reconcile failed, will be tried again',
    )
    this.#cancelRetry = this.#clock.after(delayMs, () => this.trigger())
  }
}
