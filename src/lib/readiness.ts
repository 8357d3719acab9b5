/** Readiness as a set of named pending tasks: ready when the last one is done, and able to say what is missing. */
export class Readiness {
  readonly #pending = new Set<string>()
  readonly #waiters = new Set<() => void>()

  /** Names a task that must be done first. Naming it twice is one task; a task may become pending again. */
  pending(task: string): void {
    this.#pending.add(task)
  }

  done(task: string): void {
    if (!this.#pending.delete(task) || this.#pending.size > 0) return
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const waiter of waiters) waiter()
  }

  get ready(): boolean {
    return this.#pending.size === 0
  }

  /** What is still missing, sorted. */
  list(): string[] {
    return [...this.#pending].sort()
  }

  /** Resolves once nothing is pending. */
  whenReady(): Promise<void> {
    if (this.ready) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.add(resolve))
  }
}
