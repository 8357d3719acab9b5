import type { Socket } from 'node:net'
import type { ReadSink } from './direct-reads.ts'

/** The most payload that a TLS record holds (RFC 8446 section 5.1): after one that is full there is more to come. */
const FULL_RECORD = 16_384
/** What is passed on at one time. */
const GATHERED_BYTES = 65_536
/** One for all: the records of one socket come one after the other, and those of another only after them. */
const slab = Buffer.allocUnsafeSlow(GATHERED_BYTES)
/** Whose records are in the slab. */
let holder: RecordGatherer | undefined
let length = 0
let scheduled = false

/**
 * Puts full TLS records together, so that one system call passes several on: Node gives out each by itself, and never says which is the
 * last that it has. A record that is not full ends the gathering, as do bytes of another connection and the turn of the loop.
 */
export class RecordGatherer {
  readonly #socket: Socket
  readonly #sink: ReadSink

  constructor(socket: Socket, sink: ReadSink) {
    this.#socket = socket
    this.#sink = sink
  }

  /** Takes what one record held; the bytes are the caller's again when it returns. False: stop reading. */
  take(record: Buffer): boolean {
    if (holder !== this || length + record.length > GATHERED_BYTES) {
      passOnGathered()
      // Nothing of TLS is longer; a runtime that gives out more at one time would find no room for it here.
      if (record.length !== FULL_RECORD) return this.#sink.take(record, true)
      holder = this
    }
    length += record.copy(slab, length)
    if (record.length < FULL_RECORD || length + FULL_RECORD > GATHERED_BYTES) return this.#passOn()
    if (!scheduled) {
      scheduled = true
      setImmediate(endTurn)
    }
    return true
  }

  /** For whoever is not the one that reads: stops the reading itself. */
  passOn(): void {
    if (!this.#passOn()) this.#socket.pause()
  }

  #passOn(): boolean {
    const gathered = slab.subarray(0, length)
    holder = undefined
    length = 0
    return this.#sink.take(gathered, true)
  }
}

/** Passes on what is gathered, whoever it is from: before anything that must come after it. */
export function passOnGathered(): void {
  holder?.passOn()
}

function endTurn(): void {
  scheduled = false
  passOnGathered()
}
