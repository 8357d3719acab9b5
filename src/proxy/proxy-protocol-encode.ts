// The header of the PROXY protocol, versions 1 and 2, as we send it to upstreams
// (haproxy.org/download/3.0/doc/proxy-protocol.txt).
import type { ProxyProtocolTlv, UpstreamProxyProtocolConfig } from '../resources/upstream-types.ts'
import { ipBytes, mappedIpv4 } from './ip-bytes.ts'

/** Section 2.2.1: the host name that the client asked for. */
export const PP2_TYPE_AUTHORITY = 0x02

export interface Tlv {
  readonly type: number
  readonly value: Buffer
}

/** The connection that is proxied. Addresses are IP addresses; an empty one means that there is none to tell of. */
export interface ProxiedConnection {
  readonly source: { readonly host: string; readonly port: number }
  readonly destination: { readonly host: string; readonly port: number }
}

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const LOCAL = 0x20
const PROXY = 0x21
const TCP_OVER_IPV4 = 0x11
const TCP_OVER_IPV6 = 0x21
const MAX_LENGTH = 0xffff

/** One line. `PROXY UNKNOWN` where the addresses are not both known. */
export function encodeV1(connection: ProxiedConnection | undefined): Buffer {
  const addresses = connection && sameFamily(connection)
  if (connection === undefined || addresses === undefined) return Buffer.from('PROXY UNKNOWN\r\n')
  const { family, source, destination } = addresses
  const ports = `${connection.source.port} ${connection.destination.port}`
  return Buffer.from(`PROXY ${family} ${text(source)} ${text(destination)} ${ports}\r\n`)
}

/**
 * The binary form. Without a connection (our own health checks, callers inside this process) the command is LOCAL, which tells the
 * receiver to use the addresses of the socket. Throws where it would be longer than 65,535 bytes.
 */
export function encodeV2(connection: ProxiedConnection | undefined, tlvs: readonly Tlv[] = []): Buffer {
  const addresses = connection && sameFamily(connection)
  if (connection === undefined || addresses === undefined) return head(LOCAL, 0, 0)
  const { family, source, destination } = addresses
  const ports = Buffer.alloc(4)
  ports.writeUInt16BE(connection.source.port, 0)
  ports.writeUInt16BE(connection.destination.port, 2)
  const body = Buffer.concat([source, destination, ports, ...tlvs.map(encodeTlv)])
  if (body.length > MAX_LENGTH) throw new RangeError(`a PROXY header of ${body.length} bytes`)
  return Buffer.concat([head(PROXY, family === 'TCP4' ? TCP_OVER_IPV4 : TCP_OVER_IPV6, body.length), body])
}

/**
 * The header that a transport socket asks for. `own` are the TLVs of this connection: those of the transport socket go first, of two
 * of one type only the first goes.
 */
export function proxyHeader(
  config: UpstreamProxyProtocolConfig,
  connection: ProxiedConnection | undefined,
  own: readonly Tlv[],
): Buffer {
  if (config.version === 'V1') return encodeV1(connection)
  const { passTlvs } = config
  const passed = own.filter(
    ({ type }) => passTlvs === 'all' || (passTlvs !== 'none' && passTlvs.includes(type)),
  )
  const seen = new Set<number>()
  const tlvs: Tlv[] = []
  for (const { type, value } of [...config.addedTlvs.map(literal), ...passed]) {
    if (seen.has(type)) continue
    seen.add(type)
    tlvs.push({ type, value })
  }
  return encodeV2(connection, tlvs)
}

/** Fills in a TLV's format; what is not known is `-`, as in Envoy. */
export function formatTlv(
  { type, value, format }: ProxyProtocolTlv,
  facts: Readonly<Record<string, string>>,
): Tlv {
  if (value !== undefined) return { type, value }
  return {
    type,
    value: Buffer.from(format.replaceAll(/%([A-Z_]+)%/g, (_, command: string) => facts[command] || '-')),
  }
}

function literal({ type, value }: ProxyProtocolTlv): Tlv {
  return { type, value: value ?? Buffer.alloc(0) }
}

function head(command: number, family: number, length: number): Buffer {
  return Buffer.concat([SIGNATURE, Buffer.from([command, family, length >> 8, length & 0xff])])
}

function encodeTlv({ type, value }: Tlv): Buffer {
  return Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value])
}

interface Addresses {
  readonly family: 'TCP4' | 'TCP6'
  readonly source: Buffer
  readonly destination: Buffer
}

/** Both in one family: an IPv4 address beside an IPv6 one is mapped into it. */
function sameFamily({ source, destination }: ProxiedConnection): Addresses | undefined {
  const [from, to] = [unmapped(source.host), unmapped(destination.host)]
  if (from === undefined || to === undefined) return undefined
  if (from.length === 4 && to.length === 4) return { family: 'TCP4', source: from, destination: to }
  return { family: 'TCP6', source: mapped(from), destination: mapped(to) }
}

/** A dual-stack socket gives IPv4 peers as `::ffff:192.0.2.1`. */
function unmapped(host: string): Buffer | undefined {
  const bytes = ipBytes(host)
  return bytes && ipBytes(mappedIpv4(bytes) ?? host)
}

function mapped(bytes: Buffer): Buffer {
  return bytes.length === 16 ? bytes : Buffer.concat([Buffer.alloc(10), Buffer.from([0xff, 0xff]), bytes])
}

/** IPv6 without any shortening, which version 1 allows. */
function text(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.')
  return Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16)).join(':')
}
