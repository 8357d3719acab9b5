import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Ending } from './access-log.ts'
import type { Connection } from './connection.ts'

const HEAD_MS = 5_000
const HEAD_BYTES = 65_536

/** An HTTP/1.1 answer that explains itself and closes. */
function httpAnswer(status: number, text: string): Buffer {
  const body = `${text}\n`
  return Buffer.from(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
      'content-type: text/plain; charset=utf-8',
      `content-length: ${Buffer.byteLength(body)}`,
      'connection: close',
      '',
      body,
    ].join('\r\n'),
  )
}

/**
 * Answers a plain HTTP/1.1 client with 503 and the reason, once its request's head is there (an answer before the question is
 * taken for a broken connection by many clients), then ends the connection with `ending`.
 */
export function serviceUnavailable(connection: Connection, raw: Socket, ending: Ending): void {
  const tail: Buffer[] = []
  let length = 0
  const answer = () => {
    raw.off('data', read)
    raw.off('end', answer)
    connection.end(ending, 'close', httpAnswer(503, ending.reason))
  }
  const read = (chunk: Buffer) => {
    tail.push(chunk)
    length += chunk.length
    if (length > HEAD_BYTES || Buffer.concat(tail).includes('\r\n\r\n')) answer()
  }
  if (raw.readableEnded) {
    answer()
    return
  }
  connection.deadline(HEAD_MS, ending)
  raw.on('data', read)
  raw.on('end', answer)
  raw.resume()
}
