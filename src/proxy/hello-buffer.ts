import { HELLO_LIMITS, type HelloLimits, type HelloResult, parseClientHello } from './client-hello.ts'

const NOTHING = Buffer.alloc(0)

/**
 * What a client has sent until its ClientHello is whole. Grows by doubling, so that a hello in one-byte segments costs no more
 * copies than one in a single segment, and never holds much more than the largest hello we take.
 */
export class HelloBuffer {
  readonly #limits: HelloLimits
  #bytes: Buffer = NOTHING
  #length = 0

  constructor(limits: HelloLimits = HELLO_LIMITS) {
    this.#limits = limits
  }

  /** Everything received so far; give it back to the socket before TLS takes over. */
  get received(): Buffer {
    return this.#length === this.#bytes.length ? this.#bytes : this.#bytes.subarray(0, this.#length)
  }

  push(segment: Buffer): HelloResult {
    if (this.#length === 0) {
      // The usual case: one segment holds it all, and nothing is copied.
      this.#bytes = segment
      this.#length = segment.length
    } else {
      this.#append(segment)
    }
    return parseClientHello(this.received, this.#limits)
  }

  #append(segment: Buffer): void {
    const needed = this.#length + segment.length
    if (needed > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2, 2048))
      this.received.copy(grown)
      this.#bytes = grown
    }
    segment.copy(this.#bytes, this.#length)
    this.#length = needed
  }
}
