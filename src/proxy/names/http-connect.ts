import { createServer as createHttpServer, type IncomingMessage, STATUS_CODES } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type Authority, formatAuthority, parseAuthority } from './authority.ts'
import type { Dialer, DialFailureKind } from './dialer.ts'
import { type BoundDescriptor, handOver, listenLocally, PendingSockets } from './local-server.ts'

const STATUS_OF: Readonly<Record<DialFailureKind, number>> = {
  unresolved: 502,
  refused: 502,
  unavailable: 503,
  timeout: 504,
  unreachable: 502,
}

export interface HttpConnectOptions {
  readonly dialer: Dialer
  /** From accept to the end of the request's head, milliseconds. Default 10,000. */
  readonly headMs?: number
  /** Default 4,096. */
  readonly maxConnections?: number
}

/** An HTTP proxy on loopback that knows CONNECT only (RFC 9110 section 9.3.6): `curl --proxytunnel --proxy http://127.0.0.1:15081`. */
export class HttpConnectServer {
  readonly transports = ['tcp'] as const
  readonly #dialer: Dialer
  readonly #headMs: number
  /** Listens, and not the HTTP server, which Bun cannot give a descriptor: it would open a port of its own to everybody. */
  readonly #server: Server
  readonly #http = createHttpServer({ maxHeaderSize: 16_384 })
  readonly #pending = new PendingSockets()
  readonly #deadlines = new Map<Duplex, NodeJS.Timeout>()

  constructor(options: HttpConnectOptions) {
    this.#dialer = options.dialer
    this.#headMs = options.headMs ?? 10_000
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket))
    this.#server.maxConnections = options.maxConnections ?? 4_096
    this.#http.on('connect', (request, socket, head) => void this.#connect(request, socket, head))
    this.#http.on('request', (request, response) => {
      this.#inTime(request.socket)
      const body = `${request.method} is not spoken here, only CONNECT: use curl --proxytunnel\n`
      response
        .writeHead(405, { allow: 'CONNECT', 'content-type': 'text/plain', connection: 'close' })
        .end(body)
    })
    this.#http.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
      answer(socket, error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400, 'not a request of HTTP/1.1')
    })
  }

  listen(host: string, port: number, fd?: BoundDescriptor): Promise<Authority> {
    return listenLocally(this.#server, { host, port }, fd)
  }

  /** Stops accepting; resolves once all who came before have their target, were refused it, or let the deadline of the head pass. */
  drain(): Promise<void> {
    this.#server.close()
    return this.#pending.whenEmpty()
  }

  /** Stops accepting and ends what has not got its target yet; connections that stand go on. */
  close(): void {
    this.#server.close()
    this.#pending.destroyAll()
  }

  #accept(socket: Socket): void {
    this.#pending.add(socket)
    const late = () => answer(socket, 408, `no whole request within ${this.#headMs} ms`)
    this.#deadlines.set(socket, setTimeout(late, this.#headMs))
    socket.once('close', () => this.#inTime(socket))
    this.#http.emit('connection', socket)
  }

  #inTime(socket: Duplex): void {
    clearTimeout(this.#deadlines.get(socket))
    this.#deadlines.delete(socket)
  }

  // An HTTP server's socket is a net.Socket; Node types it as the Duplex that an embedder may put in its place.
  async #connect(request: IncomingMessage, duplex: Duplex, head: Buffer): Promise<void> {
    const socket = duplex as Socket
    this.#inTime(socket)
    socket.on('error', () => {})
    socket.pause()
    const target = parseAuthority(request.url ?? '')
    if (!target.ok) return answer(socket, 400, target.error)
    if (target.value.port === 0) return answer(socket, 400, `port 0 in ${formatAuthority(target.value)}`)
    const dialled = await this.#dialer.dial(target.value, socket.remoteAddress ?? '')
    if (!dialled.ok) return answer(socket, STATUS_OF[dialled.error.kind], dialled.error.message)
    if (socket.destroyed) return dialled.value.close()
    this.#pending.release(socket)
    socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
    handOver(socket, dialled.value, head)
  }
}

/** The reason stands in the body and, for clients that show no body of a refused CONNECT, in a header. */
function answer(socket: Duplex, status: number, reason: string): void {
  const line = reason.replace(/[^ -~]/g, '?')
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'content-type: text/plain',
    `content-length: ${line.length + 1}`,
    `x-isthmus-reason: ${line}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${line}\n`)
  if ('destroySoon' in socket) (socket as Socket).destroySoon()
}
