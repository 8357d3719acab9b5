import type { Connection } from './connection.ts'

/** What TLS may send in a round without payload: more than what one read may leave with TLS while the other side is slow. */
const FREE_BYTES = 131_072
/** And for each byte of payload: a record of one byte has some thirty around it. */
const BYTES_PER_PAYLOAD_BYTE = 64

/**
 * Ends a connection that kept TLS busy since it was looked at last and said nothing: floods of key updates or empty records, which OpenSSL
 * takes for ever (BoringSSL counts them itself). Nobody tells of single records, so what came over the wire is compared with what came
 * out. To be called once in each round.
 */
export function judgeOverhead(connection: Connection): void {
  const { state, downstream } = connection
  if (state.phase !== 'open' || downstream === undefined || downstream.raw === downstream.stream) return
  const overhead = (downstream.raw.bytesRead ?? 0) - (1 + BYTES_PER_PAYLOAD_BYTE) * state.pump.bytesIn
  const more = overhead - connection.overheadSeen
  connection.overheadSeen = overhead
  if (more > FREE_BYTES)
    connection.end({ flag: 'DC', reason: `the client sent ${more} bytes of TLS without payload` }, 'reset')
}
