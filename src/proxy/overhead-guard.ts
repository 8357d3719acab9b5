import type { Clock } from '../lib/clock.ts'
import type { Connection } from './connection.ts'

/** How long one look at all connections takes, and in how many steps it is done, so that no step is long. */
const ROUND_MS = 2_000
const STEPS = 20
/** What TLS may send in a round without payload: more than what one read may leave with TLS while the other side is slow. */
const FREE_BYTES = 131_072
/** And for each byte of payload: a record of one byte has some thirty around it. */
const BYTES_PER_PAYLOAD_BYTE = 64

/**
 * Ends connections that keep TLS busy and say nothing: floods of key updates or empty records, which OpenSSL takes for ever
 * (BoringSSL counts them itself). Nobody tells of single records, so what came over the wire is compared with what came out.
 */
export class OverheadGuard {
  readonly #clock: Clock
  readonly #connections: ReadonlySet<Connection>
  /** Iterators of a Set survive its changes. */
  #round: Iterator<Connection> | undefined
  #cancel: (() => void) | undefined

  constructor(clock: Clock, connections: ReadonlySet<Connection>) {
    this.#clock = clock
    this.#connections = connections
  }

  /** To be called when there is a connection; rests by itself when there is none. */
  wake(): void {
    this.#cancel ??= this.#clock.after(ROUND_MS / STEPS, () => this.#step())
  }

  #step(): void {
    this.#cancel = undefined
    if (this.#connections.size === 0) return
    this.#round ??= this.#connections.values()
    for (let left = Math.ceil(this.#connections.size / STEPS); left > 0; left -= 1) {
      const { done, value } = this.#round.next()
      if (done === true) {
        this.#round = undefined
        break
      }
      this.#look(value)
    }
    this.wake()
  }

  #look(connection: Connection): void {
    const { state, downstream } = connection
    if (state.phase !== 'open' || downstream === undefined || downstream.raw === downstream.stream) return
    const overhead = (downstream.raw.bytesRead ?? 0) - (1 + BYTES_PER_PAYLOAD_BYTE) * state.pump.bytesIn
    const more = overhead - connection.overheadSeen
    connection.overheadSeen = overhead
    if (more > FREE_BYTES)
      connection.end({ flag: 'DC', reason: `the client sent ${more} bytes of TLS without payload` }, 'reset')
  }
}
