import type { Writable } from 'node:stream'

/**
 * Over TLS what is written is copied, encrypted, before the socket takes it: a slice at a time, so that a client that is slow, or one
 * of a thousand that come at once, holds a slice in memory and not a whole response.
 */
const SLICE_BYTES = 128 * 1024

/** Writes messages to a stream, large ones in slices: the next one when the last was taken. */
export class SlicedWriter {
  readonly #stream: Writable
  readonly #sliceBytes: number
  #left: Uint8Array[] = []

  /** `encrypted`: the stream's bytes go over TLS; in clear they are not copied, and not sliced. */
  constructor(stream: Writable, encrypted: boolean) {
    this.#stream = stream
    this.#sliceBytes = encrypted ? SLICE_BYTES : Number.POSITIVE_INFINITY
  }

  /** Some of what was given has not been written yet. */
  get unfinished(): boolean {
    return this.#left.length > 0
  }

  /** One message in two parts. False: wait for `drain`, and then `resume`. */
  write(shared: Buffer, own: Uint8Array): boolean {
    if (shared.length <= this.#sliceBytes) {
      this.#stream.cork()
      this.#stream.write(shared)
      const taken = this.#stream.write(own)
      this.#stream.uncork()
      return taken
    }
    for (let at = 0; at < shared.length; at += this.#sliceBytes)
      this.#left.push(shared.subarray(at, at + this.#sliceBytes))
    this.#left.push(own)
    return this.resume()
  }

  /** Goes on writing. True: everything is written, and there is room for more. */
  resume(): boolean {
    let taken = true
    while (taken) {
      const slice = this.#left.shift()
      if (slice === undefined) return true
      taken = this.#stream.write(slice)
    }
    return false
  }

  /** Writes all that is left, whatever room there is: half a message must not be the last of a stream. */
  finish(): void {
    for (const slice of this.#left.splice(0)) this.#stream.write(slice)
  }
}
