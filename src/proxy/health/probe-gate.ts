/** Lets so many checks run at one time; the others wait their turn. One for all upstreams of an engine. */
export class ProbeGate {
  readonly #limit: number
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Resolves when it is the caller's turn; he must `leave` afterwards. */
  enter(): Promise<void> {
    if (this.#running < this.#limit) {
      this.#running += 1
      return Promise.resolve()
    }
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running -= 1
    else next()
  }
}
