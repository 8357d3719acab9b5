// The servers that are measured, each a process of its own that takes commands on its standard input.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { cpuMicroseconds, settledResidentBytes } from '../process-stats.ts'

const here = dirname(fileURLToPath(import.meta.url))

export interface Ports {
  readonly tls: number
  readonly plain: number
}

export class Target {
  readonly ports: Ports
  /** From the start of the process until it served, milliseconds. */
  readonly startMs: number
  readonly #child: ChildProcess
  readonly #answers: (() => void)[]

  private constructor(child: ChildProcess, ports: Ports, startMs: number, answers: (() => void)[]) {
    this.#child = child
    this.ports = ports
    this.startMs = startMs
    this.#answers = answers
  }

  static async start(command: string, args: readonly string[]): Promise<Target> {
    const startedAt = performance.now()
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const answers: (() => void)[] = []
    const ports = await new Promise<Ports>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code) => reject(new Error(`${command} ended with ${code}`)))
      createInterface({ input: child.stdout }).on('line', (line) => {
        const said = JSON.parse(line)
        if (said.ready !== undefined) resolve(said.ready)
        else if (said.done !== undefined) answers.shift()?.()
        else console.error(line)
      })
    })
    return new Target(child, ports, performance.now() - startedAt, answers)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get cpuMs(): number {
    return cpuMicroseconds(this.pid) / 1_000
  }

  /** Resolves when the command was taken; what follows from it may still be under way. */
  command(...words: readonly (string | number)[]): Promise<void> {
    const done = new Promise<void>((resolve) => this.#answers.push(resolve))
    this.#child.stdin?.write(`${words.join(' ')}\n`)
    return done
  }

  /** Resident memory without garbage. */
  async liveBytes(): Promise<number> {
    await this.command('collect')
    return settledResidentBytes(this.pid, 3_000)
  }

  /** Its input ends, and so does it, in its own time. */
  end(): void {
    this.#child.stdin?.end()
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, 'exit')
    this.#child.kill()
    await gone
  }
}

export function startOurs(services: number, credentials: string): Promise<Target> {
  return Target.start(process.execPath, [
    '--expose-gc',
    join(here, 'server.ts'),
    String(services),
    credentials,
  ])
}

/** Builds go-control-plane's server; undefined where there is no Go. */
export function buildPeer(folder: string): string | undefined {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' })
  } catch {
    return undefined
  }
  const program = join(folder, 'go-control-plane')
  execFileSync('go', ['build', '-o', program, '.'], {
    cwd: join(here, 'go'),
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return existsSync(program) ? program : undefined
}

export function startPeer(program: string, resources: string): Promise<Target> {
  return Target.start(program, [resources])
}
