// The xDS server: gRPC on node:http2, so that one encoding can go to every client (grpc-js copies each message per stream).
import { chmodSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import {
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { SecureContextOptions, TLSSocket, TlsOptions } from 'node:tls'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { isLoopback } from '../lib/loopback.ts'
import { STATUS_METHODS, type StatusLimits } from './client-status.ts'
import { closeSoon, GRPC, type Refusal, trailersOf } from './grpc.ts'
import { METHODS, type Method, REVERSE_PATH } from './methods.ts'
import { type ClientStatus, ServerStream, type StreamHost, type StreamLimits } from './server-stream.ts'
import { serveStatus } from './status-stream.ts'
import { StreamCounts } from './stream-counts.ts'
import type { StreamPeer } from './types.ts'

export interface XdsServerLimits extends StreamLimits, StatusLimits {
  /** Connections of all listeners, each on its own. */
  readonly maxConnections: number
  /** Streams of one connection. */
  readonly maxStreams: number
  /** Streams of one identity, over all its connections: of all pods of one service account. */
  readonly maxStreamsPerIdentity: number
  /** Between HTTP/2 pings to a client, milliseconds. */
  readonly pingIntervalMs: number
  /** A client that leaves a ping unanswered this long is cut, milliseconds. */
  readonly pingTimeoutMs: number
}

const DEFAULT_LIMITS: XdsServerLimits = {
  maxMessageBytes: 16 * 1024 * 1024,
  maxNames: 100_000,
  maxNamesLength: 8 * 1024 * 1024,
  maxTypes: 32,
  maxRequestsPerSecond: 500,
  requestBurst: 20_000,
  ackTimeoutMs: 5_000,
  maxResponseBytes: 3 * 1024 * 1024 - 64 * 1024,
  maxConnections: 10_000,
  maxStreams: 100,
  maxStreamsPerIdentity: 5_000,
  maxStatusBytes: 16 * 1024 * 1024,
  pingIntervalMs: 30_000,
  pingTimeoutMs: 20_000,
}

export interface XdsServerOptions extends Pick<StreamHost, 'authorize' | 'mayServe' | 'logger'> {
  /** False: every stream is refused with UNAVAILABLE. A server that answers before it knows everything takes config away. */
  ready(): boolean
  /** Who a client is, for the number of streams that he may have; undefined: not counted. */
  identify?(peer: StreamPeer): string | undefined
  /** Whether somebody may ask what every client has (CSDS); without it nobody may. */
  mayReadStatus?(peer: StreamPeer): Refusal | undefined
  /** Takes a stream on which the client offers to serve (`REVERSE_PATH`), or says why not. Without it there is no such method. */
  onReverse?(stream: ServerHttp2Stream, peer: StreamPeer): Refusal | undefined
  readonly clock?: Clock
  readonly limits?: Partial<XdsServerLimits>
}

export type ServerTls = SecureContextOptions & TlsOptions

/** TCP, over TLS with client certificates or else on loopback only; or a unix socket (mode 0600). */
export type Listen =
  | { readonly host: string; readonly port: number; readonly tls?: ServerTls; readonly path?: never }
  | { readonly path: string }

export type Listening = { readonly host: string; readonly port: number } | { readonly path: string }

export class XdsServer {
  readonly #options: XdsServerOptions
  readonly #limits: XdsServerLimits
  readonly #host: StreamHost
  readonly #servers = new Set<Http2Server | Http2SecureServer>()
  readonly #sessions = new Set<ServerHttp2Session>()
  /** Also those that are no session yet: a TLS handshake that is never finished would hold up `close`. */
  readonly #sockets = new Set<Socket>()
  readonly #streams = new Set<ServerStream>()
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #counts: StreamCounts
  /** Who waits for streams to settle, and for which. */
  readonly #waiting = new Set<{ readonly streams: Set<ServerStream>; done(): void }>()
  #closing = false

  constructor(options: XdsServerOptions) {
    this.#options = options
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#clock = options.clock ?? systemClock
    this.#logger = options.logger
    this.#counts = new StreamCounts(this.#limits.maxStreamsPerIdentity)
    this.#host = {
      authorize: (peer, node, typeUrl) => options.authorize(peer, node, typeUrl),
      mayServe: (peer, source, typeUrl) => options.mayServe?.(peer, source, typeUrl) ?? true,
      refused: (why) => this.#counts.refused(why),
      settled: (stream) => this.#settled(stream),
      logger: this.#logger,
      clock: this.#clock,
      limits: this.#limits,
    }
  }

  /**
   * Opens a listener; may be called several times. Rejects when the address is taken, or when it is neither TLS, loopback nor a
   * unix socket. A unix socket that nobody serves any more is replaced.
   */
  async listen(at: Listen): Promise<Listening> {
    const tls = 'tls' in at ? at.tls : undefined
    if (at.path === undefined && tls === undefined && !isLoopback(at.host))
      throw new Error(`xDS in clear is served on a loopback address or a unix socket only, not on ${at.host}`)
    const server = tls === undefined ? createServer(this.#http2Options()) : this.#secureServer(tls)
    server.maxConnections = this.#limits.maxConnections
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    server.on('session', (session) => this.#onSession(session))
    server.on('sessionError', (error: Error) => this.#logger.debug({ err: error }, 'xds connection error'))
    server.on('stream', (stream, headers) => this.#onStream(stream, headers, tls !== undefined))
    if (at.path !== undefined) await removeStaleSocket(at.path)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      const done = () => {
        server.off('error', reject)
        resolve()
      }
      if (at.path === undefined) server.listen(at.port, at.host, done)
      else server.listen(at.path, done)
    })
    server.on('error', (error) => this.#logger.error({ err: error }, 'xds listener error'))
    this.#servers.add(server)
    if (at.path !== undefined) {
      chmodSync(at.path, 0o600)
      return { path: at.path }
    }
    const { address, port } = server.address() as AddressInfo
    return { host: address, port }
  }

  /** New certificate, key and trust for connections to come; open ones stay as they are (see `reauthorize`). */
  setSecureContext(options: ServerTls): void {
    for (const server of this.#servers) {
      if (!('setSecureContext' in server)) continue
      server.setSecureContext(options)
      // Read at each connection; `setSecureContext` leaves it as it was.
      Object.assign(server, { rejectUnauthorized: options.rejectUnauthorized ?? true })
    }
  }

  /** Puts every open stream to `authorize` again: one that is refused now ends, one with another view gets the difference. */
  reauthorize(): void {
    for (const stream of [...this.#streams]) stream.reauthorize()
  }

  /** One entry per open stream. */
  clients(): ClientStatus[] {
    return [...this.#streams].map((stream) => stream.status())
  }

  /** What was refused since the start, by reason. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#counts.refusals
  }

  /**
   * Resolves true once every stream that is open now has been sent, and has answered, all that there is for it to know; false if
   * some have not after `timeoutMs` milliseconds.
   */
  settled(timeoutMs: number): Promise<boolean> {
    const streams = new Set([...this.#streams].filter((stream) => !stream.settled))
    if (streams.size === 0) return Promise.resolve(true)
    return new Promise((resolve) => {
      const end = (all: boolean) => {
        cancel()
        this.#waiting.delete(waiter)
        resolve(all)
      }
      const waiter = { streams, done: () => end(true) }
      const cancel = this.#clock.after(timeoutMs, () => end(false))
      this.#waiting.add(waiter)
    })
  }

  #settled(stream: ServerStream): void {
    for (const { streams, done } of this.#waiting) if (streams.delete(stream) && streams.size === 0) done()
  }

  /**
   * Takes no more streams, waits for what is on its way to be answered (at most half of `graceMs` milliseconds), and ends all
   * streams with UNAVAILABLE; what is not gone after `graceMs` is cut.
   */
  async close(graceMs: number): Promise<void> {
    this.#closing = true
    const closed = [...this.#servers].map((server) => new Promise<void>((done) => server.close(() => done())))
    const cancel = this.#clock.after(graceMs, () => {
      for (const session of this.#sessions) session.destroy()
      for (const socket of this.#sockets) socket.destroy()
    })
    if (graceMs > 0) await this.settled(graceMs / 2)
    for (const stream of [...this.#streams]) stream.end(SHUTTING_DOWN)
    for (const session of this.#sessions) session.close()
    await Promise.all(closed)
    cancel()
    this.#servers.clear()
  }

  #secureServer(tls: ServerTls): Http2SecureServer {
    const server = createSecureServer({
      handshakeTimeout: 5_000,
      ...this.#http2Options(),
      ...tls,
      ALPNProtocols: ['h2'],
      requestCert: true,
    })
    server.on('tlsClientError', ({ message }, socket: TLSSocket) => {
      this.#counts.refused({ code: GRPC.unauthenticated, message, reason: 'tls-handshake' })
      this.#logger.info({ address: addressOf(socket), reason: message }, 'xds TLS handshake failed')
    })
    return server
  }

  /** Caps against floods: rapid reset, SETTINGS, PING, CONTINUATION, HPACK bombs. */
  #http2Options(): ServerOptions {
    return {
      maxSessionMemory: 64,
      maxSessionInvalidFrames: 100,
      maxSessionRejectedStreams: 50,
      maxSettings: 32,
      maxHeaderListPairs: 64,
      maxOutstandingPings: 4,
      streamResetBurst: 200,
      streamResetRate: 20,
      unknownProtocolTimeout: 1_000,
      settings: {
        maxConcurrentStreams: this.#limits.maxStreams,
        maxHeaderListSize: 16_384,
        initialWindowSize: 262_144,
      },
    }
  }

  #onSession(session: ServerHttp2Session): void {
    this.#sessions.add(session)
    session.on('error', (error) => this.#logger.debug({ err: error }, 'xds connection error'))
    session.once('close', () => this.#sessions.delete(session))
    this.#keepAlive(session)
    if (this.#closing) session.close()
  }

  /** A client whose machine went away leaves no FIN: without pings its streams would stay for ever. */
  #keepAlive(session: ServerHttp2Session): void {
    const { pingIntervalMs, pingTimeoutMs } = this.#limits
    let cancel = () => {}
    const wait = () => {
      cancel = this.#clock.after(pingIntervalMs, ping)
    }
    const ping = () => {
      cancel = this.#clock.after(pingTimeoutMs, () => session.destroy())
      session.ping((error) => {
        cancel()
        if (error === null && !session.destroyed) wait()
      })
    }
    session.once('close', () => cancel())
    wait()
  }

  #onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, tls: boolean): void {
    stream.on('error', () => {})
    const session = stream.session
    if (session === undefined || stream.destroyed) return
    const isGrpc = String(headers['content-type'] ?? '').startsWith('application/grpc')
    if (headers[':method'] !== 'POST' || !isGrpc) {
      stream.respond({ ':status': headers[':method'] === 'POST' ? 415 : 405 }, { endStream: true })
      closeSoon(stream, this.#clock)
      return
    }
    const path = headers[':path'] ?? ''
    const peer = peerOf(session)
    const refusal = this.#refusalOf(path, peer, tls) ?? this.#reverse(path, stream, peer)
    if (refusal !== undefined) {
      this.#counts.refused(refusal)
      refuse(stream, refusal, this.#clock)
      return
    }
    if (path === REVERSE_PATH) return
    const status = STATUS_METHODS.get(path)
    if (status !== undefined) this.#serveStatus(stream, status.streaming)
    else this.#serve(stream, METHODS.get(path) as Method, peer)
  }

  #refusalOf(path: string, peer: StreamPeer, tls: boolean): Refusal | undefined {
    const { mayReadStatus } = this.#options
    const isStatus = STATUS_METHODS.has(path) && mayReadStatus !== undefined
    const isReverse = path === REVERSE_PATH && this.#options.onReverse !== undefined
    if (!METHODS.has(path) && !isStatus && !isReverse)
      return { code: GRPC.unimplemented, message: `unknown method ${path}`, reason: 'unknown-method' }
    // Without one it would look like a client in clear, who may have more than a stranger.
    if (tls && peer.certificate === undefined) return NO_CERTIFICATE
    if (this.#closing) return SHUTTING_DOWN
    if (!this.#options.ready())
      return { code: GRPC.unavailable, message: 'not ready yet', reason: 'not-ready' }
    return isStatus ? mayReadStatus(peer) : undefined
  }

  #reverse(path: string, stream: ServerHttp2Stream, peer: StreamPeer): Refusal | undefined {
    return path === REVERSE_PATH ? this.#options.onReverse?.(stream, peer) : undefined
  }

  #serve(stream: ServerHttp2Stream, method: Method, peer: StreamPeer): void {
    const identity = this.#options.identify?.(peer)
    if (!this.#counts.open(identity)) {
      const message = `${identity} has ${this.#limits.maxStreamsPerIdentity} streams already`
      const refusal = { code: GRPC.resourceExhausted, message, reason: 'too-many-streams' }
      this.#counts.refused(refusal)
      refuse(stream, refusal, this.#clock)
      return
    }
    const served = new ServerStream(stream, method.variant, method.onlyType, peer, this.#host)
    this.#streams.add(served)
    stream.once('close', () => {
      this.#streams.delete(served)
      this.#counts.closed(identity)
    })
  }

  #serveStatus(stream: ServerHttp2Stream, streaming: boolean): void {
    serveStatus(stream, streaming, {
      clients: () => [...this.#streams].map((one) => one.config()).filter((one) => one !== undefined),
      refused: (why) => this.#counts.refused(why),
      clock: this.#clock,
      limits: this.#limits,
    })
  }
}

const NO_CERTIFICATE: Refusal = {
  code: GRPC.unauthenticated,
  message: 'a client certificate is required',
  reason: 'no-certificate',
}
const SHUTTING_DOWN: Refusal = {
  code: GRPC.unavailable,
  message: 'server is shutting down',
  reason: 'shutting-down',
}

/** "Trailers-Only": the status in the headers, no body. */
function refuse(stream: ServerHttp2Stream, why: Refusal, clock: Clock): void {
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', ...trailersOf(why) },
    { endStream: true },
  )
  stream.resume()
  closeSoon(stream, clock)
}

function peerOf(session: Http2Session): StreamPeer {
  const socket = session.socket as TLSSocket
  const certificate = session.encrypted ? socket.getPeerX509Certificate()?.raw : undefined
  const name = session.encrypted ? (socket as { servername?: string | false }).servername : undefined
  const serverName = typeof name === 'string' && name !== '' ? { serverName: name } : {}
  return { certificate, address: addressOf(socket), ...serverName }
}

function addressOf(socket: Pick<TLSSocket, 'remoteAddress' | 'remotePort'>): string {
  const { remoteAddress, remotePort } = socket
  if (remoteAddress === undefined) return 'unix'
  return `${remoteAddress.includes(':') ? `[${remoteAddress}]` : remoteAddress}:${remotePort}`
}

/** Removes a socket file that a dead process left; one that is served makes `listen` fail with EADDRINUSE, as it should. */
async function removeStaleSocket(path: string): Promise<void> {
  const stale = await new Promise<boolean>((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(false)
    })
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
  if (stale) await unlink(path)
}
