import { spawn } from 'node:child_process'
import { once } from 'node:events'

export interface Run {
  /** Standard output and error in the order they came. */
  readonly output: string
  /** -1 where a signal ended it. */
  readonly code: number
  readonly ms: number
}

export interface ShellOptions {
  readonly cwd: string
  /** Put before the shell: `nsenter …`. */
  readonly prefix: readonly string[]
}

/** A command that hangs is killed after this long, milliseconds. */
const TIMEOUT_MS = 60_000

/** Starts a shell command line; `done` never rejects. */
export function startShell(
  command: string,
  { cwd, prefix }: ShellOptions,
): { readonly done: Promise<Run>; output(): string; kill(): void } {
  const startedMs = Date.now()
  // Joining a mount namespace loses the working directory, so the shell goes there itself.
  const argv = [...prefix, 'sh', '-c', 'cd "$1" && eval "$2"', 'sh', cwd, command]
  const child = spawn(argv[0]!, argv.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
    env: plainEnvironment(),
  })
  let output = ''
  const append = (chunk: Buffer) => {
    output += chunk.toString('utf8')
  }
  child.stdout.on('data', append)
  child.stderr.on('data', append)
  const finish = (code: number | null): Run => ({ output, code: code ?? -1, ms: Date.now() - startedMs })
  const done = once(child, 'close').then(
    ([code]) => finish(code as number | null),
    (error: Error) => ({ ...finish(-1), output: `${output}${error.message}\n` }),
  )
  return { done, output: () => output, kill: () => child.kill('SIGKILL') }
}

export function shell(command: string, options: ShellOptions): Promise<Run> {
  return startShell(command, options).done
}

/** A proxy set for the user's own network has no business between the demo's processes. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const proxy = /^(https?|all|no)_proxy$/i
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !proxy.test(name)))
}
