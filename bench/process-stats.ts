// What the kernel says of a process: CPU in nanoseconds (USER_HZ ticks are 10 ms, too coarse for a second of light load) and
// resident memory.
import { readdirSync, readFileSync } from 'node:fs'

/** A process and those that it started: a master and its worker are one target. */
export function processesOf(pid: number): number[] {
  const children: number[] = []
  for (const thread of threadsOf(pid)) {
    const list = readGone(`/proc/${pid}/task/${thread}/children`) ?? ''
    children.push(...list.split(' ').filter(Boolean).map(Number))
  }
  return [pid, ...children.flatMap(processesOf)]
}

/** CPU of all threads of a process and of those that it started, in microseconds; throws when it has ended. */
export function cpuMicroseconds(pid: number): number {
  readdirSync(`/proc/${pid}/task`)
  let nanoseconds = 0
  for (const each of processesOf(pid)) {
    for (const thread of threadsOf(each))
      nanoseconds += Number(readGone(`/proc/${each}/task/${thread}/schedstat`)?.split(' ')[0] ?? 0)
  }
  return nanoseconds / 1_000
}

/** Resident memory of a process and of those that it started, bytes. */
export function residentBytes(pid: number): number {
  let kilobytes = 0
  for (const each of processesOf(pid)) {
    const text = readGone(`/proc/${each}/smaps_rollup`) ?? ''
    kilobytes += Number(/^Rss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0)
  }
  return kilobytes * 1_024
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch {
    return []
  }
}

/** A thread may just have ended: none of those that carry bytes does. */
function readGone(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

/** Of /proc/stat; every Linux has it at 100. */
const TICKS_A_SECOND = 100

/**
 * CPU that has been used on this machine by others than this process and those that it started, microseconds since some moment: what
 * the kernel did for nobody, and what a hypervisor took, included.
 */
export function foreignMicroseconds(): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = readFileSync(
    '/proc/stat',
    'utf8',
  )
    .split('\n', 1)[0]
    ?.split(/\s+/)
    .map(Number) ?? [0]
  const all = user + nice + system + irq + softirq + steal
  return (all * 1e6) / TICKS_A_SECOND - cpuMicroseconds(process.pid)
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
