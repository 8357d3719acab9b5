export interface SliceOptions {
  /** How long one slice may take before the event loop gets its turn, milliseconds. Default 3. */
  readonly sliceMs?: number
  /** Milliseconds, monotonic; a parameter so that tests own it. */
  readonly now?: () => number
  /** Calls back when others have had their turn. */
  readonly pause?: (resume: () => void) => void
}

/**
 * Does a step for each item in order, in slices: work that may be long on a thread that others wait for. A single step is never
 * cut, so it must be short. Rejects with what a step throws; the rest is then not done.
 */
export async function inSlices<T>(
  items: readonly T[],
  step: (item: T) => void,
  options: SliceOptions = {},
): Promise<void> {
  const { sliceMs = 3, now = () => performance.now(), pause = setImmediate } = options
  let end = now() + sliceMs
  for (const item of items) {
    if (now() >= end) {
      await new Promise<void>((resolve) => void pause(resolve))
      end = now() + sliceMs
    }
    step(item)
  }
}
