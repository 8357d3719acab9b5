// Two figures that hold on a busy machine, where a time by itself does not: bytes allocated, and the ratio of two costs that were
// taken in turns.
import { median } from '../statistics.ts'
import type { Micro } from './micro.ts'

type Once = Micro['once']

/** `--expose-gc` and a young generation that holds what is measured between two collections. */
export const MEASURE_FLAGS: readonly string[] = [
  '--expose-gc',
  '--min-semi-space-size=64',
  '--max-semi-space-size=64',
]

/** As much is allocated at most before the heap is read again: well below the young generation. */
const ALLOCATED_AT_ONCE = 4 * 1_048_576
const MOST_CALLS = 20_000
const HEAP_SAMPLES = 5

/** Where results go: others can see it, so that they must be made. */
export const sink: { last: unknown } = { last: undefined }

function repeat(once: Once, calls: number): void {
  for (let i = 0; i < calls; i++) sink.last = once()
}

/** Bytes of V8's heap and of Buffers outside of it: only a collection makes them fewer. */
function usedBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/**
 * Bytes that one call allocates once it is compiled, on V8's heap and in Buffers outside of it; not what OpenSSL takes for itself.
 * The median of several looks, of which those that a collection spoilt do not count. NaN where nobody counts: without `MEASURE_FLAGS`,
 * and on Bun.
 */
export function allocatedBytes(once: Once): number {
  const { gc } = globalThis
  if (gc === undefined || 'bun' in process.versions) return Number.NaN
  const look = (calls: number): number => {
    // Of the young generation alone: the whole heap would take longer than all that is measured.
    gc({ type: 'minor' })
    const before = usedBytes()
    repeat(once, calls)
    return usedBytes() - before
  }
  // What reading the heap allocates itself.
  const overhead = median(Array.from({ length: HEAP_SAMPLES }, () => look(0)))
  const first = Math.max(1, look(10) / 10)
  const calls = Math.max(1, Math.min(MOST_CALLS, Math.floor(ALLOCATED_AT_ONCE / first)))
  const looks = Array.from({ length: HEAP_SAMPLES }, () => (look(calls) - overhead) / calls)
  const whole = looks.filter((bytes) => bytes >= 0)
  // A few bytes over many calls are somebody else's (a timer, the compiler's feedback), not those of a call.
  return Math.round(whole.length === 0 ? 0 : median(whole))
}

/** Milliseconds for so many calls. */
export function timed(once: Once, calls: number): number {
  const from = performance.now()
  repeat(once, calls)
  return performance.now() - from
}

/** How many calls take about as long, so that the clock is not what is measured. Compiles them on the way. */
export function callsIn(milliseconds: number, once: Once): number {
  let calls = 1
  for (;;) {
    const took = timed(once, calls)
    if (took >= milliseconds) return Math.max(1, Math.round((calls * milliseconds) / took))
    calls *= took < milliseconds / 8 ? 8 : 2
  }
}

/** What a call of one costs with a call of the other as 1: the median of rounds in which they take turns, forwards and backwards. */
export function costRatio(one: Once, other: Once, rounds: number, sliceMs: number): number {
  const sides = [one, other].map((once) => ({ once, calls: callsIn(sliceMs, once) })) as [Side, Side]
  const ratios = Array.from({ length: rounds }, (_, round) => {
    const costs = new Map<Side, number>()
    for (const side of round % 2 === 0 ? sides : [...sides].reverse())
      costs.set(side, timed(side.once, side.calls) / side.calls)
    return (costs.get(sides[0]) ?? Number.NaN) / (costs.get(sides[1]) ?? Number.NaN)
  })
  return median(ratios)
}

interface Side {
  readonly once: Once
  readonly calls: number
}
