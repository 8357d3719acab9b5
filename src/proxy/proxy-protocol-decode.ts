// The PROXY protocol, versions 1 and 2, as its receiver reads it (HAProxy doc/proxy-protocol.txt sections 2.1, 2.2).
import { isIPv4, isIPv6 } from 'node:net'

export interface ProxyAddress {
  readonly ip: string
  readonly port: number
}

export interface ProxyTlv {
  /** `PP2_TYPE_…`. */
  readonly type: number
  readonly value: Buffer
}

export interface ProxyHeader {
  readonly version: 1 | 2
  /** Bytes of the header; what follows belongs to the connection. */
  readonly length: number
  /** Undefined: the sender speaks for itself (LOCAL) or does not know (UNKNOWN, UNSPEC). The addresses are then those of the connection. */
  readonly addresses: { readonly source: ProxyAddress; readonly destination: ProxyAddress } | undefined
  /** Version 2 only. */
  readonly tlvs: readonly ProxyTlv[]
}

export type ProxyHeaderResult =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'header'; readonly header: ProxyHeader }
  | { readonly kind: 'error'; readonly reason: string }

const V1_PREFIX = Buffer.from('PROXY ', 'latin1')
/** The longest line of version 1, its CRLF included. */
const V1_MAX = 107
const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const V2_HEADER = 16
/** The largest address block (two UNIX paths), and as many bytes of TLVs as we take. */
const V2_MAX = 216 + 4_096
const V2_BLOCK = { ipv4: 12, ipv6: 36 } as const
const PP2_TYPE_CRC32C = 0x03

const INCOMPLETE: ProxyHeaderResult = { kind: 'incomplete' }
const error = (reason: string): ProxyHeaderResult => ({ kind: 'error', reason })

/**
 * Reads a header from everything that was sent so far. Pure; call it again with more bytes while it says `incomplete`, which it does
 * for 4,328 bytes at most, and only as long as what is there can still become a header.
 */
export function decodeProxyHeader(bytes: Buffer): ProxyHeaderResult {
  if (begins(bytes, V2_SIGNATURE)) return decodeV2(bytes)
  return begins(bytes, V1_PREFIX) ? decodeV1(bytes) : error('no PROXY protocol header')
}

/** Whether bytes and prefix agree as far as both go. */
function begins(bytes: Buffer, prefix: Buffer): boolean {
  const length = Math.min(bytes.length, prefix.length)
  return bytes.compare(prefix, 0, length, 0, length) === 0
}

function decodeV1(bytes: Buffer): ProxyHeaderResult {
  const end = bytes.subarray(0, V1_MAX).indexOf('\r\n')
  if (end < 0) return bytes.length < V1_MAX ? INCOMPLETE : error(`no end of line within ${V1_MAX} bytes`)
  const length = end + 2
  const [, protocol = '', ...words] = bytes.toString('latin1', 0, end).split(' ')
  // What follows UNKNOWN must be ignored.
  if (protocol === 'UNKNOWN')
    return { kind: 'header', header: { version: 1, length, addresses: undefined, tlvs: [] } }
  const isAddress = protocol === 'TCP4' ? isIPv4 : protocol === 'TCP6' ? isIPv6 : undefined
  if (isAddress === undefined) return error(`protocol "${protocol}", expected TCP4, TCP6 or UNKNOWN`)
  const [from = '', to = '', fromPort = '', toPort = ''] = words
  if (words.length !== 4) return error(`${words.length} words after ${protocol}, expected 4`)
  // A zone (fe80::1%eth0) is nobody's business on the wire.
  for (const ip of [from, to])
    if (!isAddress(ip) || ip.includes('%')) return error(`"${ip}" is no ${protocol} address`)
  for (const port of [fromPort, toPort]) if (!isPort(port)) return error(`"${port}" is no port`)
  const addresses = {
    source: { ip: from, port: Number(fromPort) },
    destination: { ip: to, port: Number(toPort) },
  }
  return { kind: 'header', header: { version: 1, length, addresses, tlvs: [] } }
}

