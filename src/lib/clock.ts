/** Time as a value that is passed in, so that tests own it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Calls back once after `ms`, however long; the timer alone does not keep the process alive. Returns its cancel function. */
  after(ms: number, callback: () => void): () => void
}

/** A longer `setTimeout` overflows and goes off at once; certificates last longer than these 25 days. */
const LONGEST_TIMER_MS = 2 ** 31 - 1
/** Durations below this are waited for in one piece. */
const EXACT_MS = 64

export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, callback) {
    let timer: NodeJS.Timeout
    const arm = (leftMs: number): void => {
      const part = pieceOf(leftMs)
      timer = setTimeout(() => (part < leftMs ? arm(leftMs - part) : callback()), part)
      timer.unref()
    }
    arm(ms)
    return () => clearTimeout(timer)
  },
}

/**
 * How long to wait at first: the duration rounded down to six binary digits, the rest afterwards. The runtime keeps a list for each
 * duration that is in use, and making one costs ten times what an entry costs; most timers are cancelled long before their first
 * piece is over, and theirs (4,997 ms, 4,998 ms, …) share a list this way.
 */
function pieceOf(ms: number): number {
  const longest = Math.min(ms, LONGEST_TIMER_MS)
  if (!(longest > EXACT_MS)) return longest
  const step = 2 ** (Math.floor(Math.log2(longest)) - 5)
  return Math.floor(longest / step) * step
}
