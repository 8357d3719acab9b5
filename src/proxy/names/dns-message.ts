import { isIPv4, isIPv6 } from 'node:net'
import * as codec from 'dns-packet'
import { fail, ok, type Result } from '../../lib/result.ts'

/** Seconds a client may keep one of our answers, positive or negative: short, since an export may be withdrawn at any time. */
export const ANSWER_TTL_S = 5

/** Largest UDP answer for a client that says nothing of its own (RFC 1035 section 4.2.1). */
const PLAIN_UDP_SIZE = 512

/** Largest one whatever the client says: behind a forged address, a large answer to a small question is a weapon. */
const MAX_UDP_SIZE = 4_096

/** RFC 1035 section 4.1.1; the names are those of the IANA registry. */
export const RCODE = { noError: 0, formErr: 1, servFail: 2, notImp: 4, refused: 5 } as const

const HEADER_SIZE = 12
const QR = 0x8000
const AA = 0x0400
const TC = 0x0200
const RD = 0x0100
const RA = 0x0080
const OPCODE = 0x7800

/** One query as we need it; `message` is what came, for the forwarder. */
export interface DnsQuery {
  readonly message: Buffer
  /** As asked, with its case. */
  readonly name: string
  readonly type: string
  readonly inInternet: boolean
  /** Where the question section ends in `message`. */
  readonly questionEnd: number
  /** Largest UDP answer the client takes (EDNS, RFC 6891), 512 to 4,096. */
  readonly udpSize: number
  readonly edns: boolean
}

/**
 * Reads a query. The error is what to send back, or undefined for what must not be answered at all: fragments of a header,
 * and responses (answering those lets two servers talk to each other for ever).
 */
export function parseQuery(message: Buffer): Result<DnsQuery, Buffer | undefined> {
  if (message.length < HEADER_SIZE) return fail(undefined)
  const flags = message.readUInt16BE(2)
  if ((flags & QR) !== 0) return fail(undefined)
  if ((flags & OPCODE) !== 0) return fail(headerOnly(message, RCODE.notImp))
  if (message.readUInt16BE(4) !== 1) return fail(headerOnly(message, RCODE.formErr))
  const questionEnd = endOfQuestion(message)
  if (questionEnd === undefined) return fail(headerOnly(message, RCODE.formErr))
  try {
    const packet = codec.decode(message)
    const question = packet.questions?.[0]
    if (question === undefined) return fail(headerOnly(message, RCODE.formErr))
    const opt = packet.additionals?.find((record) => record.type === 'OPT')
    const size = opt?.type === 'OPT' ? opt.udpPayloadSize : PLAIN_UDP_SIZE
    return ok({
      message,
      name: question.name,
      type: question.type,
      inInternet: question.class === 'IN' || question.class === 'ANY',
      questionEnd,
      udpSize: Math.min(Math.max(size, PLAIN_UDP_SIZE), MAX_UDP_SIZE),
      edns: opt !== undefined,
    })
  } catch {
    return fail(headerOnly(message, RCODE.formErr))
  }
}

/** Our own answer for one of our names: its addresses of the asked family, or NODATA with an SOA (RFC 2308 section 2.2). */
export function addressAnswer(query: DnsQuery, addresses: readonly string[]): Buffer {
  const answers = query.inInternet ? records(query, addresses) : []
  const encoded = codec.encode({
    type: 'response',
    id: query.message.readUInt16BE(0),
    flags: AA | RA | (query.message.readUInt16BE(2) & RD),
    answers,
    authorities: answers.length === 0 ? [startOfAuthority(query.name)] : [],
    additionals: query.edns ? [ednsRecord()] : [],
  })
  // The question goes back bit for bit (clients compare its case). The codec does not compress names, so records may move.
  encoded.writeUInt16BE(1, 4)
  const question = query.message.subarray(HEADER_SIZE, query.questionEnd)
  return Buffer.concat([encoded.subarray(0, HEADER_SIZE), question, encoded.subarray(HEADER_SIZE)])
}

/** An answer without records: the question as it was asked, bit for bit, and the code. */
export function errorAnswer(query: DnsQuery, rcode: number): Buffer {
  const reply = Buffer.from(query.message.subarray(0, query.questionEnd))
  reply.writeUInt16BE(QR | RA | (reply.readUInt16BE(2) & RD) | rcode, 2)
  reply.fill(0, 6, HEADER_SIZE)
  return reply
}

/** Fits an answer into what the client takes over UDP: too long, it becomes empty with TC set, and the client asks again by TCP. */
export function truncated(query: DnsQuery, reply: Buffer): Buffer {
  if (reply.length <= query.udpSize) return reply
  const short = errorAnswer(query, reply.readUInt16BE(2) & 0x000f)
  short.writeUInt16BE(reply.readUInt16BE(2) | TC, 2)
  return short
}

/** True when `reply` answers `sent`: same id, a response, and the same question (RFC 5452 section 9.1). */
export function isReplyTo(sent: Buffer, questionEnd: number, reply: Buffer): boolean {
  if (reply.length < HEADER_SIZE || reply.readUInt16BE(0) !== sent.readUInt16BE(0)) return false
  if ((reply.readUInt16BE(2) & QR) === 0) return false
  // Servers may answer FORMERR and the like with the header alone.
  if (reply.readUInt16BE(4) === 0) return (reply.readUInt16BE(2) & 0x000f) !== RCODE.noError
  const question = sent.toString('latin1', HEADER_SIZE, questionEnd)
  return reply.toString('latin1', HEADER_SIZE, questionEnd).toLowerCase() === question.toLowerCase()
}

/** A copy of `message` under another id. */
export function withId(message: Buffer, id: number): Buffer {
  const copy = Buffer.from(message)
  copy.writeUInt16BE(id, 0)
  return copy
}

function records(query: DnsQuery, addresses: readonly string[]): codec.Answer[] {
  const record = (type: 'A' | 'AAAA', data: string): codec.Answer => ({
    type,
    name: query.name,
    ttl: ANSWER_TTL_S,
    class: 'IN',
    data,
  })
  if (query.type === 'A') return addresses.filter((a) => isIPv4(a)).map((a) => record('A', a))
  if (query.type === 'AAAA') return addresses.filter((a) => isIPv6(a)).map((a) => record('AAAA', a))
  return []
}

function startOfAuthority(name: string): codec.Answer {
  const data = {
    mname: 'isthmus.invalid',
    rname: 'nobody.invalid',
    serial: 1,
    refresh: 60,
    retry: 60,
    expire: 60,
  }
  return { type: 'SOA', name, ttl: ANSWER_TTL_S, class: 'IN', data: { ...data, minimum: ANSWER_TTL_S } }
}

/** We speak EDNS version 0 and no option of it; 1,232 bytes pass every path (DNS flag day 2020). */
function ednsRecord(): codec.Answer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize: 1_232,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  }
}

function headerOnly(message: Buffer, rcode: number): Buffer {
  const reply = Buffer.alloc(HEADER_SIZE)
  reply.writeUInt16BE(message.readUInt16BE(0), 0)
  const flags = message.readUInt16BE(2)
  reply.writeUInt16BE(QR | (flags & OPCODE) | (flags & RD) | rcode, 2)
  return reply
}

/** A question's name is the first of its message, so compression cannot occur in it. */
function endOfQuestion(message: Buffer): number | undefined {
  let at = HEADER_SIZE
  for (;;) {
    const length = message[at]
    if (length === undefined || length > 63) return undefined
    at += 1 + length
    if (length === 0) break
  }
  return at + 4 <= message.length ? at + 4 : undefined
}
