import type { AccessLogEntry, ResponseFlag } from './access-log.ts'
import type { Connection } from './connection.ts'

/** What became of the connections of one service and one peer. */
export interface TrafficCounters {
  /** `host:port`, or the upstream's name; empty where none was reached; `other` for what is over the limit. */
  readonly service: string
  /** Trust domain of the verified caller; empty where there is none; `other` for what is over the limit. */
  readonly peerTrustDomain: string
  /** Ended connections by their flag. */
  readonly ended: Readonly<Partial<Record<ResponseFlag, number>>>
  /** Payload bytes, those of open connections included. */
  readonly bytesIn: number
  readonly bytesOut: number
  readonly open: number
}

/** What came to one listener, in the words of Envoy's listener and rbac statistics. */
export interface ListenerCounters {
  readonly listener: string
  readonly accepted: number
  readonly active: number
  readonly handshakes: number
  /** No handshake came about, for another reason than a certificate. */
  readonly handshakeFailures: number
  readonly certificatesRefused: number
  readonly noFilterChain: number
  readonly rbacAllowed: number
  readonly rbacDenied: number
}

/** `counts[i]` values were at most `bounds[i]` ms and over the bound before; the last count has no bound. */
export interface Histogram {
  readonly boundsMs: readonly number[]
  readonly counts: readonly number[]
  readonly sumMs: number
}

/** Cheap to take and to send: what a scrape needs of one engine. */
export interface TrafficStats {
  readonly accepted: number
  readonly ended: number
  readonly open: number
  readonly opening: number
  /** What shadow rules would have allowed and denied. */
  readonly shadowAllowed: number
  readonly shadowDenied: number
  readonly traffic: readonly TrafficCounters[]
  readonly listenerCounters: readonly ListenerCounters[]
  readonly handshake: Histogram
  readonly connect: Histogram
  readonly duration: Histogram
}

/** Pairs of service and peer that are told apart. A name that somebody merely asked for is never one of them. */
const MAX_PAIRS = 1_024
const MAX_LISTENERS = 1_024
const OTHER = 'other'
const NO_CONNECTION = {
  accepted: 0,
  active: 0,
  handshakes: 0,
  handshakeFailures: 0,
  certificatesRefused: 0,
  noFilterChain: 0,
  rbacAllowed: 0,
  rbacDenied: 0,
}
const HANDSHAKE_BOUNDS_MS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000]
const DURATION_BOUNDS_MS = [10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 86_400_000]

type Recorded = Pick<TrafficStats, 'traffic' | 'listenerCounters' | 'handshake' | 'connect' | 'duration'>

interface Cell {
  readonly service: string
  readonly peerTrustDomain: string
  readonly ended: Partial<Record<ResponseFlag, number>>
  bytesIn: number
  bytesOut: number
}

type ListenerCell = { -readonly [K in keyof ListenerCounters]: ListenerCounters[K] }

/** Counts ended connections, in plain integers: a few additions for each, whatever is asked later. */
export class TrafficRecorder {
  /** By service, then trust domain. */
  readonly #cells = new Map<string, Map<string, Cell>>()
  readonly #listeners = new Map<string, ListenerCell>()
  #pairs = 0
  readonly #handshake = new HistogramRecorder(HANDSHAKE_BOUNDS_MS)
  readonly #connect = new HistogramRecorder(HANDSHAKE_BOUNDS_MS)
  readonly #duration = new HistogramRecorder(DURATION_BOUNDS_MS)

