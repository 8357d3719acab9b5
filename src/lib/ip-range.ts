import { isIP, isIPv6 } from 'node:net'

export interface IpRange {
  readonly address: string
  readonly prefixLength: number
}

/** `10.0.0.0/8`, `fd00::/8`, or one address; undefined for anything else. */
export function parseIpRange(text: string): IpRange | undefined {
  const [address = '', length, ...more] = text.split('/')
  const bits = isIPv6(address) ? 128 : 32
  if (isIP(address) === 0 || address.includes('%') || more.length > 0) return undefined
  if (length === undefined) return { address, prefixLength: bits }
  const prefixLength = /^(0|[1-9][0-9]{0,2})$/.test(length) ? Number(length) : -1
  return prefixLength >= 0 && prefixLength <= bits ? { address, prefixLength } : undefined
}
