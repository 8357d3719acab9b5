import { readFileSync } from 'node:fs'
import { fail, ok, type Problem, problem, type Result } from '../../lib/result.ts'

/** Reads a file whole; the error is one sentence. */
export type ReadFile = (path: string) => Result<string, string>

export const readTextFile: ReadFile = (path) => {
  try {
    return ok(readFileSync(path, 'utf8'))
  } catch (error) {
    return fail(`cannot be read: ${(error as Error).message}`)
  }
}

/** What one reading of a bootstrap gathers: every mistake with its path, and every file that it looked at. */
export class BootstrapContext {
  readonly object: string
  readonly problems: Problem[] = []
  /** Files and watched directories; a change of any of them is a reason to read again. */
  readonly files = new Set<string>()
  /** `file#name` of the Secrets that were taken from SDS files. */
  readonly secretFiles = new Set<string>()
  /** Which file the text of a `DataSource` was read from. */
  readonly sources = new WeakMap<object, string>()
  readonly #read: ReadFile

  /** `object` names the bootstrap in problems: its file. */
  constructor(object: string, read: ReadFile) {
    this.object = object
    this.#read = read
  }

  refuse(path: string, message: string): void {
    this.problems.push(problem(this.object, path, message))
  }

  /** The text of a file that `path` names; empty after a refusal. */
  read(file: string, path: string): string {
    this.files.add(file)
    const text = this.#read(file)
    if (text.ok) return text.value
    this.refuse(path, `${file} ${text.error}`)
    return ''
  }

  /** Whether something at this path or in it is refused already. */
  hasBelow(path: string): boolean {
    return this.problems.some(({ field }) => field.startsWith(path))
  }

  /** Takes over what is wrong with one resource; `place` makes the path in the bootstrap of a field of the resource. */
  adopt(found: Problem, place: (field: string) => string): void {
    const all = [found, ...(found.also ?? [])].map(({ field, message }) => ({ path: place(field), message }))
    // What could not be read at all is not there, either: once is enough.
    for (const { path, message } of all) if (!this.hasBelow(path)) this.refuse(path, message)
  }
}

/** `a` + `b.c` = `a.b.c`. */
export function joinPath(prefix: string, field: string): string {
  return field === '' ? prefix : `${prefix}.${field}`
}
