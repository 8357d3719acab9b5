import * as codec from 'dns-packet'
import type { Authority } from './authority.ts'
import { DnsForwarder } from './dns-forwarder.ts'
import { parseQuery, RCODE } from './dns-message.ts'

export interface DnsAddress {
  readonly address: string
  /** Seconds; the least of the record's own and of the aliases that led to it. */
  readonly ttl: number
}

const NX_DOMAIN = 3
/** What fits into a datagram nearly everywhere (DNS flag day 2020). */
const UDP_SIZE = 1_232

/**
 * Asks name servers for addresses. Our own, because a runtime's may keep answers for longer than their TTL says (Bun: 30 s, failures
 * hidden meanwhile) or not tell the TTL.
 */
export class DnsClient {
  readonly #forwarder: DnsForwarder

  constructor(servers: readonly Authority[], attemptMs?: number) {
    this.#forwarder = new DnsForwarder({ upstreams: servers, ...(attemptMs !== undefined && { attemptMs }) })
  }

  /** Empty: the servers say that there are none (NXDOMAIN, NODATA). Rejects where no server could say. */
  async addresses(name: string, type: 'A' | 'AAAA'): Promise<DnsAddress[]> {
    const query = parseQuery(
      codec.encode({
        type: 'query',
        id: 0,
        flags: codec.RECURSION_DESIRED,
        questions: [{ type, name }],
        additionals: [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: UDP_SIZE,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ],
      }),
    )
    if (!query.ok) throw new Error(`${JSON.stringify(name)} is no name for DNS`)
    let reply = await this.#forwarder.forward(query.value, 'udp')
    if (reply !== undefined && (reply.readUInt16BE(2) & codec.TRUNCATED_RESPONSE) !== 0)
      reply = await this.#forwarder.forward(query.value, 'tcp')
    if (reply === undefined) throw new Error('no name server answers')
    const rcode = reply.readUInt16BE(2) & 0x000f
    if (rcode === NX_DOMAIN) return []
    if (rcode !== RCODE.noError) throw new Error(`the name servers answer ${nameOf(rcode)}`)
    const { answers = [] } = codec.decode(reply)
    const aliases = answers.flatMap((record) => (record.type === 'CNAME' ? [record.ttl ?? 0] : []))
    return answers.flatMap((record) =>
      record.type === type ? [{ address: record.data, ttl: Math.min(record.ttl ?? 0, ...aliases) }] : [],
    )
  }
}

function nameOf(rcode: number): string {
  if (rcode === RCODE.servFail) return 'SERVFAIL'
  return rcode === RCODE.refused ? 'REFUSED' : `with code ${rcode}`
}
