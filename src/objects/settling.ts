/**
 * Decides when a change is over: many editors and `cp` empty a file before they fill it, or move it away and write another.
 * A state that stays the same for a while is taken; time is the caller's.
 */
export class Settling {
  readonly #waiting = new Map<string, { state: string; sinceMs: number; readonly firstMs: number }>()

  /**
   * Whether `path` has been in `state` for `quietMs`, or has kept changing for `waitMaxMs` (a file that is written all the
   * time must still be read now and then). The answer true forgets the path.
   */
  settled(path: string, state: string, nowMs: number, quietMs: number, waitMaxMs: number): boolean {
    const waiting = this.#waiting.get(path) ?? { state, sinceMs: nowMs, firstMs: nowMs }
    if (waiting.state !== state) {
      waiting.state = state
      waiting.sinceMs = nowMs
    }
    const over = nowMs - waiting.sinceMs >= quietMs || nowMs - waiting.firstMs >= waitMaxMs
    if (over) this.#waiting.delete(path)
    else this.#waiting.set(path, waiting)
    return over
  }

  /** The path is as it was before. */
  forget(path: string): void {
    this.#waiting.delete(path)
  }

  /** Forgets every path but these. */
  retain(paths: { has(path: string): boolean }): void {
    for (const path of this.#waiting.keys()) if (!paths.has(path)) this.#waiting.delete(path)
  }

  isWaiting(path: string): boolean {
    return this.#waiting.has(path)
  }

  get pending(): boolean {
    return this.#waiting.size > 0
  }
}
