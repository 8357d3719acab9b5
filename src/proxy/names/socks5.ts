import { createServer, type Server, type Socket } from 'node:net'
import type { Authority } from './authority.ts'
import type { Dialer, DialFailureKind } from './dialer.ts'
import { type BoundDescriptor, handOver, listenLocally, PendingSockets } from './local-server.ts'
import { METHOD_CHOSEN, parseGreeting, parseRequest, REPLY, reply } from './socks5-message.ts'

/** RFC 1928 has no code for "one of ours, but nothing healthy": host unreachable says it best. */
const REPLY_OF: Readonly<Record<DialFailureKind, number>> = {
  unresolved: REPLY.hostUnreachable,
  refused: REPLY.refused,
  unavailable: REPLY.hostUnreachable,
  timeout: REPLY.ttlExpired,
  unreachable: REPLY.networkUnreachable,
}

export interface Socks5Options {
  readonly dialer: Dialer
  /** From accept to the whole request, milliseconds. Default 10,000. */
  readonly handshakeMs?: number
  /** Default 4,096. */
  readonly maxConnections?: number
}

/** A SOCKS5 server on loopback: CONNECT without authentication, by name (`socks5h`) or address (RFC 1928). */
export class Socks5Server {
  readonly transports = ['tcp'] as const
  readonly #dialer: Dialer
  readonly #handshakeMs: number
  readonly #server: Server
  readonly #pending = new PendingSockets()

  constructor(options: Socks5Options) {
    this.#dialer = options.dialer
    this.#handshakeMs = options.handshakeMs ?? 10_000
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#handshake(socket))
    this.#server.maxConnections = options.maxConnections ?? 4_096
  }

  listen(host: string, port: number, fd?: BoundDescriptor): Promise<Authority> {
    return listenLocally(this.#server, { host, port }, fd)
  }

  /** Stops accepting; resolves once all who came before have their target, were refused it, or let the deadline of the handshake pass. */
  drain(): Promise<void> {
    this.#server.close()
    return this.#pending.whenEmpty()
  }

  /** Stops accepting and ends what has not got its target yet; connections that stand go on. */
  close(): void {
    this.#server.close()
    this.#pending.destroyAll()
  }

  #handshake(socket: Socket): void {
    this.#pending.add(socket)
    socket.on('error', () => {})
    let bytes: Buffer = Buffer.alloc(0)
    let greeted = false
    const giveUp = () => socket.destroy()
    const deadline = setTimeout(giveUp, this.#handshakeMs)
    const finish = () => {
      clearTimeout(deadline)
      socket.off('data', onData).off('end', giveUp).off('close', finish).pause()
    }
    const onData = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      if (!greeted) {
        const greeting = parseGreeting(bytes)
        if (greeting.state === 'refused') sayLast(socket, greeting.last)
        if (greeting.state !== 'done') return
        greeted = true
        bytes = greeting.rest
        socket.write(METHOD_CHOSEN)
      }
      const request = parseRequest(bytes)
      if (request.state === 'refused') sayLast(socket, request.last)
      if (request.state !== 'done') return
      finish()
      void this.#connect(socket, request.value, request.rest)
    }
    socket.on('data', onData).on('end', giveUp).on('close', finish)
  }

  async #connect(socket: Socket, target: Authority, head: Buffer): Promise<void> {
    const dialled = await this.#dialer.dial(target, socket.remoteAddress ?? '')
    if (!dialled.ok) return sayLast(socket, reply(REPLY_OF[dialled.error.kind]))
    if (socket.destroyed) return dialled.value.close()
    this.#pending.release(socket)
    socket.write(reply(REPLY.succeeded))
    handOver(socket, dialled.value, head)
  }
}

function sayLast(socket: Socket, bytes: Buffer): void {
  socket.end(bytes)
  socket.destroySoon()
}
