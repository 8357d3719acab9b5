// A DNS server on loopback that answers every name with what the test gives it.
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { type Answer, decode, encode } from 'dns-packet'
import type { Authority } from '../../src/proxy/names/authority.ts'

export interface Zone {
  readonly A?: readonly string[]
  readonly AAAA?: readonly string[]
  readonly ttl?: number
  /** The name is an alias of this one. */
  readonly alias?: string
  readonly aliasTtl?: number
  readonly rcode?: 'NXDOMAIN' | 'SERVFAIL'
}

export class DnsServer {
  zone: Zone = {}
  readonly asked: string[] = []
  readonly #socket: Socket = createSocket('udp4')

  async listen(): Promise<Authority> {
    this.#socket.bind(0, '127.0.0.1')
    await once(this.#socket, 'listening')
    this.#socket.on('message', (message, from) => {
      const query = decode(message)
      const question = query.questions?.[0]
      if (question === undefined) return
      const type = question.type as 'A' | 'AAAA'
      this.asked.push(`${type} ${question.name}`)
      const { ttl = 30, rcode } = this.zone
      const answers = (rcode === undefined ? (this.zone[type] ?? []) : []).map(
        (data): Answer => ({ type, name: question.name, ttl, data }),
      )
      const code = rcode === 'NXDOMAIN' ? 3 : rcode === 'SERVFAIL' ? 2 : 0
      const { alias, aliasTtl = ttl } = this.zone
      if (alias !== undefined && answers.length > 0)
        answers.unshift({ type: 'CNAME', name: question.name, ttl: aliasTtl, data: alias })
      // AUTHORITATIVE_ANSWER, and the response code in the low bits.
      const reply = encode({
        type: 'response',
        id: query.id ?? 0,
        flags: 0x400 | code,
        questions: [question],
        answers,
      })
      this.#socket.send(reply, from.port, from.address)
    })
    return { host: '127.0.0.1', port: this.#socket.address().port }
  }
  async close(): Promise<void> {
    this.#socket.close()
    await once(this.#socket, 'close')
  }
}
