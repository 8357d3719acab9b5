import { isIPv4, isIPv6 } from 'node:net'

/** An IP address in network byte order, 4 or 16 bytes; a zone (`%eth0`) is left out. Undefined where `host` is no address. */
export function ipBytes(host: string): Buffer | undefined {
  if (isIPv4(host)) return Buffer.from(host.split('.').map(Number))
  if (!isIPv6(host)) return undefined
  // The last 32 bits may be written as an IPv4 address.
  const text = host
    .replace(/%.*$/, '')
    .replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => `${group(a, b)}:${group(c, d)}`)
  const [left = '', right] = text.split('::')
  const [before, after] = [groups(left), groups(right ?? '')]
  const zeros = new Array<number>(8 - before.length - after.length).fill(0)
  return Buffer.from([...before, ...zeros, ...after].flatMap((value) => [value >> 8, value & 0xff]))
}

/** The IPv4 address inside `::ffff:192.0.2.1`, in any spelling; undefined where there is none. */
export function mappedIpv4(bytes: Buffer): string | undefined {
  const prefix = bytes.length === 16 && bytes.readUIntBE(0, 6) === 0 && bytes.readUIntBE(6, 6) === 0xffff
  return prefix ? [...bytes.subarray(12)].join('.') : undefined
}

const group = (high: string, low: string): string => (Number(high) * 256 + Number(low)).toString(16)

function groups(text: string): number[] {
  return text === '' ? [] : text.split(':').map((part) => Number.parseInt(part, 16))
}
