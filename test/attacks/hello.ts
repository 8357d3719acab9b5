// ClientHellos from their parts, right or wrong, and the records that carry them. Independent of every TLS library and of the
// parser under test. RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3.
import { generateKeyPairSync, randomBytes } from 'node:crypto'

export const u8 = (n: number): Buffer => Buffer.from([n & 0xff])
export const u16 = (n: number): Buffer => Buffer.from([(n >> 8) & 0xff, n & 0xff])
export const u24 = (n: number): Buffer => Buffer.from([(n >> 16) & 0xff, (n >> 8) & 0xff, n & 0xff])
export const vector8 = (...parts: Uint8Array[]): Buffer => withLength(u8, parts)
export const vector16 = (...parts: Uint8Array[]): Buffer => withLength(u16, parts)

function withLength(length: (n: number) => Buffer, parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([length(body.length), body])
}

export const extension = (type: number, data: Uint8Array): Buffer =>
  Buffer.concat([u16(type), vector16(data)])

const text = (name: string | Uint8Array): Uint8Array => (typeof name === 'string' ? Buffer.from(name) : name)

/** One host_name in a server name list. */
export const hostName = (name: string | Uint8Array): Buffer => Buffer.concat([u8(0), vector16(text(name))])
export const serverNames = (...entries: Uint8Array[]): Buffer => extension(0, vector16(...entries))
export const sni = (name: string | Uint8Array): Buffer => serverNames(hostName(name))
export const alpn = (...names: string[]): Buffer =>
  extension(16, vector16(...names.map((name) => vector8(text(name)))))
export const supportedVersions = (...versions: number[]): Buffer =>
  extension(43, vector8(...versions.map(u16)))
export const padding = (length: number): Buffer => extension(21, Buffer.alloc(length))

const x25519 = generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)
export const keyShare = (...more: Uint8Array[]): Buffer =>
  extension(51, vector16(...more, u16(29), vector16(x25519)))

export interface HelloSpec {
  /** Default TLS 1.2, as everybody's. */
  readonly version?: number
  readonly random?: Uint8Array
  readonly sessionId?: Uint8Array
  /** Cipher suites, the bytes of the vector. */
  readonly ciphers?: Uint8Array
  readonly compression?: Uint8Array
  readonly extensions?: readonly Uint8Array[]
  /** No extensions block at all. */
  readonly noExtensions?: boolean
  readonly trailing?: Uint8Array
}

/** Suites that every stack has: AES-128-GCM of TLS 1.3, ECDHE-ECDSA and ECDHE-RSA of 1.2. */
const CIPHERS = Buffer.concat([u16(0x1301), u16(0xc02b), u16(0xc02f)])

/** What a decent client sends besides the name. */
export function usualExtensions(): Buffer[] {
  return [
    extension(10, vector16(u16(29), u16(23))),
    extension(11, vector8(u8(0))),
    extension(13, vector16(u16(0x0403), u16(0x0804), u16(0x0401))),
    extension(23, Buffer.alloc(0)),
    supportedVersions(0x0304, 0x0303),
    extension(45, vector8(u8(1))),
    keyShare(),
  ]
}

/** The body of a ClientHello. */
export function helloBody(spec: HelloSpec): Buffer {
  return Buffer.concat([
    u16(spec.version ?? 0x0303),
    spec.random ?? randomBytes(32),
    vector8(spec.sessionId ?? randomBytes(32)),
    vector16(spec.ciphers ?? CIPHERS),
    vector8(spec.compression ?? u8(0)),
    ...(spec.noExtensions === true ? [] : [vector16(...(spec.extensions ?? usualExtensions()))]),
    ...(spec.trailing === undefined ? [] : [spec.trailing]),
  ])
}

/** A handshake message; `claimed`: another length than the true one. */
export function handshake(type: number, body: Uint8Array, claimed = body.length): Buffer {
  return Buffer.concat([u8(type), u24(claimed), body])
}

export function record(type: number, body: Uint8Array, version = 0x0301, claimed = body.length): Buffer {
  return Buffer.concat([u8(type), u16(version), u16(claimed), body])
}

/** A handshake message over records of `size` bytes. */
export function fragment(message: Uint8Array, size: number): Buffer {
  const records: Buffer[] = []
  for (let at = 0; at < message.length; at += size) records.push(record(22, message.subarray(at, at + size)))
  return Buffer.concat(records)
}

/** A whole ClientHello in as few records as it takes. */
export function hello(spec: HelloSpec): Buffer {
  return fragment(handshake(1, helloBody(spec)), 16_384)
}

/** A decent hello that asks for `name`; `more` extensions come after the usual ones. */
export function helloFor(name: string | Uint8Array, ...more: Uint8Array[]): Buffer {
  return hello({ extensions: [sni(name), ...usualExtensions(), ...more] })
}

/** The same bytes in segments of `size`. */
export function cut(bytes: Buffer, size: number): Buffer[] {
  const segments: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) segments.push(bytes.subarray(at, at + size))
  return segments
}

/** One record's handshake message over records of `size` bytes: what a TLS library has written, cut anew. */
export function refragment(flight: Buffer, size: number): Buffer {
  return fragment(flight.subarray(5), size)
}
