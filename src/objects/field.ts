import { type Problem, problem } from '../lib/result.ts'

/** What is left of a found value in a message. */
const SHOWN_LENGTH_MAX = 60

/** Checks one text; undefined = fine, else what was expected (`a DNS label …`). */
export type TextRule = (text: string) => string | undefined

/**
 * One place in a document: a value that nobody has checked yet, and its path. Each reader returns a usable value whatever
 * it finds and records what is wrong, so that one pass names all mistakes of a document; whoever holds the recorder throws
 * the result away when it is not empty. `null` counts as absent, as in Kubernetes.
 */
export class Field {
  readonly #value: unknown
  readonly path: string
  readonly #found: Recorder

  constructor(value: unknown, path: string, found: Recorder) {
    this.#value = value ?? undefined
    this.path = path
    this.#found = found
  }

  get present(): boolean {
    return this.#value !== undefined
  }

  /** The unchecked value; undefined when absent. */
  get value(): unknown {
    return this.#value
  }

  /** The member `name` of a map; of an absent one, absent. */
  get(name: string): Field {
    const map = this.#map()
    // What is no map has no members: that was said, and that each of them is missing is not worth a word.
    if (map === undefined) return new Field(undefined, join(this.path, name), new Recorder(''))
    return new Field(Object.hasOwn(map, name) ? map[name] : undefined, join(this.path, name), this.#found)
  }

  /** Records that this field is wrong. `message` says what was expected. */
  wrong(message: string): void {
    this.#found.add(this.path, message)
  }

  /** A text; required unless a fallback is given. */
  text(fallback?: string, rule?: TextRule): string {
    if (this.#value === undefined) return this.#absent('a string', fallback, '')
    if (typeof this.#value !== 'string') {
      const quoted = typeof this.#value === 'object' ? '' : ' (put it in quotes)'
      this.wrong(`expected a string, found ${this.#shown()}${quoted}`)
      return fallback ?? ''
    }
    const expected = rule?.(this.#value)
    if (expected !== undefined) this.wrong(`expected ${expected}, found ${this.#shown()}`)
    return this.#value
  }

  /** A text, or undefined when absent. */
  optionalText(rule?: TextRule): string | undefined {
    return this.present ? this.text('', rule) : undefined
  }

  /** A whole number between the bounds, both included; required unless a fallback is given. */
  integer(min: number, max: number, fallback?: number): number {
    const expected = `a number ${min}-${max}`
    if (this.#value === undefined) return this.#absent(expected, fallback, min)
    const value = this.#value
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
    this.wrong(`expected ${expected}, found ${this.#shown()}`)
    return fallback ?? min
  }

  flag(fallback: boolean): boolean {
    if (this.#value === undefined) return fallback
    if (typeof this.#value === 'boolean') return this.#value
    this.wrong(`expected true or false, found ${this.#shown()}`)
    return fallback
  }

  /** One of the words given; required unless a fallback is given. */
  oneOf<const W extends string>(words: readonly W[], fallback?: W): W {
    const expected = `one of ${words.join(', ')}`
    const first = fallback ?? words[0]!
    if (this.#value === undefined) return this.#absent(expected, fallback, first)
    const word = words.find((candidate) => candidate === this.#value)
    if (word === undefined) this.wrong(`expected ${expected}, found ${this.#shown()}`)
    return word ?? first
  }

  /** The items of a list, each read by `read`; an absent list is empty. */
  list<T>(read: (item: Field) => T): T[] {
    if (this.#value === undefined) return []
    if (!Array.isArray(this.#value)) {
      this.wrong(`expected a list, found ${this.#shown()}`)
      return []
    }
    return this.#value.map((item, index) => read(new Field(item, `${this.path}[${index}]`, this.#found)))
  }

  /** The members of a map in document order; an absent map has none. */
  entries(): [key: string, member: Field][] {
    return Object.entries(this.#map() ?? {}).map(([key, value]) => [
      key,
      new Field(value, join(this.path, key), this.#found),
    ])
  }

  /** Records a required map or list that is not there (or has no members). True when it has some. */
  require(expected: string): boolean {
    const members = typeof this.#value === 'object' ? Object.keys(this.#value as object).length : undefined
    if (members === undefined && this.present) return true
    if (members !== undefined && members > 0) return true
    this.wrong(`expected ${expected}, found ${this.present ? 'an empty one' : 'nothing'}`)
    return false
  }

  /** Records every member that is not among `known`: where a slip of the pen would silently mean something else. */
  only(known: readonly string[]): void {
    for (const [key, member] of this.entries())
      if (!known.includes(key)) member.wrong(`is not a field here, expected one of ${known.join(', ')}`)
  }

  #map(): Record<string, unknown> | undefined {
    if (this.#value === undefined) return {}
    if (typeof this.#value === 'object' && !Array.isArray(this.#value)) {
      return this.#value as Record<string, unknown>
    }
    this.#found.addOnce(this.path, `expected a map, found ${this.#shown()}`)
    return undefined
  }

  #absent<T>(expected: string, fallback: T | undefined, harmless: T): T {
    if (fallback !== undefined) return fallback
    this.wrong(`expected ${expected}, found nothing`)
    return harmless
  }

  #shown(): string {
    return this.#found.confidential ? kindOf(this.#value) : describe(this.#value)
  }
}

/** Where the fields of one document record what is wrong. */
export class Recorder {
  /** Set for Secrets: messages then name types, never values. */
  readonly confidential: boolean
  readonly #object: string
  readonly #problems: Problem[] = []

  constructor(object: string, confidential = false) {
    this.#object = object
    this.confidential = confidential
  }

  get problems(): readonly Problem[] {
    return this.#problems
  }

  add(path: string, message: string): void {
    this.#problems.push(problem(this.#object, path, message))
  }

  /** For what is looked at once per member: a map that is none would be reported by each of them. */
  addOnce(path: string, message: string): void {
    if (!this.#problems.some((known) => known.field === path && known.message === message))
      this.add(path, message)
  }
}

/** `spec` + `ports` = `spec.ports`; keys that are not plain words are quoted: `metadata.labels["app.kubernetes.io/name"]`. */
function join(path: string, name: string): string {
  if (!/^[A-Za-z0-9_-]+$/.test(name)) return `${path}[${JSON.stringify(name)}]`
  return path === '' ? name : `${path}.${name}`
}

function describe(value: unknown): string {
  if (typeof value === 'object' && value !== null) return kindOf(value)
  const text = JSON.stringify(value) ?? String(value)
  return text.length > SHOWN_LENGTH_MAX ? `${text.slice(0, SHOWN_LENGTH_MAX)}…` : text
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'a map' : `a ${typeof value}`
}
