import { type ChildProcess, spawn } from 'node:child_process'
import { extname, join } from 'node:path'
import type { Duplex } from 'node:stream'
import { onLines } from '../proxy/process/json-lines.ts'
import type { Sample } from './flow-recorder.ts'
import type { FromGenerator, GeneratorFlow, GeneratorResult, ToGenerator } from './generator-messages.ts'
import type { LoadPlan } from './plan.ts'

/** What runs a process of the load: the program, and what stands before the script. */
export interface GeneratorRuntime {
  readonly file: string
  readonly argv: readonly string[]
}

/** A process that makes load. It ends when this one does. */
export class GeneratorProcess {
  readonly #child: ChildProcess
  /** Called for each interval of each flow. */
  onSample: (sample: Sample) => void = () => {}
  #awaited:
    | { readonly take: (message: FromGenerator) => void; readonly gone: (error: Error) => void }
    | undefined
  #said = ''

  private constructor(runtime: GeneratorRuntime) {
    const script = join(import.meta.dirname, `generator${extname(import.meta.filename)}`)
    this.#child = spawn(runtime.file, [...runtime.argv, script], { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#said = `${this.#said}${text}`.slice(-2_000)
    })
    this.#child.stdin?.on('error', () => {})
    this.#child.once('error', (error) => this.#gone(error.message))
    // After the last line was read.
    this.#child.once('close', (code, signal) => this.#gone(`it ended with ${signal ?? code}`))
    onLines(this.#child.stdout as Duplex, (line) => this.#take(line as FromGenerator))
  }

  /** Throws where the program cannot be started. */
  static async start(runtime: GeneratorRuntime): Promise<GeneratorProcess> {
    const generator = new GeneratorProcess(runtime)
    await generator.#answer('ready')
    return generator
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Throws with one sentence where the plan cannot be: a certificate that does not fit its key, for example. */
  async prepare(plan: LoadPlan, index: number): Promise<readonly GeneratorFlow[]> {
    return (await this.#ask({ prepare: plan, index }, 'prepared')).prepared
  }

  /** `at`: milliseconds since the epoch. */
  async run(at: number): Promise<GeneratorResult> {
    return (await this.#ask({ begin: at }, 'result')).result
  }

  async release(): Promise<void> {
    await this.#ask({ release: true }, 'released')
  }

  /** Ends it; resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const gone = new Promise((resolve) => this.#child.once('close', resolve))
    this.#child.stdin?.end()
    await gone
  }

  #ask<Key extends string>(message: ToGenerator, key: Key) {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`)
    return this.#answer(key)
  }

  #answer<Key extends string>(key: Key): Promise<Extract<FromGenerator, { readonly [K in Key]: unknown }>> {
    return new Promise((resolve, reject) => {
      this.#awaited = {
        take: (message) => {
          if ('refused' in message) reject(new Error(message.refused))
          else if (key in message)
            resolve(message as Extract<FromGenerator, { readonly [K in Key]: unknown }>)
        },
        gone: reject,
      }
    })
  }

  #take(message: FromGenerator): void {
    if ('sample' in message) this.onSample(message.sample)
    else this.#awaited?.take(message)
  }

  #gone(why: string): void {
    const said = this.#said.trim().split('\n').slice(-3).join(' / ')
    this.#awaited?.gone(new Error(`a process of the load is gone: ${why}${said === '' ? '' : `: ${said}`}`))
  }
}
