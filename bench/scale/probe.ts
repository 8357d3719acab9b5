// Loaded into every process of a gateway that is measured, before its own code (`node --import`, `bun --preload`): the longest turns of
// its event loop, written to a file when it is asked for with SIGWINCH. The product knows nothing of it.
import { renameSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

/** What the process says of the time since it was asked last, milliseconds. */
export interface LoopDelay {
  /** How late a timer of 1 ms was at most: one turn of the loop, and what the kernel gave to others meanwhile. */
  readonly longestMs: number
  readonly p99Ms: number
  /** The same in CPU of this thread: at most one turn and 1 ms, whoever else ran. */
  readonly longestCpuMs: number
}

const LOOK_MS = 1
const folder = process.env['ISTHMUS_PROBE_FOLDER']

if (folder !== undefined) process.once('SIGWINCH', () => look(folder))

/** Looks from the first time that it is asked on: until then it costs nothing. */
function look(folder: string): void {
  const delay = monitorEventLoopDelay({ resolution: LOOK_MS })
  delay.enable()
  let lastCpuMs = cpuMs()
  let longestCpuMs = 0
  setInterval(() => {
    const now = cpuMs()
    longestCpuMs = Math.max(longestCpuMs, now - lastCpuMs)
    lastCpuMs = now
  }, LOOK_MS).unref()
  const say = (): void => {
    const late = (ns: number): number => Math.max(0, ns / 1e6 - LOOK_MS)
    const said: LoopDelay = {
      longestMs: late(delay.max),
      p99Ms: late(delay.percentile(99)),
      longestCpuMs,
    }
    delay.reset()
    longestCpuMs = 0
    const file = `${folder}/${process.pid}.json`
    writeFileSync(`${file}.new`, JSON.stringify(said))
    renameSync(`${file}.new`, file)
  }
  process.on('SIGWINCH', say)
  say()
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}
