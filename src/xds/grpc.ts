// gRPC over HTTP/2, the part that a server of bidirectional streams needs. Source: grpc/grpc doc/PROTOCOL-HTTP2.md.
import { constants, type ServerHttp2Stream } from 'node:http2'
import type { Clock } from '../lib/clock.ts'
import { fail, ok, type Result } from '../lib/result.ts'

/** google.rpc.Code, the ones used here. */
export const GRPC = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const

/** Why a stream is ended: `grpc-status` and `grpc-message`. */
export interface Refusal {
  readonly code: number
  readonly message: string
  /** One of a few words, by which refusals are counted; without it they are counted by the code. */
  readonly reason?: string
}

/** What a refusal is counted as. */
export function reasonOf({ code, reason }: Refusal): string {
  const name = Object.entries(GRPC).find(([, each]) => each === code)?.[0] ?? String(code)
  return reason ?? name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

const PREFIX_BYTES = 5

/** `grpc-message` is percent-encoded UTF-8; HTTP/2 header values are capped, so the text is too. */
export function trailersOf(refusal: Refusal): Record<string, string> {
  const text = refusal.message.length > 1_000 ? `${refusal.message.slice(0, 1_000)}…` : refusal.message
  const encoded = [...Buffer.from(text)]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : percent(byte),
    )
    .join('')
  return { 'grpc-status': String(refusal.code), 'grpc-message': encoded }
}

function percent(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
}

/** The 5 bytes before a message: not compressed, and its length. */
export function messagePrefix(length: number): Buffer {
  const prefix = Buffer.alloc(PREFIX_BYTES)
  prefix.writeUInt32BE(length, 1)
  return prefix
}

/** Cuts a stream of DATA frames into messages, whatever the frame boundaries. */
export class MessageReader {
  readonly #maxBytes: number
  #parts: Buffer[] = []
  #size = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** The messages that are complete with this chunk. After a refusal the reader is of no further use. */
  push(chunk: Buffer): Result<Buffer[], Refusal> {
    this.#parts.push(chunk)
    this.#size += chunk.length
    const messages: Buffer[] = []
    while (this.#size >= PREFIX_BYTES) {
      if ((this.#parts[0]?.length ?? 0) < PREFIX_BYTES) this.#parts = [Buffer.concat(this.#parts)]
      const head = this.#parts[0] as Buffer
      if (head[0] !== 0)
        return fail({ code: GRPC.unimplemented, message: 'compressed messages are not supported' })
      const length = head.readUInt32BE(1)
      if (length > this.#maxBytes)
        return fail({
          code: GRPC.resourceExhausted,
          message: `message of ${length} bytes, at most ${this.#maxBytes}`,
          reason: 'message-too-large',
        })
      const end = PREFIX_BYTES + length
      if (this.#size < end) break
      const all = this.#parts.length === 1 ? head : Buffer.concat(this.#parts)
      messages.push(all.subarray(PREFIX_BYTES, end))
      const rest = all.subarray(end)
      this.#parts = rest.length === 0 ? [] : [rest]
      this.#size = rest.length
    }
    return ok(messages)
  }
}

/** How long a client may take to end its side once ours has ended. */
const LINGER_MS = 1_000

/**
 * Resets a stream that our side has ended if the client does not end its own: he could keep it for ever, and send on it. Not at
 * once, for a reset overtakes the status.
 */
export function closeSoon(stream: ServerHttp2Stream, clock: Clock): void {
  if (stream.closed) return
  const cancel = clock.after(LINGER_MS, () => stream.close(constants.NGHTTP2_NO_ERROR))
  stream.once('close', cancel)
}
