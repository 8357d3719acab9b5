import type { LoadRequest } from './plan.ts'

/** A body up to this long is one buffer with its head; a longer one is written in pieces, as the socket takes them. */
const WHOLE = 1_048_576
const PIECE = Buffer.alloc(262_144, 'x')

/** A request as bytes, made once for all connections that send it. */
export interface RequestBytes {
  readonly bodyBytes: number
  /** The head, and the body where it is not long. */
  readonly first: Buffer
  /** Of the body, beyond `first`. */
  readonly restBytes: number
}

/** HTTP/1.1 (RFC 9112): the connection stays, nothing is asked for beyond the answer. */
export function requestBytes({ method, path, host, bodyBytes }: LoadRequest): RequestBytes {
  const length = method === 'GET' ? '' : `Content-Length: ${bodyBytes}\r\n`
  const head = Buffer.from(
    `${method} ${path} HTTP/1.1\r\nHost: ${host ?? 'isthmus-bench'}\r\nUser-Agent: isthmus-bench\r\n${length}\r\n`,
  )
  const whole = bodyBytes <= WHOLE
  return {
    bodyBytes,
    first: whole ? Buffer.concat([head, Buffer.alloc(bodyBytes, 'x')]) : head,
    restBytes: whole ? 0 : bodyBytes,
  }
}

/** Some of a body of which so much is left. */
export function bodyPiece(left: number): Buffer {
  return left < PIECE.length ? PIECE.subarray(0, left) : PIECE
}
