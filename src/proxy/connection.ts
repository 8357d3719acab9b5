import type { Socket } from 'node:net'
import type { VerifiedSvid } from '../identity/verify-svid.ts'
import type { Clock } from '../lib/clock.ts'
import type { ListenerConfig } from '../resources/accept-types.ts'
import type { AccessLogEntry, Ending } from './access-log.ts'
import type { ServerProof } from './connector.ts'
import { lingeringClose } from './linger.ts'
import { type Pump, type PumpEnd, reset } from './pump.ts'
import type { Caller } from './rbac.ts'
import { type NamedService, parseUpstreamName } from './upstream-name.ts'

/** Where a connection is in its life. It only moves downwards, and ends once. */
export type ConnectionState =
  /** Its ClientHello is not whole yet. */
  | { readonly phase: 'hello' }
  /** It waits for its turn, or is in its TLS handshake. */
  | { readonly phase: 'handshake' }
  /** The caller is known and allowed; the upstream is being connected. */
  | { readonly phase: 'connecting' }
  /** Bytes flow. */
  | { readonly phase: 'open'; readonly pump: Pump }
  | { readonly phase: 'ended'; readonly ending: Ending }

/** Who is calling, with what is needed to judge him again later. */
export interface Peer {
  readonly caller: Caller
  /** Undefined: his identity is not ours to verify (passthrough, plain TCP). */
  readonly proof:
    | {
        readonly svid: VerifiedSvid
        /** When it was verified first, milliseconds since the epoch. */
        readonly atMs: number
      }
    | undefined
}

/** Between whom a connection is; empty and 0 for a client inside this process. */
export type Addresses = Pick<Caller, 'remoteIp' | 'directRemoteIp' | 'destinationIp' | 'port'>

const NO_ADDRESSES: Addresses = { remoteIp: '', directRemoteIp: '', destinationIp: '', port: 0 }

export interface ConnectionInit {
  readonly listener: string
  readonly service: ListenerConfig['service']
  readonly remoteAddress: string
}

/** What all connections of an engine share. */
export interface ConnectionOwner {
  readonly clock: Clock
  readonly onEnd: (connection: Connection, entry: AccessLogEntry) => void
}

/** The connection that a socket of a client's is of: its listeners are the same functions for all. */
const CONNECTION = Symbol('connection')

interface Watched extends Socket {
  [CONNECTION]: Connection
}

function failed(this: Watched, error: NodeJS.ErrnoException): void {
  this[CONNECTION].failed(this, error)
}

function closed(this: Watched): void {
  const connection = this[CONNECTION]
  try {
    connection.closed(this)
  } catch (error) {
    // A bug of ours, which must not keep the socket's other listeners from hearing of its end.
    connection.end({ flag: 'BUG', reason: error instanceof Error ? error.message : String(error) }, 'reset')
  }
}

/** What is to be done when a connection has ended. */
export type Cleanup = (connection: Connection) => void

/** How to part: in order, with a reset so that nobody takes a cut stream for a whole one, or not at all (it is gone already). */
export type Parting = 'close' | 'reset' | 'leave'

type Facts = Pick<
  AccessLogEntry,
  | 'upstream'
  | 'sni'
  | 'alpn'
  | 'tlsVersion'
  | 'rule'
  | 'shadowRule'
  | 'endpoint'
  | 'connectMs'
  | 'handshakeMs'
>

/** One downstream connection from accept to its access log line. */
export class Connection {
  readonly listener: string
  readonly startedMs: number
  /** Undefined while an in-process client (SOCKS, CONNECT) waits for its upstream. */
  downstream: PumpEnd | undefined
  /** The key of the filter chain that serves it. */
  chain = ''
  addresses: Addresses = NO_ADDRESSES
  /** `ip:port` of whoever speaks for the client by the PROXY protocol. */
  directRemoteAddress = ''
  /** `ip:port` of the client. */
  remoteAddress: string
  peer: Peer | undefined
  /** Who serves it upstream, where that is known. */
  server: ServerProof | undefined
  /** Bytes that were read from the client before it was spliced. */
  headBytes = 0
  /** For `judgeOverhead`: what it found when it last looked. */
  overheadSeen = 0
  /** For `watchExpiry`: when the timer that it has set ends this. Milliseconds since the epoch. */
  expiresAtMs = Infinity
  /** Whoever finds something out writes it down here. */
  readonly facts: { -readonly [K in keyof Facts]: Facts[K] } = {
    upstream: '',
    sni: '',
    alpn: '',
    tlsVersion: '',
    rule: '',
    shadowRule: '',
    endpoint: '',
    connectMs: -1,
    handshakeMs: -1,
  }
  readonly #init: ConnectionInit
  readonly #owner: ConnectionOwner
  #cleanups: readonly Cleanup[] = []
  #phaseCleanup: (() => void) | undefined
  #state: ConnectionState
  readonly #begunMs = performance.now()
  #cancelDeadline: (() => void) | undefined

  constructor(init: ConnectionInit, owner: ConnectionOwner, state: ConnectionState) {
    this.#init = init
    this.#owner = owner
    this.listener = init.listener
    this.startedMs = owner.clock.now()
    this.remoteAddress = init.remoteAddress
    this.#state = state
  }

  get state(): ConnectionState {
    return this.#state
  }

  get ended(): boolean {
    return this.#state.phase === 'ended'
  }

