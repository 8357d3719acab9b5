import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { Backoff } from '../../lib/backoff.ts'

export interface ProcessSpec {
  /** Shown in messages. */
  readonly name: string
  readonly argv: readonly [string, ...string[]]
  readonly env: Readonly<Record<string, string>>
  /** Standard output and error are appended here: by the child itself, so that no reader's death can hurt it. */
  readonly logFile: string
  /** Not one of our own programs, so it does not watch the lifeline. */
  readonly foreign?: boolean
  /** Gets each line that the child writes to file descriptor 4. */
  readonly onLine?: (line: string) => void
}

export interface ProcessEvents {
  /** It ended without being asked to; it is started again after `delayMs`. */
  onRestart(how: string, delayMs: number): void
  onStart(pid: number): void
}

/** A process that lived this long starts over at the first delay, in milliseconds. */
const SETTLED_MS = 10_000

/** For a program that does not watch the lifeline: the kernel ends it with us (util-linux; prctl(2) PR_SET_PDEATHSIG). */
const DIE_WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL', '--'] as const

/**
 * A child that is started again whenever it ends, until `stop`. It dies with this process: it holds the read end of a pipe
 * (fd 3, ISTHMUS_LIFELINE_FD) whose other end is here, or the kernel sees to it.
 */
export class KeptProcess {
  readonly #spec: ProcessSpec
  readonly #events: ProcessEvents
  readonly #backoff = new Backoff({ baseMs: 200, maxMs: 5_000 })
  #child: ChildProcess | undefined
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(spec: ProcessSpec, events: ProcessEvents) {
    this.#spec = spec
    this.#events = events
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  start(): void {
    if (this.#stopped || this.#child !== undefined) return
    const { argv, env, logFile, foreign, onLine } = this.#spec
    const [program, ...args] = foreign === true ? ([...DIE_WITH_PARENT, ...argv] as const) : argv
    const log = openSync(logFile, 'a')
    const startedMs = Date.now()
    const child = spawn(program, args, {
      env: { ...process.env, ...env, ISTHMUS_LIFELINE_FD: '3' },
      // Ctrl-C in a terminal is for the demo alone: what it means for the others is the demo's to decide.
      detached: true,
      stdio: ['ignore', log, log, 'pipe', onLine === undefined ? 'ignore' : 'pipe'],
    })
    closeSync(log)
    this.#child = child
    const lines = child.stdio[4]
    if (onLine !== undefined && lines instanceof Readable)
      createInterface({ input: lines }).on('line', onLine)
    // The lifeline is only ever ended; a child that died first makes it an error nobody needs.
    child.stdio[3]?.on('error', () => undefined)
    child.once('error', (error) => this.#ended(child, error.message, startedMs))
    child.once('exit', (code, signal) => this.#ended(child, signal ?? `exit code ${code}`, startedMs))
    if (child.pid !== undefined) this.#events.onStart(child.pid)
  }

  #ended(child: ChildProcess, how: string, startedMs: number): void {
    child.stdio[3]?.destroy()
    if (this.#child !== child) return
    this.#child = undefined
    if (this.#stopped) return
    if (Date.now() - startedMs > SETTLED_MS) this.#backoff.reset()
    const delayMs = Math.round(this.#backoff.next())
    this.#timer = setTimeout(() => this.start(), delayMs)
    this.#events.onRestart(how, delayMs)
  }

  /** SIGTERM, then SIGKILL after `graceMs`. Resolves once it is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
    await gone
    clearTimeout(timer)
  }
}
