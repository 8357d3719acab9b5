// What AuthorizationPolicies say of one service, as far as it can be told from its names; and whether its callers can be told apart by
// their certificates alone, as a proxy must that decides in its TLS handshake.
import type { AuthorizationClause } from '../objects/types.ts'
import type { GatewayPolicy, GatewayRule } from './types.ts'

/** One clause about ids that lets callers in, with the namespace of its policy, which a bare service account is of. */
export interface IdClause {
  readonly clause: AuthorizationClause
  readonly namespace: string
}

export type HandshakePolicy =
  /** `ids` undefined: whoever may reach the service at all; empty: nobody. */
  | { readonly decides: 'handshake'; readonly ids: readonly IdClause[] | undefined }
  /** `reason` names the rule that asks for something else. */
  | { readonly decides: 'first byte'; readonly reason: string }

/**
 * The policies without what they ask of the server name, which is known: rules about other services are gone. A rule about one of a
 * service's names is about all of them, or another name would be a way around it.
 */
export function policiesFor(
  policies: readonly GatewayPolicy[],
  serverNames: readonly string[],
): GatewayPolicy[] {
  return policies.map((policy) => ({
    ...policy,
    rules: policy.rules.flatMap((rule) => ruleFor(rule, serverNames)),
  }))
}

function ruleFor(rule: GatewayRule, serverNames: readonly string[]): GatewayRule[] {
  const keep = (clauses: readonly AuthorizationClause[]): AuthorizationClause[] | undefined => {
    const names = clauses.filter(({ attribute }) => attribute === 'sni')
    return names.every((clause) => holdsFor(clause, serverNames))
      ? clauses.filter(({ attribute }) => attribute !== 'sni')
      : undefined
  }
  const when = keep(rule.when)
  const to = rule.to.flatMap((operation) => {
    const kept = keep(operation)
    return kept === undefined ? [] : [kept]
  })
  if (when === undefined || (rule.to.length > 0 && to.length === 0)) return []
  return [{ ...rule, when, to: to.some((operation) => operation.length === 0) ? [] : to }]
}

function holdsFor({ values, negated }: AuthorizationClause, serverNames: readonly string[]): boolean {
  const found = values.some((value) => serverNames.some((name) => matchesName(value.toLowerCase(), name)))
  return found !== negated
}

/** Istio's matching of texts: exact, `abc*`, `*abc`, `*`. */
export function matchesName(value: string, name: string): boolean {
  if (value.endsWith('*')) return name.startsWith(value.slice(0, -1))
  return value.startsWith('*') ? name.endsWith(value.slice(1)) : name === value
}

/** For the policies of one service (`policiesFor`). Exactly what they say, or not at all. */
export function handshakePolicy(policies: readonly GatewayPolicy[]): HandshakePolicy {
  const ids: IdClause[] = []
  let anybody = !policies.some(({ action }) => action === 'ALLOW')
  for (const { action, rules } of policies) {
    for (const rule of rules) {
      const sources = action === 'ALLOW' ? idSources(rule) : undefined
      if (sources === undefined)
        return {
          decides: 'first byte',
          reason: `${rule.name} asks for more than the ids of whom it lets in`,
        }
      anybody ||= sources.length === 0
      ids.push(...sources)
    }
  }
  return { decides: 'handshake', ids: anybody ? undefined : ids }
}

/** The ids that a rule lets in and asks nothing else of; empty: any. */
function idSources({ from, to, when, namespace }: GatewayRule): IdClause[] | undefined {
  if (to.length > 0 || when.length > 1) return undefined
  // Conditions count beside the sources: both at once cannot be one list of ids.
  const sources = when.length === 0 ? from : from.length === 0 ? [when] : undefined
  if (sources === undefined || sources.some((clauses) => clauses.length > 1)) return undefined
  const clauses = sources.map(([clause]) => clause)
  if (clauses.some((clause) => clause !== undefined && (clause.negated || !isId(clause)))) return undefined
  return clauses.includes(undefined)
    ? []
    : clauses.flatMap((clause) => (clause === undefined ? [] : [{ clause, namespace }]))
}

const isId = ({ attribute }: AuthorizationClause): boolean =>
  attribute === 'principal' || attribute === 'namespace' || attribute === 'serviceAccount'
