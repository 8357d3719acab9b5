import { isIP, isIPv6 } from 'node:net'
import { fail, ok, type Result } from '../../lib/result.ts'

/** A host (name or IP address, without brackets) and a port. */
export interface Authority {
  readonly host: string
  readonly port: number
}

/**
 * Reads `host:port`, `1.2.3.4:port` or `[::1]:port` (RFC 3986 section 3.2.2 without userinfo).
 * `defaultPort` makes the port optional; port 0 is allowed (listeners of tests).
 */
export function parseAuthority(text: string, defaultPort?: number): Result<Authority, string> {
  if (defaultPort !== undefined && isIP(text) !== 0) return ok({ host: text, port: defaultPort })
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(text)
  if (match === null)
    return fail(`expected HOST:PORT (an IPv6 address in brackets), found ${JSON.stringify(text)}`)
  const [, bracketed, plain, digits] = match
  if (bracketed !== undefined && !isIPv6(bracketed)) return fail(`[${bracketed}] is not an IPv6 address`)
  const host = bracketed ?? plain ?? ''
  if (!isHost(host)) return fail(`${JSON.stringify(host)} is not a host name or IP address`)
  const port = digits === undefined ? defaultPort : Number(digits)
  if (port === undefined) return fail(`expected a port after ${JSON.stringify(text)}`)
  if (port > 65_535) return fail(`port ${port} is over 65535`)
  return ok({ host, port })
}

/** `host:port`, an IPv6 address in brackets. */
export function formatAuthority({ host, port }: Authority): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Letters, digits, `-`, `_` and dots, as resolvers take them (RFC 1123 plus the underscore of service names). */
function isHost(host: string): boolean {
  if (isIP(host) !== 0) return true
  const name = host.endsWith('.') ? host.slice(0, -1) : host
  return name.length <= 253 && /^[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*$/i.test(name)
}
