// Processes of the targets: each in a folder of its own, on a CPU of its own, and none left behind.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { processesOf } from './process-stats.ts'

export interface Spawned {
  readonly child: ChildProcess
  readonly port: number
}

/** What it writes goes to files: an access log costs a write, as in production, and the harness does not read it. */
export function spawnLogged(
  [command = '', ...args]: readonly string[],
  folder: string,
  stdin: 'pipe' | 'ignore',
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const out = openSync(join(folder, 'stdout'), 'w')
  const error = openSync(join(folder, 'stderr'), 'w')
  const child = spawn(command, args, {
    stdio: [stdin, out, error, 'pipe'],
    env: { ...process.env, ...env },
  })
  closeSync(out)
  closeSync(error)
  return child
}

export function lastWords(folder: string): string {
  const said = readFileSync(join(folder, 'stderr'), 'utf8') + readFileSync(join(folder, 'stdout'), 'utf8')
  return said === '' ? '' : `: ${said.trim().split('\n').slice(-3).join(' / ')}`
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  // Those that it started would outlive a kill that it cannot see coming.
  const all = processesOf(child.pid ?? 0)
  child.kill('SIGTERM')
  const timer = setTimeout(() => {
    for (const pid of all) killed(pid)
  }, 3_000)
  await exited
  clearTimeout(timer)
}

function killed(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone.
  }
}

/** Where a program is. */
export function onPath(command: string): string | undefined {
  // Debian has what only root should run in sbin, which is not on everybody's PATH.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  return folders.map((folder) => join(folder, command)).find((file) => existsSync(file))
}
