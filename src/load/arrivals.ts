/**
 * The constant schedule of an open loop: `rate` begins per second from `startMs` on, before `untilMs`. Times are of
 * `performance.now()`, milliseconds. Nothing ever takes one off the list but `take`: what is late stays due.
 */
export class Arrivals {
  readonly #startMs: number
  readonly #periodMs: number
  readonly #untilMs: number
  #next = 0

  /** `offset`: part of a period (0 to 1) that the first waits for, so that several processes take turns. */
  constructor(rate: number, startMs: number, untilMs: number, offset: number) {
    this.#periodMs = 1_000 / rate
    this.#startMs = startMs + offset * this.#periodMs
    this.#untilMs = untilMs
  }

  get periodMs(): number {
    return this.#periodMs
  }

  /** When the next one is due; infinity once all were taken. */
  get nextMs(): number {
    // Not added up: errors of rounding would be, too.
    const at = this.#startMs + this.#next * this.#periodMs
    return at < this.#untilMs ? at : Number.POSITIVE_INFINITY
  }

  take(): void {
    this.#next++
  }
}
