// Istio's AuthorizationPolicy for gateways: which ones apply to a gateway, and what of them a gateway of TCP can ask.
import type { AuthorizationClause, AuthorizationPolicy, AuthorizationRule } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { byText, matchesLabels } from './labels.ts'
import type { GatewayPolicy, GatewayRule, ModelGateway } from './types.ts'

/** Policies of this namespace are for every namespace (Istio's default root namespace). */
const ROOT_NAMESPACE = 'istio-system'

type Policy = AuthorizationPolicy

/** In a principal it is Istio's word for the cluster's own trust domain, whatever that is called. */
const OWN_TRUST_DOMAIN = 'cluster.local/'

/** By gateway (`namespace/name`): the policies in force there, by name. Says of each policy what became of it. */
export function collectAuthorization(
  policies: readonly Policy[],
  gateways: readonly ModelGateway[],
  trustDomain: string,
  conditions: Conditions,
): ReadonlyMap<string, readonly GatewayPolicy[]> {
  const ordered = policies.toSorted((a, b) => byText(nameOf(a), nameOf(b)))
  const allowed = gateways.filter((gateway) =>
    ordered.some((policy) => policy.spec.action === 'ALLOW' && selects(policy, gateway, 'every')),
  )
  const byGateway = new Map<string, GatewayPolicy[]>()
  for (const policy of ordered) {
    // What is meant for some of the pods counts at all of them; but for an ALLOW where another one says who may call any.
    const selected = gateways.filter((gateway) => {
      const added = policy.spec.action === 'ALLOW' && allowed.includes(gateway)
      return selects(policy, gateway, added ? 'every' : 'some')
    })
    if (selected.length === 0) continue
    const compiled = compile(policy, trustDomain, conditions)
    if (compiled === undefined) continue
    for (const { namespace, name } of selected) {
      const key = `${namespace}/${name}`
      byGateway.set(key, [...(byGateway.get(key) ?? []), compiled])
    }
    const names = selected.map(({ namespace, name }) => `${namespace}/${name}`).join(', ')
    conditions.holds(policy, 'Accepted', 'Accepted', `in force at gateway ${names}`)
  }
  return byGateway
}

/** Whether it is for the pods of a gateway: an empty selector, as in Istio, for whatever is in the namespace. */
function selects({ metadata, spec }: Policy, gateway: ModelGateway, pods: 'some' | 'every'): boolean {
  const { selector = {} } = spec
  if (spec.targeted) return false
  if (metadata.namespace !== gateway.namespace && metadata.namespace !== ROOT_NAMESPACE) return false
  return (
    Object.keys(selector).length === 0 || gateway.labelSets[pods]((labels) => matchesLabels(selector, labels))
  )
}

function compile(policy: Policy, trustDomain: string, conditions: Conditions): GatewayPolicy | undefined {
  const { name, namespace } = policy.metadata
  const { action, rules } = policy.spec
  if (action === 'AUDIT') {
    conditions.fails(policy, 'Accepted', 'UnsupportedAction', 'spec.action: AUDIT does nothing at a gateway')
    return undefined
  }
  if (action === 'CUSTOM') {
    // Somebody else was to decide. Who cannot be asked has not said yes.
    const message = 'spec.action: CUSTOM cannot be asked here; whatever its rules match is denied'
    conditions.fails(policy, 'Accepted', 'UnsupportedAction', message)
  }
  const effect = action === 'ALLOW' ? 'ALLOW' : 'DENY'
  const named = (i: number): string => `${effect} AuthorizationPolicy/${namespace}/${name} rules[${i}]`
  const compiled = rules.flatMap((rule, i): GatewayRule[] => {
    const kept = l4(rule, effect, `spec.rules[${i}]`, policy, conditions)
    return kept === undefined
      ? []
      : [{ ...inOwnDomain(kept, effect, trustDomain), name: named(i), namespace }]
  })
  return { name: `${namespace}/${name}`, action: effect, rules: compiled }
}

/**
 * Istio's rule for TCP: a rule of ALLOW that asks for something of HTTP matches nothing; one of DENY does without that part, and so
 * denies more. Both keep a connection out where in doubt.
 */
function l4(
  rule: AuthorizationRule,
  action: 'ALLOW' | 'DENY',
  where: string,
  policy: Policy,
  conditions: Conditions,
): AuthorizationRule | undefined {
  const clauses = [...rule.from.flat(), ...rule.to.flat(), ...rule.when]
  const foreign = clauses.filter((clause) => !isKnown(clause))
  if (foreign.length === 0) return rule
  const names = [...new Set(foreign.map(({ name }) => name))].join(', ')
  const effect = action === 'ALLOW' ? 'this rule allows nothing' : 'this rule denies without it'
  const message = `${where}: a gateway of TCP cannot tell ${names}; ${effect}`
  conditions.fails(policy, 'Accepted', 'UnsupportedField', message)
  if (action === 'ALLOW') return undefined
  const keep = (all: readonly AuthorizationClause[]) => all.filter(isKnown)
  return { from: rule.from.map(keep), to: rule.to.map(keep), when: keep(rule.when) }
}

/**
 * Principals of `cluster.local` are of our own trust domain. A peer may be called just that: where a rule keeps somebody out, it is
 * kept out as well, for that may be who was meant.
 */
function inOwnDomain(
  rule: AuthorizationRule,
  action: 'ALLOW' | 'DENY',
  trustDomain: string,
): AuthorizationRule {
  const meant = (value: string, both: boolean): string[] => {
    // As Istio: only where a trust domain is said, which takes a whole id.
    if (!value.startsWith(OWN_TRUST_DOMAIN) || value.split('/').length !== 5) return [value]
    const own = `${trustDomain}/${value.slice(OWN_TRUST_DOMAIN.length)}`
    return both && own !== value ? [own, value] : [own]
  }
  const clause = (one: AuthorizationClause): AuthorizationClause => {
    if (one.attribute !== 'principal') return one
    const keepsOut = (action === 'DENY') !== one.negated
    return { ...one, values: one.values.flatMap((value) => meant(value, keepsOut)) }
  }
  const all = (clauses: readonly AuthorizationClause[]) => clauses.map(clause)
  return { from: rule.from.map(all), to: rule.to.map(all), when: all(rule.when) }
}

/** A namespace is told by a piece of the id in the middle, so that only its beginning may be left open. */
function isKnown({ attribute, values }: AuthorizationClause): boolean {
  if (attribute === undefined) return false
  if (attribute === 'namespace') return values.every((value) => value === '*' || !value.startsWith('*'))
  return attribute !== 'serviceAccount' || values.every((value) => !value.includes('*'))
}
