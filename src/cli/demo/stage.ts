import { type Run, type ShellOptions, shell, startShell } from './shell.ts'
import type { ClusterName, World } from './world.ts'

/** What must be true of a command's outcome. */
export interface Expectation {
  /** Completes "expected …". */
  readonly want: string
  readonly judge: (run: Run) => boolean
}

export const prints = (...patterns: readonly RegExp[]): Expectation => ({
  want: `the output to match ${patterns.join(' and ')}`,
  judge: ({ output }) => patterns.every((pattern) => pattern.test(output)),
})

export const printsNot = (...patterns: readonly RegExp[]): Expectation => ({
  want: `the output not to match ${patterns.join(' nor ')}`,
  judge: ({ output }) => !patterns.some((pattern) => pattern.test(output)),
})

export const both = (first: Expectation, second: Expectation): Expectation => ({
  want: `${first.want}, and ${second.want}`,
  judge: (run) => first.judge(run) && second.judge(run),
})

export const succeeds: Expectation = { want: 'exit code 0', judge: ({ code }) => code === 0 }

export class StepFailed extends Error {}

export interface SeeOptions {
  /** The command is run again until its outcome is as expected, for this long; milliseconds. Default 20,000. */
  readonly withinMs?: number
  /** Not printed while all is well: it prepares a step, or is one of a kind already shown. */
  readonly quiet?: boolean
}

const AGAIN_MS = 150
const DEFAULT_WITHIN_MS = 20_000
const MAX_LINES = 14
const MAX_COLUMNS = 220

/** Where a story is played: runs each command for real, in its cluster, prints it with its output, and judges that. */
export class Stage {
  readonly world: World
  readonly #print: (text: string) => void
  readonly #colours: boolean
  #closed = false

  constructor(world: World, print: (text: string) => void, colours: boolean) {
    this.world = world
    this.#print = (text) => {
      if (!this.#closed) print(text)
    }
    this.#colours = colours
  }

  /** The demo is being ended: nothing more is printed, and no command is started or judged. */
  close(): void {
    this.#closed = true
  }

  heading(id: string, title: string): void {
    this.#print(`\n${this.#paint(BOLD, `${id.padEnd(4)} ${title}`)}\n`)
  }

  say(text: string): void {
    this.#print(text.replace(/^(?=.)/gm, '     '))
    this.#print('\n')
  }

  /** Runs a command until its outcome is as expected; throws `StepFailed` when it never is. */
  async see(
    cluster: ClusterName,
    command: string,
    expected: Expectation,
    options: SeeOptions = {},
  ): Promise<Run> {
    const startedMs = Date.now()
    const untilMs = startedMs + (options.withinMs ?? DEFAULT_WITHIN_MS)
    for (let attempt = 1; ; attempt++) {
      if (this.#closed) return new Promise(() => undefined)
      const run = await shell(command, this.#where(cluster))
      if (this.#closed) continue
      const good = expected.judge(run)
      if (!good && Date.now() < untilMs) {
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
        continue
      }
      const waited = attempt === 1 ? '' : ` after ${((Date.now() - startedMs) / 1_000).toFixed(1)} s`
      if (options.quiet !== true || !good) this.#show(cluster, command, run.output)
      if (!good)
        throw new StepFailed(`${cluster}$ ${command}\n${run.output}expected ${expected.want}${waited}`)
      if (options.quiet !== true && waited !== '') this.say(this.#paint(DIM, `(so${waited})`))
      return run
    }
  }

  /** Starts a command that goes on beside the next ones. */
  begin(cluster: ClusterName, command: string): ReturnType<typeof startShell> {
    this.say(`${this.#prompt(cluster)} ${command} &`)
    return startShell(command, this.#where(cluster))
  }

  good(): void {
    this.say(this.#paint(GREEN, '✔ true'))
  }

  bad(why: string): void {
    this.say(this.#paint(RED, `✘ ${why}`))
  }

  #where(cluster: ClusterName): ShellOptions {
    return { cwd: this.world.folder, prefix: this.world.cluster(cluster).namespace?.prefix ?? [] }
  }

  #show(cluster: ClusterName, command: string, output: string): void {
    this.say(`${this.#prompt(cluster)} ${command}`)
    const lines = output.trimEnd().split('\n')
    const shown = lines
      .slice(0, MAX_LINES)
      .map((line) => (line.length > MAX_COLUMNS ? `${line.slice(0, MAX_COLUMNS - 1)}…` : line))
    if (lines.length > MAX_LINES) shown.push(`… ${lines.length - MAX_LINES} more lines`)
    this.say(shown.join('\n'))
  }

  #prompt(cluster: ClusterName): string {
    return this.#paint(CYAN, `${cluster}$`)
  }

  #paint(colour: number, text: string): string {
    return this.#colours ? `\u001b[${colour}m${text}\u001b[0m` : text
  }
}

const BOLD = 1
const DIM = 2
const RED = 31
const GREEN = 32
const CYAN = 36
