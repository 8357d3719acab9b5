// A client process that makes a call whenever it is told to, with the deadline that it is told.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Scope } from '../process/logged-process.ts'

/** Of the backends: bytes in, bytes out. */
export const METHOD = '/isthmus.test.Who/AreYou'

export class Caller {
  readonly name: string
  readonly #child: ChildProcessWithoutNullStreams
  readonly #answers: AsyncIterator<string>
  /** What it said on its standard error, for when it goes wrong. */
  #said = ''

  constructor(
    scope: Scope,
    name: string,
    argv: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ) {
    this.name = name
    const [command = '', ...args] = argv
    this.#child = spawn(command, args, { env: { ...process.env, ...env } })
    this.#child.stderr.on('data', (chunk) => {
      this.#said = `${this.#said}${chunk}`.slice(-4_000)
    })
    this.#child.stdin.on('error', () => {})
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
    const gone = once(this.#child, 'exit')
    this.#child.on('exit', (code, signal) => {
      this.#said += `(exit ${code ?? signal})`
    })
    scope.teardown(async () => {
      this.#child.kill('SIGKILL')
      await gone
    })
  }

  /** Who answered, or `error …` after so many milliseconds at the latest. */
  async call(deadlineMs = 10_000): Promise<string> {
    this.#child.stdin.write(`${deadlineMs}\n`)
    const { value, done } = await this.#answers.next()
    if (done === true) throw new Error(`${this.name} ended: ${this.#said}`)
    const answer = JSON.parse(value) as { ok?: string; error?: string }
    return answer.ok ?? `error ${answer.error}`
  }

  /** Calls until the same has answered so often in a row. Fails by the test's own time limit. */
  async settlesOn(who: string, inARow = 5): Promise<void> {
    for (let row = 0; row < inARow; ) row = (await this.call()) === who ? row + 1 : 0
  }

  /** The distinct answers of so many calls. */
  async calls(count: number): Promise<string[]> {
    const answers = new Set<string>()
    for (let i = 0; i < count; i++) answers.add(await this.call())
    return [...answers].sort()
  }
}
