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
  readonly #waiting = new Set<() => void>()

  constructor(scope: Scope, child: ChildProcess) {
    this.process = child
    this.exit = once(child, 'exit') as Promise<[number | null, string | null]>
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      this.lines.push(JSON.parse(line) as Line)
      for (const check of this.#waiting) check()
    })
    scope.teardown(async () => {
      child.kill('SIGKILL')
      await this.exit
    })
  }

  /** The first line that matches, past or to come. */
  line(matches: (line: Line) => boolean): Promise<Line> {
    return new Promise((resolve) => {
      const check = () => {
        const found = this.lines.find(matches)
        if (found === undefined) return
        this.#waiting.delete(check)
        resolve(found)
      }
      this.#waiting.add(check)
      check()
    })
  }
}
