/** Time as a value that is passed in, so that tests own it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Calls back once after `ms`, however long; the timer alone does not keep the process alive. Returns its cancel function. */
  after(ms: number, callback: () => void): () => void
}

/** A longer `setTimeout` overflows and goes off at once; certificates last longer than these 25 days. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, callback) {
    let timer: NodeJS.Timeout
    const arm = (leftMs: number): void => {
      const later = leftMs > LONGEST_TIMER_MS
      timer = setTimeout(
        () => (later ? arm(leftMs - LONGEST_TIMER_MS) : callback()),
        Math.min(leftMs, LONGEST_TIMER_MS),
      )
      timer.unref()
    }
    arm(ms)
    return () => clearTimeout(timer)
  },
}
