// On what it was measured, as the kernel says.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { loadavg, totalmem } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { allowedCpus } from './placement.ts'

export interface Machine {
  readonly cpu: string
  readonly cpus: number
  /** Bytes. */
  readonly memory: number
  readonly kernel: string
  readonly system: string
  readonly virtual: boolean
  /** Open files that a process may have. */
  readonly descriptors: number
  /** Average over the minute before the run. */
  readonly loadBefore: number
}

export function readMachine(): Machine {
  const cpuinfo = read('/proc/cpuinfo')
  return {
    cpu: /^(?:model name|CPU part)\s*:\s*(.+)$/m.exec(cpuinfo)?.[1] ?? process.arch,
    cpus: allowedCpus().length,
    memory: totalmem(),
    kernel: /^\S+ version (\S+)/.exec(read('/proc/version'))?.[1] ?? '',
    system: /^PRETTY_NAME="?([^"\n]+)/m.exec(read('/etc/os-release'))?.[1] ?? process.platform,
    virtual: /^flags\s*:.*\bhypervisor\b/m.test(cpuinfo),
    descriptors: Number(/^Max open files\s+(\d+)/m.exec(read('/proc/self/limits'))?.[1] ?? 0),
    loadBefore: loadavg()[0] ?? 0,
  }
}

/** Of this checkout, with a mark where files differ from it; empty where there is no git. */
export function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, {
      cwd: dirname(fileURLToPath(import.meta.url)),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no') !== ''
    return git('log', '-1', '--format=%h') + (changed ? ' with changes' : '')
  } catch {
    return ''
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