  /** `known` says that the name was one of ours, not just anything that a client asked for. */
  ended(entry: AccessLogEntry, known: boolean): void {
    const service = serviceOf(entry.host, entry.port, entry.upstream || entry.sni)
    const cell = this.#cell(known || this.#cells.has(service) ? service : '', entry.peerTrustDomain)
    cell.ended[entry.flag] = (cell.ended[entry.flag] ?? 0) + 1
    cell.bytesIn += entry.bytesIn
    cell.bytesOut += entry.bytesOut
    if (entry.handshakeMs >= 0) this.#handshake.add(entry.handshakeMs)
    if (entry.connectMs >= 0) this.#connect.add(entry.connectMs)
    this.#duration.add(entry.durationMs)
    countAt(this.#listener(entry.listener), entry, entry.flag)
  }

  /** Goes through the open connections for the bytes that they have moved so far. */
  take(connections: Iterable<Connection>): Recorded {
    const listeners = new Map([...this.#listeners].map(([name, cell]) => [name, { ...cell }]))
    const live = new Map<Cell, { bytesIn: number; bytesOut: number; open: number }>()
    for (const connection of connections) {
      const { state } = connection
      const at = listeners.get(connection.listener) ?? { ...this.#listener(connection.listener) }
      listeners.set(at.listener, at)
      at.active += 1
      countAt(at, connection.facts, undefined)
      if (state.phase !== 'open') continue
      const { host, port } = connection.service()
      const service = serviceOf(host, port, connection.facts.upstream)
      const cell = this.#cell(service, connection.peer?.proof?.svid.id.trustDomain ?? '')
      const sum = live.get(cell) ?? { bytesIn: 0, bytesOut: 0, open: 0 }
      sum.bytesIn += connection.headBytes + state.pump.bytesIn
      sum.bytesOut += state.pump.bytesOut
      sum.open += 1
      live.set(cell, sum)
    }
    const traffic = [...this.#cells.values()].flatMap((peers) =>
      [...peers.values()].map((cell): TrafficCounters => {
        const { bytesIn = 0, bytesOut = 0, open = 0 } = live.get(cell) ?? {}
        return { ...cell, bytesIn: cell.bytesIn + bytesIn, bytesOut: cell.bytesOut + bytesOut, open }
      }),
    )
    const [handshake, connect, duration] = [this.#handshake, this.#connect, this.#duration].map((one) =>
      one.take(),
    ) as [Histogram, Histogram, Histogram]
    return { traffic, listenerCounters: [...listeners.values()], handshake, connect, duration }
  }

  #listener(name: string): ListenerCell {
    const listener = this.#listeners.size < MAX_LISTENERS || this.#listeners.has(name) ? name : OTHER
    const found = this.#listeners.get(listener)
    if (found !== undefined) return found
    const cell = { listener, ...NO_CONNECTION }
    this.#listeners.set(listener, cell)
    return cell
  }

  #cell(service: string, peerTrustDomain: string): Cell {
    const found = this.#cells.get(service)?.get(peerTrustDomain)
    if (found !== undefined) return found
    const full = this.#pairs >= MAX_PAIRS && service !== OTHER
    if (full) return this.#cell(OTHER, OTHER)
    const peers = this.#cells.get(service) ?? new Map<string, Cell>()
    const cell: Cell = { service, peerTrustDomain, ended: {}, bytesIn: 0, bytesOut: 0 }
    this.#cells.set(service, peers.set(peerTrustDomain, cell))
    this.#pairs += 1
    return cell
  }
}

function countAt(
  cell: ListenerCell,
  { handshakeMs, rule }: Pick<AccessLogEntry, 'handshakeMs' | 'rule'>,
  flag: ResponseFlag | undefined,
): void {
  cell.accepted += 1
  if (handshakeMs >= 0) cell.handshakes += 1
  if (flag === 'TLS_HANDSHAKE') cell.handshakeFailures += 1
  if (flag === 'ID_REFUSED') cell.certificatesRefused += 1
  if (flag === 'TLS_SNI') cell.noFilterChain += 1
  if (flag === 'RBAC_DENIED') cell.rbacDenied += 1
  else if (rule !== '') cell.rbacAllowed += 1
}

function serviceOf(host: string, port: number, name: string): string {
  return host === '' ? name : `${host}:${port}`
}

class HistogramRecorder {
  readonly #boundsMs: readonly number[]
  readonly #counts: number[]
  #sumMs = 0

  constructor(boundsMs: readonly number[]) {
    this.#boundsMs = boundsMs
    this.#counts = new Array<number>(boundsMs.length + 1).fill(0)
  }

  add(ms: number): void {
    let at = 0
    while (at < this.#boundsMs.length && ms > (this.#boundsMs[at] as number)) at += 1
    this.#counts[at] = (this.#counts[at] as number) + 1
    this.#sumMs += ms
  }

  take(): Histogram {
    return { boundsMs: this.#boundsMs, counts: [...this.#counts], sumMs: this.#sumMs }
  }
}