  /** Whole milliseconds since the accept, by a clock that nobody can set: deadlines are reckoned with it. */
  get elapsedMs(): number {
    return Math.round(performance.now() - this.#begunMs)
  }

  /** The next phase. The deadline of the last one no longer counts. */
  advance(state: Exclude<ConnectionState, { phase: 'ended' }>): void {
    if (this.ended) return
    this.#state = state
    this.#cancelDeadline?.()
    this.#cancelDeadline = undefined
    this.#leavePhase()
  }

  #leavePhase(): void {
    const cleanup = this.#phaseCleanup
    this.#phaseCleanup = undefined
    cleanup?.()
  }

  /** Ends the connection with `ending` unless the next phase comes first. */
  deadline(ms: number, ending: Ending, parting: Parting = 'close'): void {
    this.#cancelDeadline?.()
    this.#cancelDeadline = this.#owner.clock.after(ms, () => this.end(ending, parting))
  }

  /** Ends the connection with `ending` at some time, whatever the phase. */
  limit(ms: number, ending: Ending): void {
    this.onEnd(this.#owner.clock.after(ms, () => this.end(ending, 'reset')))
  }

  /**
   * Runs when the connection ends; at once where it has. It is held as long as the connection is open, which may be for days: give it
   * a function that is shared and takes the connection, rather than one that keeps alive what was needed to open it.
   */
  onEnd(cleanup: Cleanup): void {
    if (this.ended) cleanup(this)
    // Not pushed: an array that grows makes room for another sixteen.
    else this.#cleanups = [...this.#cleanups, cleanup]
  }

  /** Runs when the phase is over or the connection ends, and is forgotten then; at once where it has ended. One for each phase. */
  onPhaseEnd(cleanup: () => void): void {
    if (this.ended) cleanup()
    else this.#phaseCleanup = cleanup
  }

  /** Watches a downstream socket until it belongs to somebody who does. */
  watch(socket: Socket): void {
    ;(socket as Watched)[CONNECTION] = this
    socket.on('error', failed)
    socket.on('close', closed)
  }

  /** A socket of the client's failed. */
  failed(socket: Socket, error: NodeJS.ErrnoException): void {
    // The pump watches for itself, and resets the other side.
    if (this.#state.phase === 'open') return
    this.end(
      { flag: 'DC', reason: `the client broke the connection: ${error.code ?? error.message}` },
      'leave',
    )
    // A fault inside an established TLS connection does not close its socket (Node).
    socket.destroy()
  }

  /** A socket of the client's is closed. */
  closed(socket: Socket): void {
    const { phase } = this.#state
    // On Bun the socket below is closed with the client's FIN, while the TLS stream goes on: it is watched too.
    const stream = this.downstream?.stream
    if (stream !== undefined && stream !== socket && !stream.destroyed) return
    // TLS says why it closed a socket only after it has closed it.
    if (phase === 'handshake') setImmediate(() => this.#left(phase))
    else if (phase !== 'open') this.#left(phase)
  }

  #left(phase: ConnectionState['phase']): void {
    this.end({ flag: 'DC', reason: `the client left while ${DOING[phase]}` }, 'leave')
  }

  /** The one end: first call counts. Closes what is open, writes the log line. */
  end(ending: Ending, parting: Parting, lastWords?: Buffer): void {
    const before = this.#state
    if (before.phase === 'ended') return
    this.#state = { phase: 'ended', ending }
    this.#cancelDeadline?.()
    if (before.phase === 'open') {
      if (parting === 'close') before.pump.close()
      if (parting === 'reset') before.pump.abort()
    } else if (this.downstream !== undefined) {
      if (parting === 'close') lingeringClose(this.downstream, this.#owner.clock, lastWords)
      if (parting === 'reset') reset(this.downstream)
    }
    this.#leavePhase()
    for (const cleanup of this.#cleanups) cleanup(this)
    this.#owner.onEnd(this, this.#entry(ending, before))
  }

  /** Whether its listener is the front door of one service, whatever a client asks for. */
  get listenerNamesService(): boolean {
    return this.#init.service.host !== ''
  }

  /** Its service, as far as the listener or the server name tells. */
  service(): NamedService {
    const { service } = this.#init
    const named = parseUpstreamName(this.facts.upstream || this.facts.sni)
    return { host: service.host || named.host, port: service.port || named.port, subset: named.subset }
  }

  #entry({ flag, reason }: Ending, before: ConnectionState): AccessLogEntry {
    const { listener } = this.#init
    const pump = before.phase === 'open' ? before.pump : undefined
    return {
      time: new Date(this.startedMs).toISOString(),
      listener,
      upstream: this.facts.upstream,
      ...this.service(),
      sni: this.facts.sni,
      remoteAddress: this.remoteAddress,
      directRemoteAddress: this.directRemoteAddress,
      peerId: this.peer?.proof?.svid.id.uri ?? '',
      peerTrustDomain: this.peer?.proof?.svid.id.trustDomain ?? '',
      caller: this.peer === undefined ? '' : this.peer.proof === undefined ? 'unverified' : 'verified',
      alpn: this.facts.alpn,
      tlsVersion: this.facts.tlsVersion,
      rule: this.facts.rule,
      shadowRule: this.facts.shadowRule,
      endpoint: this.facts.endpoint,
      bytesIn: this.headBytes + (pump?.bytesIn ?? 0),
      bytesOut: pump?.bytesOut ?? 0,
      durationMs: this.elapsedMs,
      connectMs: this.facts.connectMs,
      handshakeMs: this.facts.handshakeMs,
      flag,
      reason,
    }
  }
}

const DOING: Readonly<Record<ConnectionState['phase'], string>> = {
  hello: 'its ClientHello was awaited',
  handshake: 'in its handshake',
  connecting: 'the upstream was being connected',
  open: 'open',
  ended: 'ended',
}
