import type { OnReadOpts, Socket } from 'node:net'

/** Of one read; more than a socket's receive buffer usually has, and four whole TLS records. */
const READ_BYTES = 65_536
/** All sockets read into these bytes: each read is over before the next one of any socket begins. */
const shared = Buffer.allocUnsafeSlow(READ_BYTES)

/**
 * Takes what was read, and says whether more may come; the bytes are the caller's again when it returns, so whoever keeps them keeps
 * a copy. False stops reading until the socket is resumed.
 */
export type ReadSink = (chunk: Buffer) => boolean

/**
 * What a TCP socket receives, without a Buffer for each read: Node reads into one that it is given (`onread`), and all sockets share
 * one. Nothing is left for the collector, and a socket whose reader stalls holds nothing. Only for a socket that this process
 * connects, whose options say so; its `data` events do not come.
 */
export class SharedReads {
  /** For `net.connect`. */
  readonly onread: OnReadOpts = { buffer: shared, callback: (length) => this.#take(length) }
  #sink: ReadSink | undefined
  /** What came before there was a sink: one read at most, since it stops reading. */
  #early: Buffer | undefined

  /** Gives what is read to `sink` from now on, in a socket that is connected. */
  start(socket: Socket, sink: ReadSink): void {
    this.#sink = sink
    const early = this.#early
    this.#early = undefined
    if (early === undefined || sink(early)) socket.resume()
  }

  #take(length: number): boolean {
    const chunk = shared.subarray(0, length)
    if (this.#sink !== undefined) return this.#sink(chunk)
    this.#early = Buffer.from(chunk)
    return false
  }
}

/** Bun takes `onread` too, and pays 15 % of its bulk for it. */
export const HAS_SHARED_READS = !('bun' in process.versions)
