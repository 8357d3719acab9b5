import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { onLines } from './json-lines.ts'

/** What to run. */
export interface Program {
  readonly file: string
  readonly argv: readonly string[]
  /** What its environment has besides ours. */
  readonly env?: Readonly<Record<string, string>>
}

/**
 * What a child tells its launcher over the lifeline: it `serving`s for the first time; it listens on an inherited `address`, or does
 * not any more; it has begun to drain without being told by us, or has drained; it wants to be `replaced`;
 * those who call from elsewhere know that we are about to stop.
 */
export interface ChildNotice {
  readonly notice: 'serving' | 'listening' | 'released' | 'draining' | 'drained' | 'replace' | 'withdrawn'
  readonly address?: string
  readonly report?: unknown
}

export interface ChildOptions {
  readonly program: Program
  readonly env: Readonly<Record<string, string>>
  /** Descriptors that the child has as 4, 5, … */
  readonly descriptors: readonly number[]
  readonly onNotice: (child: Child, notice: ChildNotice) => void
  /** How it ended, in words for the log; no exit code where it was killed or never started. */
  readonly onEnd: (child: Child, how: Readonly<Record<string, unknown>>, code: number | null) => void
}

/** The first descriptor of `ChildOptions.descriptors`; 3 is the lifeline. */
export const FIRST_DESCRIPTOR = 4

/** One process that ends when we do, and tells us things. */
export class Child {
  /** What it has told us. */
  served = false
  readonly listening = new Set<string>()
  readonly #startedAt = Date.now()
  readonly #process: ChildProcess | undefined
  readonly #gone: Promise<void>
  #ended = false

  constructor(options: ChildOptions) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#gone = promise
    const end = (how: Record<string, unknown>, code: number | null) => {
      if (this.#ended) return
      this.#ended = true
      this.#process?.stdio[3]?.destroy()
      options.onEnd(this, how, code)
      resolve()
    }
    try {
      this.#process = this.#spawn(options)
      this.#process.once('error', (error) => end({ error: error.message }, null))
      this.#process.once('exit', (code, signal) => end({ code, signal }, code))
    } catch (error) {
      // Node throws what it does not expect of the operating system, ENOMEM for one.
      setImmediate(end, { error: (error as Error).message }, null)
    }
  }

  /** Undefined when it could not be started. */
  get pid(): number | undefined {
    return this.#process?.pid
  }

  get livedMs(): number {
    return Date.now() - this.#startedAt
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.#ended) this.#process?.kill(signal)
  }

  /** A signal that asks it to end, then SIGKILL after `ms`. True when it ended by itself. */
  async stop(signal: NodeJS.Signals, ms: number): Promise<boolean> {
    let killed = false
    const deadline = setTimeout(() => {
      killed = true
      this.signal('SIGKILL')
    }, ms)
    this.signal(signal)
    await this.#gone
    clearTimeout(deadline)
    return !killed
  }

  #spawn({ program, env, descriptors, onNotice }: ChildOptions): ChildProcess {
    const child = spawn(program.file, program.argv, {
      // Standard output is inherited, not piped: a pipe of ours would end with us. Descriptor 3 is made to: see lib/lifeline.ts.
      stdio: ['ignore', 'inherit', 'inherit', 'pipe', ...descriptors],
      env: { ...process.env, ISTHMUS_LIFELINE_FD: '3', ...program.env, ...env },
    })
    const lifeline = child.stdio[3] as Duplex | null | undefined
    lifeline?.on('error', () => {})
    if (lifeline) onLines(lifeline, (line) => onNotice(this, line as ChildNotice))
    return child
  }
}
