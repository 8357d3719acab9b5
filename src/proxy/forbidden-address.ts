import { ipBytes } from './ip-bytes.ts'

/** Address, prefix length, and what stands there. The most telling first: the first that matches is named. */
const RANGES: readonly (readonly [address: string, bits: number, what: string])[] = [
  // Where clouds tell machines their credentials.
  ['169.254.169.254', 32, 'the metadata service of a cloud'],
  ['100.100.100.200', 32, 'the metadata service of a cloud'],
  ['192.0.0.192', 32, 'the metadata service of a cloud'],
  ['168.63.129.16', 32, 'the metadata service of a cloud'],
  ['fd00:ec2::254', 128, 'the metadata service of a cloud'],
  ['fd20:ce::254', 128, 'the metadata service of a cloud'],
  ['0.0.0.0', 8, 'unspecified'],
  ['127.0.0.0', 8, 'loopback'],
  ['169.254.0.0', 16, 'link-local'],
  ['224.0.0.0', 4, 'multicast'],
  ['255.255.255.255', 32, 'broadcast'],
  ['::', 128, 'unspecified'],
  ['::1', 128, 'loopback'],
  ['fe80::', 10, 'link-local'],
  ['ff00::', 8, 'multicast'],
]
/** IPv6 ranges that carry an IPv4 address, and where in it: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056), compatible. */
const CARRIERS: readonly (readonly [address: string, bits: number, offset: number])[] = [
  ['::ffff:0:0', 96, 12],
  ['64:ff9b::', 96, 12],
  ['2002::', 16, 2],
  ['::', 96, 12],
]

const bytesOf = (address: string): Buffer => ipBytes(address) ?? Buffer.alloc(0)
const FORBIDDEN = RANGES.map(([address, bits, what]) => ({ prefix: bytesOf(address), bits, what }))
const CARRYING = CARRIERS.map(([address, bits, offset]) => ({ prefix: bytesOf(address), bits, offset }))

/**
 * What stands at an address that no endpoint may name, whoever says so: whatever is local to this machine or reached by being on it.
 * Undefined where the address may be called. Host names are judged by what they resolve to, each time.
 */
export function forbiddenAddress(host: string): string | undefined {
  const bytes = ipBytes(host)
  return bytes === undefined ? undefined : judge(bytes)
}

function judge(bytes: Buffer): string | undefined {
  const found = FORBIDDEN.find(({ prefix, bits }) => within(bytes, prefix, bits))
  if (found !== undefined) return found.what
  const carrier = CARRYING.find(({ prefix, bits }) => within(bytes, prefix, bits))
  return carrier && judge(bytes.subarray(carrier.offset, carrier.offset + 4))
}

function within(bytes: Buffer, prefix: Buffer, bits: number): boolean {
  if (bytes.length !== prefix.length) return false
  const whole = bits >> 3
  if (bytes.compare(prefix, 0, whole, 0, whole) !== 0) return false
  const rest = bits & 7
  return rest === 0 || ((bytes[whole] ?? 0) ^ (prefix[whole] ?? 0)) >> (8 - rest) === 0
}
