export interface BackoffOptions {
  /** First delay, milliseconds. Default 100. */
  readonly baseMs?: number
  /** Ceiling, milliseconds. Default 5,000. */
  readonly maxMs?: number
  /** A number in [0, 1); a parameter so that tests own it. */
  readonly random?: () => number
}

/** Exponential backoff with jitter: each delay is between half and the whole of `base * 2^n`, never over the ceiling. */
export class Backoff {
  readonly #baseMs: number
  readonly #maxMs: number
  readonly #random: () => number
  #attempt = 0

  constructor(options: BackoffOptions = {}) {
    this.#baseMs = options.baseMs ?? 100
    this.#maxMs = options.maxMs ?? 5_000
    this.#random = options.random ?? Math.random
  }

  /** The next delay in milliseconds. */
  next(): number {
    const full = Math.min(this.#maxMs, this.#baseMs * 2 ** Math.min(this.#attempt++, 30))
    return full / 2 + (this.#random() * full) / 2
  }

  reset(): void {
    this.#attempt = 0
  }
}
