import type { Authority } from './authority.ts'

/** RFC 1928 section 6. */
export const REPLY = {
  succeeded: 0,
  generalFailure: 1,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  ttlExpired: 6,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const

/** One step of the handshake: more bytes are needed, or it is done with `rest` left over, or it ends with these last bytes. */
export type Step<T> =
  | { readonly state: 'incomplete' }
  | { readonly state: 'done'; readonly value: T; readonly rest: Buffer }
  | { readonly state: 'refused'; readonly last: Buffer }

const VERSION = 5
const NO_AUTHENTICATION = 0
const NO_ACCEPTABLE_METHOD = 0xff
const CONNECT = 1

/** What to say to a greeting that is accepted. */
export const METHOD_CHOSEN: Buffer = Buffer.of(VERSION, NO_AUTHENTICATION)

const incomplete = { state: 'incomplete' } as const
const refused = (last: Buffer) => ({ state: 'refused', last }) as const

/** `VER NMETHODS METHODS…` (section 3): only "no authentication" is spoken here. Not SOCKS5 at all ends without a word. */
export function parseGreeting(bytes: Buffer): Step<undefined> {
  if (bytes.length > 0 && bytes[0] !== VERSION) return refused(Buffer.alloc(0))
  const count = bytes[1]
  if (count === undefined || bytes.length < 2 + count) return incomplete
  if (!bytes.subarray(2, 2 + count).includes(NO_AUTHENTICATION))
    return refused(Buffer.of(VERSION, NO_ACCEPTABLE_METHOD))
  return { state: 'done', value: undefined, rest: bytes.subarray(2 + count) }
}

/** `VER CMD RSV ATYP DST.ADDR DST.PORT` (section 4). */
export function parseRequest(bytes: Buffer): Step<Authority> {
  if (bytes.length > 0 && bytes[0] !== VERSION) return refused(reply(REPLY.generalFailure))
  if (bytes.length > 1 && bytes[1] !== CONNECT) return refused(reply(REPLY.commandNotSupported))
  const type = bytes[3]
  if (type === undefined) return incomplete
  const start = type === 3 ? 5 : 4
  const length = type === 1 ? 4 : type === 4 ? 16 : type === 3 ? bytes[4] : -1
  if (length === -1) return refused(reply(REPLY.addressTypeNotSupported))
  if (length === undefined || bytes.length < start + length + 2) return incomplete
  const host = formatAddress(type, bytes.subarray(start, start + length))
  if (host === undefined) return refused(reply(REPLY.generalFailure))
  const port = bytes.readUInt16BE(start + length)
  return { state: 'done', value: { host, port }, rest: bytes.subarray(start + length + 2) }
}

/** A reply. The bound address is left at 0.0.0.0:0: there need not be a socket behind it, and clients do not look. */
export function reply(code: number): Buffer {
  return Buffer.of(VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0)
}

function formatAddress(type: number, bytes: Buffer): string | undefined {
  if (type === 1) return [...bytes].join('.')
  if (type === 4) return Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16)).join(':')
  // Printable ASCII only: the name goes into logs and to resolvers.
  const name = bytes.toString('latin1')
  return /^[!-~]+$/.test(name) ? name : undefined
}
