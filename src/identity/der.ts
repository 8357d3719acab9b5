import { fail, ok, type Result } from '../lib/result.ts'

/** Tags of the elements that certificates are made of (X.690 section 8, RFC 5280 appendix A). */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** `[n]` around or instead of a primitive. */
export const contextTag = (n: number): number => 0x80 | n
/** `[n]` around a constructed element. */
export const contextConstructed = (n: number): number => 0xa0 | n

export interface DerElement {
  readonly tag: number
  /** Tag, length and content: what a signature covers, what names are compared by. */
  readonly whole: Uint8Array
  readonly content: Uint8Array
}

/** Thrown by `DerReader`, caught by `readDer`, seen by nobody else. */
class NotDer extends Error {}

function malformed(message: string): never {
  throw new NotDer(message)
}

/**
 * Runs `read` over the whole of `bytes` and turns everything that is not strict DER, or is left over, into an error value.
 * One place to catch, so that the readers below read like the ASN.1 they follow.
 */
export function readDer<T>(bytes: Uint8Array, read: (reader: DerReader) => T): Result<T, string> {
  try {
    const reader = new DerReader(bytes)
    const value = read(reader)
    reader.end()
    return ok(value)
  } catch (error) {
    if (error instanceof NotDer) return fail(error.message)
    throw error
  }
}

/** A cursor over the elements of one constructed value. Every read is checked against its end; use it inside `readDer`. */
export class DerReader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get empty(): boolean {
    return this.#at >= this.#bytes.length
  }

  /** Says why the value, well formed or not, cannot be used. */
  refuse(message: string): never {
    malformed(message)
  }

  /** Nothing may follow. */
  end(): void {
    if (!this.empty) malformed('bytes after the last element')
  }

  /** The next element; with `tag`, only that one will do. */
  element(tag?: number): DerElement {
    const start = this.#at
    const found = this.#byte()
    if ((found & 0x1f) === 0x1f) malformed('a tag of several bytes')
    if (tag !== undefined && found !== tag) malformed(`tag ${hex(found)} where ${hex(tag)} was expected`)
    const length = this.#length()
    const from = this.#at
    if (length > this.#bytes.length - from) malformed('a length that reaches beyond its container')
    this.#at = from + length
    return {
      tag: found,
      whole: this.#bytes.subarray(start, this.#at),
      content: this.#bytes.subarray(from, this.#at),
    }
  }

  /** The next element if it has this tag. */
  optional(tag: number): DerElement | undefined {
    return this.at(tag) ? this.element(tag) : undefined
  }

  /** Whether the next element has this tag. */
  at(tag: number): boolean {
    return this.#bytes[this.#at] === tag
  }

  /** Reads a constructed element with `read`, which must use all of it. */
  within<T>(tag: number, read: (inner: DerReader) => T): T {
    const inner = new DerReader(this.element(tag).content)
    const value = read(inner)
    inner.end()
    return value
  }

  /** Every element of a constructed one, at least `atLeast` of them. */
  list<T>(tag: number, read: (inner: DerReader) => T, atLeast = 1): T[] {
    return this.within(tag, (inner) => {
      const items: T[] = []
      while (!inner.empty) items.push(read(inner))
      if (items.length < atLeast) malformed('an empty list')
      return items
    })
  }

  /** Dotted decimal. */
  oid(): string {
    const { content } = this.element(TAG.oid)
    if (content.length === 0 || content.length > 64) malformed('an object identifier of a wrong length')
    const arcs: bigint[] = []
    let arc = 0n
    let fresh = true
    for (const byte of content) {
      if (fresh && byte === 0x80) malformed('an object identifier with padding')
      arc = (arc << 7n) | BigInt(byte & 0x7f)
      fresh = (byte & 0x80) === 0
      if (!fresh) continue
      arcs.push(arc)
      arc = 0n
    }
    if (!fresh) malformed('an object identifier that is cut off')
    const [first = 0n, ...rest] = arcs
    const top = first < 40n ? 0n : first < 80n ? 1n : 2n
    return [top, first - top * 40n, ...rest].join('.')
  }

  /** Two's complement, most significant byte first, as short as it can be. */
  integer(): Uint8Array {
    const { content } = this.element(TAG.integer)
    const [first, second = 0] = content
    if (first === undefined) malformed('an empty integer')
    if (content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
      malformed('an integer with padding')
    }
    return content
  }

  /** An integer from 0 to 2^31 - 1. */
  smallInteger(): number {
    const bytes = this.integer()
    if ((bytes[0] ?? 0) >= 0x80 || bytes.length > 4) malformed('an integer out of range')
    return bytes.reduce((value, byte) => value * 256 + byte, 0)
  }

  boolean(): boolean {
    const { content } = this.element(TAG.boolean)
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff))
      malformed('a boolean that is neither')
    return content[0] === 0xff
  }

  /** The bits, first bit in the top of the first byte, and how many bits of the last byte do not count (those are 0). */
  bitString(): { readonly bytes: Uint8Array; readonly unused: number } {
    const { content } = this.element(TAG.bitString)
    const unused = content[0] ?? malformed('an empty bit string')
    const bytes = content.subarray(1)
    const last = bytes.at(-1)
    if (unused > 7 || (last === undefined && unused > 0)) malformed('a bit string with too many unused bits')
    if (last !== undefined && (last & ((1 << unused) - 1)) !== 0)
      malformed('a bit string with padding that is not 0')
    return { bytes, unused }
  }

  /** Milliseconds since the epoch, from a UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 allows them: seconds and `Z`. */
  time(): number {
    const { tag, content } = this.element()
    const text = String.fromCharCode(...content.subarray(0, 16))
    const digits =
      tag === TAG.utcTime
        ? /^\d{12}Z$/
        : tag === TAG.generalizedTime
          ? /^\d{14}Z$/
          : malformed('no time where one was expected')
    if (!digits.test(text)) malformed('a time that is not in the form of RFC 5280')
    const short = Number(text.slice(0, 2))
    const year = tag === TAG.utcTime ? (short < 50 ? 2000 : 1900) + short : Number(text.slice(0, 4))
    const rest = text.slice(tag === TAG.utcTime ? 2 : 4)
    const [month = 0, day = 0, hour = 0, minute = 0, second = 0] = (rest.match(/\d\d/g) ?? []).map(Number)
    const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second))
    // Date.UTC rolls 30 February over; a certificate that says so is refused.
    if (
      date.getUTCMonth() !== month - 1 ||
      date.getUTCDate() !== day ||
      hour > 23 ||
      minute > 59 ||
      second > 59
    ) {
      malformed('a time that does not exist')
    }
    return date.getTime()
  }

  #byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) malformed('the end where an element was expected')
    this.#at += 1
    return byte
  }

  /** Definite lengths in their shortest form, below 16 MB. */
  #length(): number {
    const first = this.#byte()
    if (first < 0x80) return first
    const count = first & 0x7f
    if (count === 0 || count > 3) malformed('an indefinite or huge length')
    let length = 0
    for (let i = 0; i < count; i++) length = length * 256 + this.#byte()
    if (length < 0x80 || length < 256 ** (count - 1)) malformed('a length that is not in its shortest form')
    return length
  }
}

const hex = (byte: number): string => `0x${byte.toString(16).padStart(2, '0')}`
