import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { matchesString } from '../resources/accept-match.ts'
import type { PermissionRule, PrincipalRule, RbacConfig } from '../resources/accept-types.ts'

/** Everything that policy may look at. The id is the one verified SPIFFE id; nothing else in the certificate counts. */
export interface Caller {
  /** Undefined: nobody proved to be anybody. */
  readonly id: string | undefined
  readonly serverName: string
  readonly sourceIp: string
  /** The port that was connected to. */
  readonly port: number
}

export interface Verdict {
  readonly allowed: boolean
  /** The policy that decided; empty where none matched. */
  readonly policy: string
  readonly reason: string
}

export type Policy = (caller: Caller) => Verdict

const OPEN: Verdict = { allowed: true, policy: '', reason: 'no policy' }

/**
 * Compiles the rbac filters of a chain, all of which must allow. The first that denies decides; of those that allow, the last
 * policy that matched is named.
 */
export function compileRbac(filters: readonly RbacConfig[]): Policy {
  const compiled = filters.map(compileFilter)
  return (caller) => {
    let verdict = OPEN
    for (const decide of compiled) {
      const next = decide(caller)
      if (!next.allowed) return next
      if (next.policy !== '' || verdict === OPEN) verdict = next
    }
    return verdict
  }
}

function compileFilter({ action, policies }: RbacConfig): Policy {
  const compiled = policies.map(({ name, permissions, principals }) => {
    const permitted = anyOf(permissions.map(compilePermission))
    const known = anyOf(principals.map(compilePrincipal))
    return { name, matches: (caller: Caller) => permitted(caller) && known(caller) }
  })
  const allow = action === 'ALLOW'
  return (caller) => {
    const policy = compiled.find(({ matches }) => matches(caller))
    const who = caller.id ?? 'a caller without identity'
    if (policy === undefined) {
      return allow
        ? {
            allowed: false,
            policy: '',
            reason: `no policy allows ${who} to call ${caller.serverName || 'this port'}`,
          }
        : { allowed: true, policy: '', reason: 'no policy denies it' }
    }
    const { name } = policy
    return { allowed: allow, policy: name, reason: `policy "${name}" ${allow ? 'allows' : 'denies'} ${who}` }
  }
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
    case 'serverName':
      return ({ serverName }) => matchesString(rule.match, serverName)
    case 'port':
      return ({ port }) => port >= rule.from && port <= rule.to
  }
}

function compilePrincipal(rule: PrincipalRule): Test {
  switch (rule.kind) {
    case 'any':
      return () => true
    case 'and':
      return allOf(rule.rules.map(compilePrincipal))
    case 'or':
      return anyOf(rule.rules.map(compilePrincipal))
    case 'not': {
      const inner = compilePrincipal(rule.rule)
      return (caller) => !inner(caller)
    }
    case 'id': {
      const { match } = rule
      return ({ id }) => id !== undefined && (match === undefined || matchesString(match, id))
    }
    case 'sourceIp':
      return compileSource(rule.address, rule.prefixLength)
  }
}

function compileSource(address: string, prefixLength: number): Test {
  const range = new BlockList()
  range.addSubnet(address, prefixLength, isIPv4(address) ? 'ipv4' : 'ipv6')
  return ({ sourceIp }) => {
    if (isIPv4(sourceIp)) return range.check(sourceIp, 'ipv4')
    return isIPv6(sourceIp) && range.check(sourceIp, 'ipv6')
  }
}
