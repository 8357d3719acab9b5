import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { matchesString } from '../resources/accept-match.ts'
import type { AddressRange, PermissionRule, PrincipalRule } from '../resources/accept-types.ts'

/** Everything that policy may look at. The id is the one verified SPIFFE id and the
 * issuer the CA that vouches for it; nothing else in the certificate counts. */
export interface Caller {
  /** Undefined: nobody proved to be anybody. */
  readonly id: string | undefined
  /** SHA-256 of the public key of the CA that signed the verified certificate, hexadecimal; undefined where the id is. */
  readonly issuer?: string | undefined
  /** The server name as it was asked for, lower case. */
  readonly serverName: string
  /** The other names of what it leads to: a rule about one of them is about all, or an alias would be a way around it. */
  readonly otherNames: readonly string[]
  /** Who connected, as the PROXY protocol tells it where that is in use. */
  readonly remoteIp: string
  /** The other end of the TCP connection. */
  readonly directRemoteIp: string
  /** The address and port that were connected to, as the PROXY protocol tells them where that is in use. */
  readonly destinationIp: string
  readonly port: number
}

type Test = (caller: Caller) => boolean

const anyOf =
  (tests: readonly Test[]): Test =>
  (caller) =>
    tests.some((test) => test(caller))
const allOf =
  (tests: readonly Test[]): Test =>
  (caller) =>
    tests.every((test) => test(caller))

/** Whether one of the permissions matches. */
export function compilePermissions(rules: readonly PermissionRule[]): Test {
  return anyOf(rules.map(compilePermission))
}

/**
 * Whether one of the principals matches. `unknown` is what a matcher says of something that is not known of a caller: an identity
 * that nobody verified, an address that cannot be read. It is turned around below a `not`, so that a negation does not turn
 * ignorance into a match (Kleene's logic, with the unknown resolved to the stricter side).
 */
export function compilePrincipals(rules: readonly PrincipalRule[], unknown: boolean): Test {
  return anyOf(rules.map((rule) => compilePrincipal(rule, unknown)))
}

function compilePermission(rule: PermissionRule): Test {
  switch (rule.kind) {
    case 'any':
      return () => true
    case 'and':
      return allOf(rule.rules.map(compilePermission))
    case 'or':
      return anyOf(rule.rules.map(compilePermission))
    case 'not': {
      const inner = compilePermission(rule.rule)
      return (caller) => !inner(caller)
    }
    case 'serverName': {
      const { match } = rule
      return ({ serverName, otherNames }) =>
        matchesString(match, serverName) || otherNames.some((name) => matchesString(match, name))
    }
    case 'port':
      return ({ port }) => port >= rule.from && port <= rule.to
    case 'destinationIp': {
      const within = compileRange(rule.range)
      return ({ destinationIp }) => within(destinationIp) === true
    }
  }
}

function compilePrincipal(rule: PrincipalRule, unknown: boolean): Test {
  switch (rule.kind) {
    case 'any':
      return () => true
    case 'and':
      return allOf(rule.rules.map((inner) => compilePrincipal(inner, unknown)))
    case 'or':
      return anyOf(rule.rules.map((inner) => compilePrincipal(inner, unknown)))
    case 'not': {
      const inner = compilePrincipal(rule.rule, !unknown)
      return (caller) => !inner(caller)
    }
    case 'id': {
      const { match } = rule
      return ({ id }) => (id === undefined ? unknown : match === undefined || matchesString(match, id))
    }
    case 'issuer': {
      const keys = new Set(rule.keys)
      return ({ issuer }) => (issuer === undefined ? unknown : keys.has(issuer))
    }
    case 'remoteIp': {
      const within = compileRange(rule.range)
      return rule.direct
        ? ({ directRemoteIp }) => within(directRemoteIp) ?? unknown
        : ({ remoteIp }) => within(remoteIp) ?? unknown
    }
  }
}

/** Whether an address is in one of the ranges. */
export function compileRanges(ranges: readonly AddressRange[]): (ip: string) => boolean {
  const compiled = ranges.map(compileRange)
  return (ip) => compiled.some((within) => within(ip) === true)
}

/** Whether an address is in the range; undefined for what is no address. IPv4 in its IPv6 form (`::ffff:10.0.0.1`) is IPv4. */
function compileRange({ address, prefixLength }: AddressRange): (ip: string) => boolean | undefined {
  const range = new BlockList()
  const family = isIPv4(address) ? 'ipv4' : 'ipv6'
  range.addSubnet(address, prefixLength, family)
  return (text) => {
    const ip = unmapped(text)
    // A BlockList alone would find every IPv4 address in ::/0.
    if (isIPv4(ip)) return family === 'ipv4' && range.check(ip, family)
    return isIPv6(ip) ? family === 'ipv6' && range.check(ip, family) : undefined
  }
}

const MAPPED = new BlockList()
MAPPED.addSubnet('::ffff:0:0', 96, 'ipv6')

/** `::ffff:10.0.0.1`, `0:0:0:0:0:ffff:a00:1` → `10.0.0.1`; anything else as it is. */
function unmapped(ip: string): string {
  if (!isIPv6(ip) || !MAPPED.check(ip, 'ipv6')) return ip
  const groups = ip.split(':')
  const last = groups.at(-1) ?? ''
  if (last.includes('.')) return last
  const [high = 0, low = 0] = groups.slice(-2).map((group) => Number.parseInt(group, 16) || 0)
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}
