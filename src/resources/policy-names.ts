// What an AuthorizationPolicy says of a service by its server name it says of its parts too: its subsets, and the pods of a headless
// one, have server names of their own, which must be no way around a rule, nor be closed where the whole is open.
import { matchesName } from '../model/handshake-policy.ts'
import type { GatewayPolicy, GatewayRule } from '../model/types.ts'

type Clause = GatewayRule['when'][number]

/** What `withParts` reads of a route: all names that lead to it, and the server name of the whole that it is a part of. */
export interface NamedRoute {
  readonly name: string
  readonly aliases: readonly string[]
  readonly partOf?: string
}

/**
 * The policies with the names of the parts beside what means their wholes: by any name of it, an alias too, exactly or as `abc*` and
 * `*abc`.
 */
export function withParts(
  policies: readonly GatewayPolicy[],
  routes: readonly NamedRoute[],
): readonly GatewayPolicy[] {
  const parts = Map.groupBy(
    routes.filter(({ partOf }) => partOf !== undefined),
    ({ partOf = '' }) => partOf,
  )
  if (parts.size === 0) return policies
  const aliases = new Map(routes.map((route) => [route.name, route.aliases]))
  const wholes = [...parts].map(([name, of]) => ({ names: [name, ...(aliases.get(name) ?? [])], of }))
  const named = (value: string): string[] => {
    const meant = wholes.filter(({ names }) => names.some((name) => matchesName(value.toLowerCase(), name)))
    return [value, ...meant.flatMap(({ of }) => of.map(({ name }) => name))]
  }
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
