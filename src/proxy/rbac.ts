import { type RbacConfig, type RbacRules, REACHABILITY_FILTER } from '../resources/accept-types.ts'
import { type Caller, compilePermissions, compilePrincipals } from './rbac-matchers.ts'

export type { Caller } from './rbac-matchers.ts'

export interface Verdict {
  readonly allowed: boolean
  /** The policy that decided; empty where none matched. */
  readonly policy: string
  readonly reason: string
  /** Denied by nothing but reachability: open connections may finish until the drain deadline. */
  readonly drains: boolean
}

/** What the shadow rules of a chain would have done: they decide nothing. */
export interface ShadowVerdict {
  readonly allowed: boolean
  readonly policy: string
}

export interface Policy {
  readonly judge: (caller: Caller) => Verdict
  /** Undefined where the chain has no shadow rules. */
  readonly shadow: ((caller: Caller) => ShadowVerdict) | undefined
}

const OPEN: Verdict = { allowed: true, policy: '', reason: 'no policy', drains: false }

/**
 * Compiles the rbac filters of a chain, all of which must allow. Of several that deny the first decides, though reachability last:
 * who is also denied for himself is not drained. Of those that allow, the last policy that matched is named.
 */
export function compileRbac(filters: readonly RbacConfig[]): Policy {
  const enforced = filters.flatMap(({ name, rules }) =>
    rules === undefined ? [] : [compileRules(rules, name === REACHABILITY_FILTER)],
  )
  const shadows = filters.flatMap(({ shadowRules }) =>
    shadowRules === undefined ? [] : [compileRules(shadowRules, false)],
  )
  return {
    judge: (caller) => decide(enforced, caller),
    shadow: shadows.length === 0 ? undefined : (caller) => decide(shadows, caller),
  }
}

type Decide = (caller: Caller) => Verdict

function decide(filters: readonly Decide[], caller: Caller): Verdict {
  let allowed = OPEN
  let unreachable: Verdict | undefined
  for (const judge of filters) {
    const verdict = judge(caller)
    if (!verdict.allowed) {
      if (!verdict.drains) return verdict
      unreachable ??= verdict
    } else if (verdict.policy !== '' || allowed === OPEN) {
      allowed = verdict
    }
  }
  return unreachable ?? allowed
}

function compileRules({ action, policies }: RbacRules, reachability: boolean): Decide {
  const allow = action === 'ALLOW'
  // Where something is not known of a caller, a policy that allows is taken not to match and one that denies to match.
  const compiled = policies.map(({ name, permissions, principals }) => {
    const permitted = compilePermissions(permissions)
    const known = compilePrincipals(principals, !allow)
    return { name, matches: (caller: Caller) => permitted(caller) && known(caller) }
  })
  return (caller) => {
    const policy = compiled.find(({ matches }) => matches(caller))
    const who = caller.id ?? 'a caller without identity'
    if (policy === undefined) {
      return allow
        ? {
            allowed: false,
            policy: '',
            reason: `no policy allows ${who} to call ${caller.serverName || 'this port'}`,
            drains: reachability,
          }
        : { allowed: true, policy: '', reason: 'no policy denies it', drains: false }
    }
    const { name } = policy
    const reason = `policy "${name}" ${allow ? 'allows' : 'denies'} ${who}`
    return { allowed: allow, policy: name, reason, drains: reachability && !allow }
  }
}
