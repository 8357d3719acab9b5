// Who runs where: the target alone on one CPU, the load and the backend on the others. So a target has one core, whatever helper
// threads it has, and what measures does not take its time.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export interface Placement {
  /** What stands before the command of a target; empty where nothing is pinned. */
  readonly prefix: readonly string[]
  /** For the reader. */
  readonly said: string
}

/** Pins this process, and so whatever it starts from here on, to all CPUs that it may use but the last; that one is the target's. */
export function place(): Placement {
  const cpus = allowedCpus()
  const target = cpus.at(-1)
  if (cpus.length < 2 || target === undefined)
    return { prefix: [], said: 'one CPU for the targets and for the load: figures of CPU hold, rates do not' }
  if (spawnSync('taskset', ['--version']).error !== undefined)
    return { prefix: [], said: 'nothing is pinned to a CPU: `taskset` (util-linux) is not on PATH' }
  const others = cpus.slice(0, -1).join(',')
  execFileSync('taskset', ['--all-tasks', '--pid', '--cpu-list', others, String(process.pid)], {
    stdio: 'ignore',
  })
  return {
    prefix: ['taskset', '--cpu-list', String(target)],
    said: `the target alone on CPU ${target}, load and backend on CPU ${others}`,
  }
}

/** Numbers of the CPUs that the kernel lets this process run on. */
export function allowedCpus(): number[] {
  const list = /^Cpus_allowed_list:\s*(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
  return list.split(',').flatMap((part) => {
    const [first = Number.NaN, last = first] = part.split('-').map(Number)
    return Number.isNaN(first) ? [] : Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}
