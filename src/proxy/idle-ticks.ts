import type { Clock } from '../lib/clock.ts'

/** What is to be ended when nothing moved for a while. */
export interface Idler {
  /** Called eight times in the time, at the earliest at once. */
  tick(): void
}

/** Ticks in a time-out. */
export const IDLE_TICKS = 8

/**
 * One timer for all that have the same idle time-out, instead of one for each: it comes round eight times in it and calls whoever is
 * there. So the first tick of one may be early, and who counts begins with it.
 */
export class IdleTicks {
  readonly #clock: Clock
  readonly #intervalMs: number
  readonly #idlers = new Set<Idler>()
  #cancel: (() => void) | undefined

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock
    this.#intervalMs = timeoutMs / IDLE_TICKS
  }

  add(idler: Idler): void {
    this.#idlers.add(idler)
    this.#cancel ??= this.#clock.after(this.#intervalMs, () => this.#tick())
  }

  delete(idler: Idler): void {
    if (!this.#idlers.delete(idler) || this.#idlers.size > 0) return
    this.#cancel?.()
    this.#cancel = undefined
  }

  #tick(): void {
    this.#cancel = this.#clock.after(this.#intervalMs, () => this.#tick())
    for (const idler of this.#idlers) idler.tick()
  }
}

const byClock = new WeakMap<Clock, Map<number, IdleTicks>>()

/** The ticks for a time-out, milliseconds, by a clock. Time-outs are configured, so that there are few. */
export function idleTicks(clock: Clock, timeoutMs: number): IdleTicks {
  const byTimeout = byClock.get(clock) ?? new Map<number, IdleTicks>()
  const ticks = byTimeout.get(timeoutMs) ?? new IdleTicks(clock, timeoutMs)
  byClock.set(clock, byTimeout.set(timeoutMs, ticks))
  return ticks
}
