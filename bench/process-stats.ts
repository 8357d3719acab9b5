// What the kernel says of a process: CPU in nanoseconds (USER_HZ ticks are 10 ms, too coarse for a second of light load) and
// resident memory.
import { readdirSync, readFileSync } from 'node:fs'

/** CPU of all threads, in microseconds. */
export function cpuMicroseconds(pid: number): number {
  let nanoseconds = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      // A thread that has just ended: none of those that carry bytes does.
    }
  }
  return nanoseconds / 1_000
}

/** Resident memory, bytes. */
export function residentBytes(pid: number): number {
  const kilobytes = /^Rss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]
  return Number(kilobytes) * 1_024
}

const SAMPLE_MS = 200

/** Resident memory once three samples in a row hardly differ, or after `longestMs`: buffers fill and garbage goes in their own time. */
export async function settledResidentBytes(pid: number, longestMs: number): Promise<number> {
  const until = performance.now() + longestMs
  let samples = [residentBytes(pid)]
  while (performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS))
    samples = [...samples.slice(-2), residentBytes(pid)]
    const most = Math.max(...samples)
    if (samples.length === 3 && (most - Math.min(...samples)) / most < 0.005) break
  }
  return samples.at(-1) ?? 0
}
