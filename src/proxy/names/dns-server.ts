import { createSocket, type Socket as DatagramSocket, type RemoteInfo } from 'node:dgram'
import { type AddressInfo, createServer, isIPv6, type Server, type Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { Logger } from '../../lib/log.ts'
import { type Authority, formatAuthority } from './authority.ts'
import { DnsForwarder, type DnsTransport } from './dns-forwarder.ts'
import { addressAnswer, type DnsQuery, errorAnswer, parseQuery, RCODE, truncated } from './dns-message.ts'
import { FrameReader, frame } from './dns-stream.ts'
import type { BoundDescriptor } from './local-server.ts'
import type { NameTable } from './name-table.ts'

export interface DnsServerOptions {
  readonly names: NameTable
  /** Resolvers for all other names, by preference. Our own address among them is left out, with a warning. */
  readonly upstreams: readonly Authority[]
  readonly logger: Logger
  /** Queries that wait for a resolver at one time; more are answered SERVFAIL at once. Default 1,000. */
  readonly maxInFlight?: number
  /** TCP clients at one time. Default 100. */
  readonly maxConnections?: number
  /** How long a TCP client may stay silent, milliseconds. Default 10,000 (RFC 7766 section 6.2.3). */
  readonly idleMs?: number
  /** How long one resolver may take, milliseconds. Default 1,500. */
  readonly attemptMs?: number
}

/**
 * A DNS server on UDP and TCP that answers for the names of the table and passes everything else on.
 *
 * A name of ours is never passed on, whatever the type: an AAAA or HTTPS answer from elsewhere would lead clients around
 * the sidecar.
 */
export class DnsServer {
  readonly transports = ['tcp', 'udp'] as const
  readonly #options: DnsServerOptions
  readonly #server: Server
  readonly #clients = new Set<Socket>()
  #datagrams: DatagramSocket | undefined
  #forwarder = new DnsForwarder({ upstreams: [] })
  #inFlight = 0

  constructor(options: DnsServerOptions) {
    this.#options = options
    this.#server = createServer({ noDelay: true }, (socket) => this.#serve(socket))
    this.#server.maxConnections = options.maxConnections ?? 100
  }

  /** Takes one address for both transports, by `tcp` and `udp` where they are given. With port 0 the system picks a port that is free for both. */
  async listen(host: string, port: number, tcp?: BoundDescriptor, udp?: BoundDescriptor): Promise<Authority> {
    const address = await this.#bind(host, port, tcp, udp)
    const upstreams = this.#options.upstreams.filter((upstream) => !isOurs(upstream, address))
    if (upstreams.length < this.#options.upstreams.length) {
      this.#options.logger.warn(
        { dns: formatAuthority(address) },
        'left out an upstream resolver that is this server itself',
      )
    }
    const { attemptMs } = this.#options
    this.#forwarder = new DnsForwarder({ upstreams, ...(attemptMs !== undefined && { attemptMs }) })
    return address
  }

  /** Stops at once: clients ask again. */
  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy()
    const datagrams = this.#datagrams
    this.#datagrams = undefined
    if (datagrams !== undefined) await new Promise<void>((resolve) => datagrams.close(() => resolve()))
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  async #bind(host: string, port: number, tcp: BoundDescriptor, udp: BoundDescriptor): Promise<Authority> {
    for (let attempt = 1; ; attempt++) {
      await listening(this.#server, () =>
        this.#server.listen(tcp === undefined ? { host, port } : { fd: tcp }),
      )
      const { address, port: actual } = this.#server.address() as AddressInfo
      const datagrams = createSocket({
        type: isIPv6(address) ? 'udp6' : 'udp4',
        // Where our launcher could not make one for all of us.
        reusePort: tcp !== undefined && udp === undefined,
      })
      try {
        await listening(datagrams, () =>
          udp === undefined ? datagrams.bind(actual, address) : datagrams.bind({ fd: udp }),
        )
        datagrams.on('message', (message, from) => void this.#answerDatagram(datagrams, message, from))
        datagrams.on('error', (error) => this.#options.logger.warn({ err: error }, 'dns socket'))
        this.#datagrams = datagrams
        return { host: address, port: actual }
      } catch (error) {
        datagrams.close()
        await new Promise<void>((resolve) => this.#server.close(() => resolve()))
        if (port !== 0 || tcp !== undefined || attempt === 10) throw error
      }
    }
  }

  async #answerDatagram(socket: DatagramSocket, message: Buffer, from: RemoteInfo): Promise<void> {
    const reply = await this.#answer(message, 'udp')
    // Our socket may have been closed meanwhile; an answer that cannot be sent is as good as a lost one.
    if (reply !== undefined && this.#datagrams === socket)
      socket.send(reply, from.port, from.address, () => {})
  }

  #serve(socket: Socket): void {
    const reader = new FrameReader()
    this.#clients.add(socket)
    socket.setTimeout(this.#options.idleMs ?? 10_000, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => this.#clients.delete(socket))
    socket.on('data', async (chunk) => {
      // One batch at a time: a client that sends faster than resolvers answer is held back by TCP.
      socket.pause()
      const replies = await Promise.all(reader.push(chunk).map((message) => this.#answer(message, 'tcp')))
      if (socket.destroyed) return
      for (const reply of replies) if (reply !== undefined) socket.write(frame(reply))
      socket.resume()
    })
  }

  async #answer(message: Buffer, transport: DnsTransport): Promise<Buffer | undefined> {
    const parsed = parseQuery(message)
    if (!parsed.ok) return parsed.error
    const query = parsed.value
    const addresses = this.#options.names.lookup(query.name)
    const reply =
      addresses === undefined ? await this.#forward(query, transport) : addressAnswer(query, addresses)
    return transport === 'udp' ? truncated(query, reply) : reply
  }

  async #forward(query: DnsQuery, transport: DnsTransport): Promise<Buffer> {
    if (this.#inFlight >= (this.#options.maxInFlight ?? 1_000)) return errorAnswer(query, RCODE.servFail)
    this.#inFlight++
    try {
      return (await this.#forwarder.forward(query, transport)) ?? errorAnswer(query, RCODE.servFail)
    } finally {
      this.#inFlight--
    }
  }
}

/** True when asking `upstream` would mean asking ourselves, for ever. */
function isOurs(upstream: Authority, own: Authority): boolean {
  if (upstream.port !== own.port) return false
  if (upstream.host === own.host) return true
  const everywhere = own.host === '0.0.0.0' || own.host === '::'
  if (!everywhere) return false
  const local = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  return upstream.host.startsWith('127.') || local.some(({ address }) => address === upstream.host)
}

function listening(
  server: {
    once(event: string, callback: (error: Error) => void): unknown
    off(event: string, callback: (error: Error) => void): unknown
  },
  start: () => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onListening = () => {
      server.off('error', onError)
      resolve()
    }
    const onError = (error: Error) => {
      server.off('listening', onListening)
      reject(error)
    }
    server.once('listening', onListening)
    server.once('error', onError)
    start()
  })
}