const isPort = (text: string): boolean => /^(0|[1-9][0-9]{0,4})$/.test(text) && Number(text) <= 65_535

function decodeV2(bytes: Buffer): ProxyHeaderResult {
  const [versionAndCommand, familyAndTransport] = [bytes[12], bytes[13]]
  if (versionAndCommand !== undefined && versionAndCommand !== 0x20 && versionAndCommand !== 0x21)
    return error(`version and command 0x${versionAndCommand.toString(16)}, expected 0x20 or 0x21`)
  if (bytes.length < V2_HEADER) return INCOMPLETE
  const size = bytes.readUInt16BE(14)
  if (size > V2_MAX) return error(`${size} bytes of addresses and TLVs, expected at most ${V2_MAX}`)
  const length = V2_HEADER + size
  if (bytes.length < length) return INCOMPLETE
  const header = bytes.subarray(0, length)
  // LOCAL: a health check of the sender itself; its addresses must be ignored.
  const family = versionAndCommand === 0x20 ? 0 : (familyAndTransport ?? 0)
  if (family === 0x11) return withAddresses(header, V2_BLOCK.ipv4, ipv4At)
  if (family === 0x21) return withAddresses(header, V2_BLOCK.ipv6, ipv6At)
  // UNSPEC, in either half: accept, with the addresses of the connection.
  const unspecified = family >> 4 === 0 || (family & 0x0f) === 0
  if (!unspecified)
    return error(`family and transport 0x${family.toString(16)}, expected TCP over IPv4 or IPv6`)
  return { kind: 'header', header: { version: 2, length, addresses: undefined, tlvs: [] } }
}

function withAddresses(
  header: Buffer,
  block: number,
  addressAt: (bytes: Buffer, at: number) => string,
): ProxyHeaderResult {
  if (header.length < V2_HEADER + block)
    return error(`${header.length - V2_HEADER} bytes, too few for two addresses`)
  const width = (block - 4) / 2
  const ports = V2_HEADER + 2 * width
  const tlvs = readTlvs(header, V2_HEADER + block)
  if (typeof tlvs === 'string') return error(tlvs)
  const addresses = {
    source: { ip: addressAt(header, V2_HEADER), port: header.readUInt16BE(ports) },
    destination: { ip: addressAt(header, V2_HEADER + width), port: header.readUInt16BE(ports + 2) },
  }
  return { kind: 'header', header: { version: 2, length: header.length, addresses, tlvs } }
}

const ipv4At = (bytes: Buffer, at: number): string => bytes.subarray(at, at + 4).join('.')

/** Not shortened: any form of an address is as good as another to those who compare them by their bits. */
function ipv6At(bytes: Buffer, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(at + 2 * i).toString(16))
  return groups.join(':')
}

/** The TLVs up to the end of the header, or what is wrong with them. A checksum that is there must be right. */
function readTlvs(header: Buffer, begin: number): ProxyTlv[] | string {
  const tlvs: ProxyTlv[] = []
  for (let at = begin; at < header.length; ) {
    if (at + 3 > header.length) return 'a TLV without its length'
    const type = header[at] ?? 0
    const end = at + 3 + header.readUInt16BE(at + 1)
    if (end > header.length) return 'a TLV that goes beyond the header'
    const value = header.subarray(at + 3, end)
    if (type === PP2_TYPE_CRC32C && !checksumHolds(header, at + 3, value)) return 'a checksum that is wrong'
    tlvs.push({ type, value })
    at = end
  }
  return tlvs
}

/** CRC-32C of the whole header with the checksum's own four bytes as zeros. */
function checksumHolds(header: Buffer, at: number, value: Buffer): boolean {
  if (value.length !== 4) return false
  const copy = Buffer.from(header)
  copy.fill(0, at, at + 4)
  return crc32c(copy) === value.readUInt32BE(0)
}

/** Castagnoli, reflected (RFC 3720 appendix B.4); bit by bit, for the few bytes of a header. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return (crc ^ 0xffffffff) >>> 0
}
