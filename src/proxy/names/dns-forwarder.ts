import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { createConnection, isIPv6 } from 'node:net'
import type { Authority } from './authority.ts'
import { type DnsQuery, isReplyTo, RCODE, withId } from './dns-message.ts'
import { FrameReader, frame } from './dns-stream.ts'

export interface DnsForwarderOptions {
  /** Resolvers by preference; the first that gives an answer wins. */
  readonly upstreams: readonly Authority[]
  /** How long one resolver may take, milliseconds. Default 1,500. */
  readonly attemptMs?: number
  /** How often the whole list is tried. Default 2: a lost datagram is not an outage. */
  readonly rounds?: number
}

export type DnsTransport = 'udp' | 'tcp'

/**
 * Passes a query on to other resolvers, as it came but for its id, and over the transport it came by: an answer too long for
 * UDP comes back with TC set, as the resolver sent it, and the client asks us again over TCP (RFC 5625 section 4.4).
 *
 * Each attempt has its own socket, hence its own random port, and takes an answer only from the resolver it asked, to the
 * question it asked: what is left to guess for a forger is RFC 5452's best.
 */
export class DnsForwarder {
  readonly #upstreams: readonly Authority[]
  readonly #attemptMs: number
  readonly #rounds: number

  constructor(options: DnsForwarderOptions) {
    this.#upstreams = options.upstreams
    this.#attemptMs = options.attemptMs ?? 1_500
    this.#rounds = options.rounds ?? 2
  }

  /** The answer, with the client's id; undefined when no resolver gave one. */
  async forward(query: DnsQuery, transport: DnsTransport): Promise<Buffer | undefined> {
    const ask = transport === 'udp' ? askByDatagram : askByStream
    let second: Buffer | undefined
    for (let round = 0; round < this.#rounds && second === undefined; round++) {
      for (const upstream of this.#upstreams) {
        const sent = withId(query.message, randomInt(65_536))
        const reply = await ask(upstream, sent, query.questionEnd, this.#attemptMs)
        if (reply === undefined) continue
        const answer = withId(reply, query.message.readUInt16BE(0))
        if (!isExcuse(reply)) return answer
        second ??= answer
      }
    }
    return second
  }
}

/** SERVFAIL and REFUSED: the next resolver may know better. */
function isExcuse(reply: Buffer): boolean {
  const rcode = reply.readUInt16BE(2) & 0x000f
  return rcode === RCODE.servFail || rcode === RCODE.refused
}

function askByDatagram(
  to: Authority,
  sent: Buffer,
  questionEnd: number,
  ms: number,
): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(to.host) ? 'udp6' : 'udp4')
    const finish = (reply?: Buffer) => {
      clearTimeout(timer)
      socket.removeAllListeners().on('error', () => {})
      socket.close()
      resolve(reply)
    }
    const timer = setTimeout(finish, ms)
    // Connected: the kernel drops what others send, and "port unreachable" arrives as an error at once.
    socket.on('error', () => finish())
    socket.on('message', (reply) => {
      if (isReplyTo(sent, questionEnd, reply)) finish(reply)
    })
    socket.connect(to.port, to.host, () => socket.send(sent))
  })
}

function askByStream(
  to: Authority,
  sent: Buffer,
  questionEnd: number,
  ms: number,
): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection(to)
    const reader = new FrameReader()
    const finish = (reply?: Buffer) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(reply)
    }
    const timer = setTimeout(finish, ms)
    socket.on('error', () => finish())
    socket.on('close', () => finish())
    socket.on('data', (chunk) => {
      const reply = reader.push(chunk).find((message) => isReplyTo(sent, questionEnd, message))
      if (reply !== undefined) finish(reply)
    })
    socket.write(frame(sent))
  })
}
