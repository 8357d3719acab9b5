import { getHeapStatistics, setFlagsFromString } from 'node:v8'

/** What may become garbage between two collections of the whole heap. */
const SLACK_BYTES = 64 * 1_048_576
/** Less than this is no better than what V8 finds by itself. */
const LEAST_PERCENT = 40
const MOST_PERCENT = 400
const SAMPLE_MS = 1_000
const SAMPLES = 10

interface V8 {
  getHeapStatistics(): { readonly used_heap_size: number }
  setFlagsFromString(flag: string): void
}

/**
 * Lets V8's old space grow by some 64 MiB before it is collected again, however small it is; does nothing in Bun.
 *
 * V8 reckons from how fast objects are made how soon a collection pays, and holds the bytes of Buffers against the result without
 * having reckoned with them. Who moves many bytes through few objects has his whole heap marked again and again: more than half of
 * the CPU of a download. The flag is the factor by which the heap may grow, read at the end of each collection, so that it is
 * adjusted here to what the heap holds.
 */
export function keepHeapSlack(v8: V8 = { getHeapStatistics, setFlagsFromString }): void {
  if ('bun' in process.versions) return
  let samples: number[] = []
  let inForce = 0
  const adjust = () => {
    samples = [...samples.slice(1 - SAMPLES), v8.getHeapStatistics().used_heap_size]
    const percent = heapGrowingPercent(Math.min(...samples))
    // Not for every byte: the flag is text, which V8 parses.
    if (Math.abs(percent - inForce) <= inForce / 8) return
    inForce = percent
    v8.setFlagsFromString(`--heap-growing-percent=${percent}`)
  }
  adjust()
  setInterval(adjust, SAMPLE_MS).unref()
}

/** The factor for a heap that holds so many bytes, as V8's flag wants it; 0 = V8 decides. */
export function heapGrowingPercent(liveBytes: number): number {
  const percent = Math.round((100 * SLACK_BYTES) / Math.max(1, liveBytes))
  return percent < LEAST_PERCENT ? 0 : Math.min(MOST_PERCENT, percent)
}
