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

const JUMP_CHECK_MS = 500
/** Less than this is a busy machine, or somebody who corrects the time little by little. */
const JUMP_MS = 2_000

/**
 * Calls back when the wall clock was set, forward or back, or the machine slept: timers count on without it, so whatever was to
 * end at a time of day must be looked at again. Noticed within half a second. Returns its cancel function.
 */
export function onClockJump(clock: Clock, callback: (byMs: number) => void): () => void {
  let cancel = () => {}
  const wait = (lastMs: number): void => {
    cancel = clock.after(JUMP_CHECK_MS, () => {
      const nowMs = clock.now()
      const byMs = nowMs - lastMs - JUMP_CHECK_MS
      wait(nowMs)
      if (Math.abs(byMs) >= JUMP_MS) callback(byMs)
    })
  }
  wait(clock.now())
  return () => cancel()
}
