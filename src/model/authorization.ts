// Istio's AuthorizationPolicy for gateways: which ones apply to a gateway, and what of them a gateway of TCP can ask.

import { scopeOfRefused } from '../objects/istio-security.ts'
import type { RefusedObject } from '../objects/store.ts'
import type { AuthorizationClause, AuthorizationPolicy, AuthorizationRule } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { byText, matchesLabels } from './labels.ts'
import type { GatewayPolicy, GatewayRule, ModelGateway } from './types.ts'

/** Policies of this namespace are for every namespace (Istio's default root namespace). */
const ROOT_NAMESPACE = 'istio-system'

type Policy = AuthorizationPolicy

/** In a principal it is Istio's word for the cluster's own trust domain, whatever that is called. */
const OWN_TRUST_DOMAIN = 'cluster.local/'

/**
 * By gateway (`namespace/name`): the policies in force there, by name; those that are refused and were never good come first. Says of
 * each policy what became of it.
 */
export function collectAuthorization(
  policies: readonly Policy[],
  refused: readonly RefusedObject[],
  gateways: readonly ModelGateway[],
  trustDomain: string,
  conditions: Conditions,
): ReadonlyMap<string, readonly GatewayPolicy[]> {
  const ordered = policies.toSorted((a, b) => byText(nameOf(a), nameOf(b)))
  const allowed = gateways.filter((gateway) =>
    ordered.some((policy) => policy.spec.action === 'ALLOW' && selects(policy, gateway, 'every')),
  )
  const byGateway = new Map<string, GatewayPolicy[]>()
  for (const each of refused) closeFor(each, gateways, byGateway, conditions)
  reportTargeted(ordered, gateways, conditions)
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

/** Nobody knows whom it was to keep out: so nobody gets in where it may have been in force. */
function closeFor(
  refused: RefusedObject,
  gateways: readonly ModelGateway[],
  byGateway: Map<string, GatewayPolicy[]>,
  conditions: Conditions,
): void {
  const { namespace, name } = refused.ref
  const spec = scopeOfRefused(refused)
  const closed = gateways.filter((gateway) => selects({ metadata: { namespace }, spec }, gateway, 'some'))
  const rule = `AuthorizationPolicy ${namespace}/${name} cannot be read`
  const policy: GatewayPolicy = {
    name: `${namespace}/${name}`,
    action: 'DENY',
    rules: [{ from: [], to: [], when: [], name: rule, namespace }],
  }
  for (const gateway of closed) {
    const key = `${gateway.namespace}/${gateway.name}`
    byGateway.set(key, [...(byGateway.get(key) ?? []), policy])
  }
  const effect =
    closed.length === 0
      ? ''
      : `; until it is mended nobody may call through gateway ${closed.map((each) => `${each.namespace}/${each.name}`).join(', ')}`
  const why = refused.problems
    .map(({ field, message }) => (field === '' ? message : `${field}: ${message}`))
    .join(', ')
  conditions.fails(refused.ref, 'Accepted', 'Invalid', `cannot be read (${why})${effect}`)
}

/** What is attached to one object is not for pods, and so not for ours; who wrote it where a gateway is may have thought so. */
function reportTargeted(
  policies: readonly Policy[],
  gateways: readonly ModelGateway[],
  conditions: Conditions,
): void {
  for (const policy of policies) {
    const { metadata, spec } = policy
    const concerned = gateways.filter((gateway) => isInReach(metadata, gateway))
    if (!spec.targeted || concerned.length === 0) continue
    const names = concerned.map(({ namespace, name }) => `${namespace}/${name}`).join(', ')
    const message = `spec.targetRefs: has no effect at gateway ${names}, which only a selector, or none, can mean`
    conditions.fails(policy, 'Accepted', 'UnsupportedField', message)
  }
}

/** Policies are for their namespace, those of the root namespace for all. */
const isInReach = ({ namespace }: { readonly namespace: string }, gateway: ModelGateway): boolean =>
  namespace === gateway.namespace || namespace === ROOT_NAMESPACE

/** What decides whom a policy is for. */
interface Scoped {
  readonly metadata: { readonly namespace: string }
  readonly spec: Pick<Policy['spec'], 'selector' | 'targeted'>
}

/** Whether it is for the pods of a gateway: an empty selector, as in Istio, for whatever is in the namespace. */
function selects({ metadata, spec }: Scoped, gateway: ModelGateway, pods: 'some' | 'every'): boolean {
  const { selector = {} } = spec
  if (spec.targeted) return false
  if (!isInReach(metadata, gateway)) return false
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
