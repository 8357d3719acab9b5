import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export interface Scope {
  teardown(end: () => unknown): void
}

/** A process that logs JSON lines, killed at the end of its test if it has not ended by then. */
export class LoggedProcess<Line> {
  readonly process: ChildProcess
  readonly lines: Line[] = []
  readonly exit: Promise<[number | null, string | null]>
  readonly #waiting = new Set<(line: Line) => void>()

  constructor(scope: Scope, child: ChildProcess) {
    this.process = child
    this.exit = once(child, 'exit') as Promise<[number | null, string | null]>
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const parsed = JSON.parse(line) as Line
      this.lines.push(parsed)
      for (const check of this.#waiting) check(parsed)
    })
    scope.teardown(async () => {
      child.kill('SIGKILL')
      await this.exit
    })
  }

  /** The first line that matches, past or to come; or the n-th. */
  line(matches: (line: Line) => boolean, nth = 1): Promise<Line> {
    const past = this.lines.filter(matches)
    const found = past[nth - 1]
    if (found !== undefined) return Promise.resolve(found)
    let missing = nth - past.length
    return new Promise((resolve) => {
      const check = (line: Line) => {
        if (!matches(line) || --missing > 0) return
        this.#waiting.delete(check)
        resolve(line)
      }
      this.#waiting.add(check)
    })
  }
}
