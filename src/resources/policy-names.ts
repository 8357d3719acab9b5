// What an AuthorizationPolicy says of a service by its server name it says of its parts too: its subsets, and the pods of a headless
// one, have server names of their own, which must be no way around a rule, nor be closed where the whole is open.
import type { GatewayPolicy, GatewayRule } from '../model/types.ts'

type Clause = GatewayRule['when'][number]

/** `partOf`: the server name of the whole. The policies with the names of the parts beside those of the wholes. */
export function withParts(
  policies: readonly GatewayPolicy[],
  routes: readonly { readonly name: string; readonly partOf?: string }[],
): readonly GatewayPolicy[] {
  const parts = Map.groupBy(
    routes.filter(({ partOf }) => partOf !== undefined),
    ({ partOf = '' }) => partOf,
  )
  if (parts.size === 0) return policies
  const named = (value: string): string[] => [
    value,
    ...(parts.get(value.toLowerCase()) ?? []).map(({ name }) => name),
  ]
  const extend = (clauses: readonly Clause[]): Clause[] =>
    clauses.map((clause) =>
      clause.attribute === 'sni' ? { ...clause, values: [...new Set(clause.values.flatMap(named))] } : clause,
    )
  return policies.map((policy) => ({
    ...policy,
    rules: policy.rules.map((rule) => ({
      ...rule,
      from: rule.from.map(extend),
      to: rule.to.map(extend),
      when: extend(rule.when),
    })),
  }))
}
