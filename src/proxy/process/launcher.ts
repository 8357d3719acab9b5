import { type ChildProcess, spawn } from 'node:child_process'
import { Backoff } from '../../lib/backoff.ts'

/** Bad usage or configuration, as in sysexits.h: starting again would not help. */
const EXIT_USAGE = 64
/** A child that has lived this long is healthy: its next death is a new incident, without the delay of the last. */
const STABLE_MS = 10_000

export type ChildName = 'supervisor' | 'worker'

export interface LauncherOptions {
  /** The arguments of `process.execPath` for a child. */
  readonly argv: (child: ChildName) => readonly string[]
  /** How long connections may take to finish once we are told to stop, milliseconds. */
  readonly drainMs: number
  /** How long a supervisor may take to end, and a worker beyond its drain deadline, milliseconds. Default 2,000. */
  readonly graceMs?: number
  /** One line of the log; default JSON on standard output. */
  readonly log?: (fields: LauncherEntry) => void
}

export interface LauncherEntry {
  readonly level: 'info' | 'warn'
  readonly msg: string
  readonly child?: ChildName
  readonly pid?: number | undefined
  readonly [field: string]: unknown
}

/**
 * PID 1 of a gateway or sidecar: starts supervisor and worker as siblings, starts again what dies, and ends them in order:
 * the worker first, which drains, the supervisor last, so that health and metrics answer until the end.
 *
 * It imports next to nothing, so that there is next to nothing in it to fail. Resolves with the exit code: 0 after an orderly
 * stop (SIGTERM or SIGINT; a second one means now), 64 when a child finds the configuration wrong, 1 when a child had to be
 * killed.
 */
export function launch(options: LauncherOptions): Promise<number> {
  return new Promise((resolve) => new Launcher(options, resolve).start())
}

class Launcher {
  readonly #log: (fields: LauncherEntry) => void
  readonly #drainMs: number
  readonly #graceMs: number
  readonly #finish: (code: number) => void
  readonly #supervisor: Child
  readonly #worker: Child
  #stopping = false

  constructor(options: LauncherOptions, finish: (code: number) => void) {
    this.#log = options.log ?? printEntry
    this.#drainMs = options.drainMs
    this.#graceMs = options.graceMs ?? 2_000
    this.#finish = finish
    const onUsage = () => void this.#stop(0, EXIT_USAGE)
    this.#supervisor = new Child('supervisor', options.argv('supervisor'), this.#log, onUsage)
    this.#worker = new Child('worker', options.argv('worker'), this.#log, onUsage)
  }

  start(): void {
    process.on('SIGTERM', this.#onSignal).on('SIGINT', this.#onSignal)
    this.#supervisor.start()
    this.#worker.start()
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    if (!this.#stopping) {
      this.#log({ level: 'info', msg: 'draining', signal, drainMs: this.#drainMs })
      void this.#stop(this.#drainMs, 0)
      return
    }
    this.#log({ level: 'warn', msg: 'second signal: ending now', signal })
    this.#worker.kill()
    this.#supervisor.kill()
    this.#end(signal === 'SIGINT' ? 130 : 143)
  }

  async #stop(drainMs: number, code: number): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    const drained = await this.#worker.stop(drainMs + this.#graceMs)
    const ended = await this.#supervisor.stop(this.#graceMs)
    this.#end(code === 0 && !(drained && ended) ? 1 : code)
  }

  #end(code: number): void {
    process.off('SIGTERM', this.#onSignal).off('SIGINT', this.#onSignal)
    this.#log({ level: 'info', msg: 'stopped', code })
    this.#finish(code)
  }
}

/** One child and its successors. */
class Child {
  readonly #name: ChildName
  readonly #argv: readonly string[]
  readonly #log: (fields: LauncherEntry) => void
  readonly #onUsage: () => void
  readonly #backoff = new Backoff({ baseMs: 100, maxMs: 5_000 })
  #process: ChildProcess | undefined
  #generation = 0
  #restart: NodeJS.Timeout | undefined
  #stopped: (() => void) | undefined

  constructor(
    name: ChildName,
    argv: readonly string[],
    log: (fields: LauncherEntry) => void,
    onUsage: () => void,
  ) {
    this.#name = name
    this.#argv = argv
    this.#log = log
    this.#onUsage = onUsage
  }

  start(): void {
    const generation = ++this.#generation
    const startedAt = Date.now()
    const child = spawn(process.execPath, this.#argv, {
      // Standard output is inherited, not piped: a pipe of ours would end with us. Descriptor 3 is made to: see src/main.ts.
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
      env: { ...process.env, ISTHMUS_LIFELINE_FD: '3', ISTHMUS_GENERATION: String(generation) },
    })
    this.#process = child
    child.stdio[3]?.on('error', () => {})
    let ended = false
    const onEnd = (how: Record<string, unknown>, code: number | null) => {
      if (ended) return
      ended = true
      this.#process = undefined
      this.#ended(child.pid, how, code, Date.now() - startedAt)
    }
    child.once('error', (error) => onEnd({ error: error.message }, null))
    child.once('exit', (code, signal) => onEnd({ code, signal }, code))
    if (child.pid === undefined) return
    this.#log({ level: 'info', msg: 'started', child: this.#name, pid: child.pid, generation })
  }

  /** SIGTERM, then SIGKILL after `ms`. True when it ended by itself. */
  async stop(ms: number): Promise<boolean> {
    clearTimeout(this.#restart)
    const child = this.#process
    const stopped = new Promise<void>((resolve) => {
      this.#stopped = resolve
    })
    if (child === undefined) return true
    let killed = false
    const deadline = setTimeout(() => {
      killed = true
      this.#log({ level: 'warn', msg: 'killed: did not end in time', child: this.#name, pid: child.pid })
      child.kill('SIGKILL')
    }, ms)
    child.kill('SIGTERM')
    await stopped
    clearTimeout(deadline)
    return !killed
  }

  kill(): void {
    clearTimeout(this.#restart)
    this.#stopped ??= () => {}
    this.#process?.kill('SIGKILL')
  }

  #ended(pid: number | undefined, how: Record<string, unknown>, code: number | null, livedMs: number): void {
    if (this.#stopped !== undefined) {
      this.#log({ level: 'info', msg: 'ended', child: this.#name, pid, ...how })
      this.#stopped()
      return
    }
    if (code === EXIT_USAGE) {
      this.#onUsage()
      return
    }
    if (livedMs >= STABLE_MS) this.#backoff.reset()
    const delayMs = Math.round(this.#backoff.next())
    this.#log({
      level: 'warn',
      msg: 'died, starting another',
      child: this.#name,
      pid,
      ...how,
      livedMs,
      delayMs,
    })
    this.#restart = setTimeout(() => this.start(), delayMs)
  }
}

/** The shape of the other processes' lines, without their logger. */
function printEntry({ level, ...fields }: LauncherEntry): void {
  process.stdout.write(
    `${JSON.stringify({ level, time: new Date().toISOString(), name: 'launcher', ...fields })}\n`,
  )
}
