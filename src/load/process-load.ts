import { readFileSync } from 'node:fs'

/** What a process of the load itself was busy with. */
export interface ProcessLoad {
  /** CPU of its main thread as a part of one core; of all threads where the system does not tell them apart. 0 to 1. */
  readonly cpu: number
  /** How long that thread was ready to run and had no core to run on, as a part of the time. 0 where the system does not say. */
  readonly waited: number
  /** CPU of all threads, seconds. */
  readonly cpuSeconds: number
}

interface Reading {
  readonly atMs: number
  readonly mainMs: number | undefined
  readonly waitedMs: number
  readonly allMs: number
}

/** Measures this process from now on. */
export class ProcessMeter {
  readonly #first = read()

  measure(): ProcessLoad {
    const now = read()
    const elapsed = Math.max(1, now.atMs - this.#first.atMs)
    const all = now.allMs - this.#first.allMs
    const main = now.mainMs === undefined ? all : now.mainMs - (this.#first.mainMs ?? 0)
    return {
      cpu: Math.min(1, main / elapsed),
      waited: Math.min(1, (now.waitedMs - this.#first.waitedMs) / elapsed),
      cpuSeconds: all / 1_000,
    }
  }
}

function read(): Reading {
  const { user, system } = process.cpuUsage()
  const [mainMs, waitedMs = 0] = schedulerStatistics()
  return { atMs: performance.now(), mainMs, waitedMs, allMs: (user + system) / 1_000 }
}

/** Of the main thread: time on a core and time that it waited for one, milliseconds (Linux, proc(5)). */
function schedulerStatistics(): number[] {
  try {
    const text = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8')
    return text
      .split(' ')
      .slice(0, 2)
      .map((nanoseconds) => Number(nanoseconds) / 1e6)
  } catch {
    return []
  }
}
