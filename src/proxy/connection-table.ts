import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { AccessLogEntry, Ending, ResponseFlag } from './access-log.ts'
import { Connection, type ConnectionInit, type ConnectionOwner, type ConnectionState } from './connection.ts'
import type { DrainReport } from './engine-status.ts'
import { watchExpiry } from './expiry.ts'
import { keepAlive } from './keepalive.ts'
import { judgeOverhead } from './overhead.ts'
import type { ShadowVerdict } from './rbac.ts'
import { Rounds } from './rounds.ts'
import { TrafficRecorder, type TrafficStats } from './traffic-stats.ts'

export interface Counters {
  readonly accepted: number
  readonly ended: number
  /** Ended connections by their flag. */
  readonly byFlag: Readonly<Partial<Record<ResponseFlag, number>>>
  /** What shadow rules would have allowed and denied. */
  readonly shadowAllowed: number
  readonly shadowDenied: number
  /** Payload bytes of ended connections. */
  readonly bytesIn: number
  readonly bytesOut: number
}

export interface ConnectionTableOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly capacity: number
  readonly accessLog: (entry: AccessLogEntry) => void
  /** Whether an upstream has this name: only such names are counted by. */
  readonly isUpstream: (name: string) => boolean
}

/** All connections of one engine, and what became of those that ended. */
export class ConnectionTable {
  readonly #options: ConnectionTableOptions
  readonly #connections = new Set<Connection>()
  readonly #rounds: Rounds
  readonly #whenEmpty = new Set<() => void>()
  readonly #byFlag: Partial<Record<ResponseFlag, number>> = {}
  readonly #traffic = new TrafficRecorder()
  readonly #owner: ConnectionOwner
  #accepted = 0
  #ended = 0
  #shadowAllowed = 0
  #shadowDenied = 0
  #bytesIn = 0
  #bytesOut = 0

  constructor(options: ConnectionTableOptions) {
    this.#options = options
    this.#owner = { clock: options.clock, onEnd: (ended, entry) => this.#onEnd(ended, entry) }
    this.#rounds = new Rounds(options.clock, this.#connections, (connection) => this.#look(connection))
  }

  get connections(): ReadonlySet<Connection> {
    return this.#connections
  }

  get counters(): Counters {
    const [accepted, ended, bytesIn, bytesOut] = [this.#accepted, this.#ended, this.#bytesIn, this.#bytesOut]
    return {
      accepted,
      ended,
      byFlag: { ...this.#byFlag },
      shadowAllowed: this.#shadowAllowed,
      shadowDenied: this.#shadowDenied,
      bytesIn,
      bytesOut,
    }
  }

  /** What a scrape needs; costs a look at each open connection. */
  stats(): TrafficStats {
    let open = 0
    for (const { state } of this.#connections) if (state.phase === 'open') open += 1
    const opening = this.#connections.size - open
    return {
      accepted: this.#accepted,
      ended: this.#ended,
      open,
      opening,
      shadowAllowed: this.#shadowAllowed,
      shadowDenied: this.#shadowDenied,
      ...this.#traffic.take(this.#connections),
    }
  }

  /** A new connection. Over the capacity there is none, but a line in the log all the same. */
  admit(init: ConnectionInit, state: ConnectionState): Connection | undefined {
    const { capacity } = this.#options
    const connection = new Connection(init, this.#owner, state)
    this.#accepted += 1
    this.#connections.add(connection)
    this.#rounds.wake()
    if (this.#connections.size <= capacity) return connection
    connection.end({ flag: 'UO', reason: `more than ${capacity} connections` }, 'leave')
    return undefined
  }

  shadow({ allowed }: ShadowVerdict): void {
    if (allowed) this.#shadowAllowed += 1
    else this.#shadowDenied += 1
  }

  guard(connection: Connection, run: () => void): void {
    try {
      run()
    } catch (error) {
      this.fault(connection, error)
    }
  }

  /** Ends a connection that a bug of ours broke, and says which. */
  fault(connection: Connection, error: unknown): Ending {
    this.#options.logger.error(
      { err: error, listener: connection.listener },
      'BUG: a callback of a connection threw',
    )
    const ending: Ending = { flag: 'BUG', reason: error instanceof Error ? error.message : String(error) }
    connection.end(ending, 'reset')
    return ending
  }

  /** Cuts those that match and are still there after `ms`. */
  drainWhere(matches: (connection: Connection) => boolean, ms: number, why: string): void {
    const leaving = [...this.#connections].filter(matches)
    if (leaving.length === 0) return
    this.#options.clock.after(ms, () => {
      for (const connection of leaving) {
        if (matches(connection)) connection.end({ flag: 'DRAIN', reason: `${why} ${ms} ms ago` }, 'reset')
      }
    })
  }

  /** Resolves when there is none, or after `ms`. */
  /** Resolves once `asking` has and no connection is left, at the latest after `deadlineMs`, when those that are left are cut. */
  async drain(deadlineMs: number, clock: Clock, asking: Promise<void>): Promise<DrainReport> {
    const endedBefore = this.#ended
    if (deadlineMs > 0) await this.#emptied(deadlineMs, clock, asking)
    const finished = this.#ended - endedBefore
    return {
      finished,
      cut: this.endAll({ flag: 'DRAIN', reason: `still open ${deadlineMs} ms after the drain began` }),
    }
  }

  #emptied(ms: number, clock: Clock, asking: Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        cancel()
        this.#whenEmpty.delete(done)
        resolve()
      }
      const cancel = clock.after(ms, done)
      void asking.then(() => {
        if (this.#connections.size === 0) done()
        else this.#whenEmpty.add(done)
      })
    })
  }

  /** Ends all of them; how many, by upstream. */
  endAll(ending: Ending): Record<string, number> {
    const cut: Record<string, number> = {}
    for (const connection of [...this.#connections]) {
      const name = connection.facts.upstream || connection.listener
      cut[name] = (cut[name] ?? 0) + 1
      connection.end(ending, 'reset')
    }
    return cut
  }

  #look(connection: Connection): void {
    this.guard(connection, () => {
      keepAlive(connection)
      judgeOverhead(connection)
      watchExpiry(connection, this.#options.clock.now())
    })
  }

  #onEnd(connection: Connection, entry: AccessLogEntry): void {
    this.#connections.delete(connection)
    this.#ended += 1
    this.#byFlag[entry.flag] = (this.#byFlag[entry.flag] ?? 0) + 1
    this.#bytesIn += entry.bytesIn
    this.#bytesOut += entry.bytesOut
    const { isUpstream } = this.#options
    try {
      this.#traffic.ended(entry, connection.listenerNamesService || isUpstream(entry.upstream || entry.sni))
      this.#options.accessLog(entry)
    } catch (error) {
      this.#options.logger.error({ err: error }, 'BUG: the account of a connection threw')
    }
    if (this.#connections.size === 0) for (const done of [...this.#whenEmpty]) done()
  }
}
