// AuthorizationPolicies of a gateway as network rbac filters.
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { parseIpRange } from '../lib/ip-range.ts'
import type { GatewayPolicy, GatewayRule } from '../model/types.ts'
import type { Filter } from '../xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import {
  type Permission,
  PermissionSchema,
  type Principal,
  PrincipalSchema,
  RBAC_Action,
} from '../xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { RBACSchema } from '../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import {
  type SubjectAltNameMatcher,
  SubjectAltNameMatcher_SanType,
  SubjectAltNameMatcherSchema,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import type { StringMatcherSchema } from '../xds/gen/envoy/type/matcher/v3/string_pb.js'
import { filter } from './envoy.ts'
import { mtlsAuthenticated } from './newer-envoy.ts'

type Clause = GatewayRule['when'][number]
export type Pattern = NonNullable<MessageInitShape<typeof StringMatcherSchema>['matchPattern']>

/** Names of the filters. */
const DENY_FILTER = 'isthmus.authorization.deny'
const ALLOW_FILTER = 'isthmus.authorization.allow'

const ANY_PERMISSION = create(PermissionSchema, { rule: { case: 'any', value: true } })
const ANY_PRINCIPAL = create(PrincipalSchema, { identifier: { case: 'any', value: true } })

/**
 * Two filters at most: one that denies what a DENY policy matches and, where there is any ALLOW policy, one that allows nothing but
 * what these match. `verified` false (passthrough): nobody's id is known, so that a rule about ids allows nothing, and denies without
 * asking for them.
 */
export function authorizationFilters(policies: readonly GatewayPolicy[], verified: boolean): Filter[] {
  const filters: Filter[] = []
  const denying = rulesOf(policies, 'DENY').map((rule) => (verified ? rule : withoutIds(rule)))
  if (denying.length > 0) filters.push(rbac(DENY_FILTER, RBAC_Action.DENY, denying))
  if (policies.some(({ action }) => action === 'ALLOW')) {
    const allowing = rulesOf(policies, 'ALLOW').filter((rule) => verified || !clausesOf(rule).some(asksForId))
    filters.push(rbac(ALLOW_FILTER, RBAC_Action.ALLOW, allowing))
  }
  return filters
}

const rulesOf = (policies: readonly GatewayPolicy[], action: GatewayPolicy['action']): GatewayRule[] =>
  policies.filter((policy) => policy.action === action).flatMap(({ rules }) => rules)

const clausesOf = ({ from, to, when }: GatewayRule): Clause[] => [...from.flat(), ...to.flat(), ...when]

const asksForId = ({ attribute }: Clause): boolean =>
  attribute === 'principal' || attribute === 'namespace' || attribute === 'serviceAccount'

function withoutIds(rule: GatewayRule): GatewayRule {
  const keep = (clauses: readonly Clause[]) => clauses.filter((clause) => !asksForId(clause))
  return { ...rule, from: rule.from.map(keep), when: keep(rule.when) }
}

function rbac(name: string, action: RBAC_Action, rules: readonly GatewayRule[]): Filter {
  const policies = Object.fromEntries(
    rules.map((rule) => [rule.name, { permissions: [permissionOf(rule)], principals: [principalOf(rule)] }]),
  )
  return filter(name, RBACSchema, create(RBACSchema, { statPrefix: `${name}.`, rules: { action, policies } }))
}

/** What is asked of the connection: one of the operations, and every condition that is not about the source. */
function permissionOf({ to, when }: GatewayRule): Permission {
  const conditions = when.flatMap((clause) => permissionClause(clause) ?? [])
  const operations = to.map((clauses) =>
    allPermissions(clauses.flatMap((each) => permissionClause(each) ?? [])),
  )
  return allPermissions([...(operations.length === 0 ? [] : [anyPermission(operations)]), ...conditions])
}

/** What is asked of the caller: one of the sources, and every condition that is about him. */
function principalOf({ from, when, namespace }: GatewayRule): Principal {
  const clausesOf = (clauses: readonly Clause[]) =>
    clauses.flatMap((each) => principalClause(each, namespace) ?? [])
  const sources = from.map((clauses) => allPrincipals(clausesOf(clauses)))
  return allPrincipals([...(sources.length === 0 ? [] : [anyPrincipal(sources)]), ...clausesOf(when)])
}

function permissionClause({ attribute, values, negated }: Clause): Permission | undefined {
  const some = (rules: MessageInitShape<typeof PermissionSchema>[]): Permission => {
    const found = anyPermission(rules.map((rule) => create(PermissionSchema, rule)))
    return negated ? create(PermissionSchema, { rule: { case: 'notRule', value: found } }) : found
  }
  switch (attribute) {
    case 'port':
      return some(values.map((value) => ({ rule: { case: 'destinationPort', value: Number(value) } })))
    case 'sni':
      return some(
        values.map((value) =>
          value === '*'
            ? ANY_PERMISSION
            : {
                rule: { case: 'requestedServerName', value: { matchPattern: pattern(value.toLowerCase()) } },
              },
        ),
      )
    case 'destinationIp':
      return some(values.map((value) => ({ rule: { case: 'destinationIp', value: cidr(value) } })))
    default:
      return undefined
  }
}

function principalClause(clause: Clause, namespace: string): Principal | undefined {
  const { attribute, values, negated } = clause
  const some = (principals: Principal[]): Principal => {
    const found = anyPrincipal(principals)
    return negated ? create(PrincipalSchema, { identifier: { case: 'notId', value: found } }) : found
  }
  const address = (name: 'directRemoteIp' | 'remoteIp') =>
    some(values.map((value) => create(PrincipalSchema, { identifier: { case: name, value: cidr(value) } })))
  switch (attribute) {
    case 'principal':
    case 'namespace':
    case 'serviceAccount':
      return some(idPatterns(clause, namespace).map(byId))
    case 'ip':
      return address('directRemoteIp')
    case 'remoteIp':
      return address('remoteIp')
    default:
      return undefined
  }
}

/** Istio's matching of texts: exact, `abc*`, `*abc`. */
function pattern(value: string): Pattern {
  if (value.endsWith('*')) return { case: 'prefix', value: value.slice(0, -1) }
  return value.startsWith('*') ? { case: 'suffix', value: value.slice(1) } : { case: 'exact', value }
}

/** A principal is a SPIFFE id without its scheme; `*` is anybody who proved one. */
function principalPattern(value: string): Pattern {
  if (value.startsWith('*') && value !== '*') return { case: 'suffix', value: value.slice(1) }
  return pattern(`spiffe://${value}`)
}

function namespacePattern(value: string): Pattern {
  if (value === '*') return { case: 'contains', value: '/ns/' }
  return { case: 'contains', value: value.endsWith('*') ? `/ns/${value.slice(0, -1)}` : `/ns/${value}/` }
}

/** `ns/account`, or the account of the policy's own namespace. */
function accountPattern(value: string, namespace: string): Pattern {
  const [first = '', second] = value.split('/')
  const [ns, account] = second === undefined ? [namespace, first] : [first, second]
  return { case: 'suffix', value: `/ns/${ns}/sa/${account}` }
}

/** What ids a clause about them lets in, as patterns of URIs, one of which has to match. */
export function idPatterns({ attribute, values }: Clause, namespace: string): Pattern[] {
  switch (attribute) {
    case 'principal':
      return values.map(principalPattern)
    case 'namespace':
      return values.map(namespacePattern)
    case 'serviceAccount':
      return values.map((value) => accountPattern(value, namespace))
    default:
      return []
  }
}

export function uriMatcher(matchPattern: Pattern): SubjectAltNameMatcher {
  return create(SubjectAltNameMatcherSchema, {
    sanType: SubjectAltNameMatcher_SanType.URI,
    matcher: { matchPattern },
  })
}

const byId = (matchPattern: Pattern): Principal => mtlsAuthenticated(uriMatcher(matchPattern))

function cidr(text: string): { addressPrefix: string; prefixLen: number } {
  const { address, prefixLength } = parseIpRange(text) ?? { address: '255.255.255.255', prefixLength: 32 }
  return { addressPrefix: address, prefixLen: prefixLength }
}

function anyPermission(rules: readonly Permission[]): Permission {
  const [only, ...more] = rules
  if (only !== undefined && more.length === 0) return only
  return create(PermissionSchema, { rule: { case: 'orRules', value: { rules: [...rules] } } })
}

function allPermissions(rules: readonly Permission[]): Permission {
  const [only, ...more] = rules
  if (only === undefined) return ANY_PERMISSION
  return more.length === 0
    ? only
    : create(PermissionSchema, { rule: { case: 'andRules', value: { rules: [...rules] } } })
}

function anyPrincipal(ids: readonly Principal[]): Principal {
  const [only, ...more] = ids
  if (only !== undefined && more.length === 0) return only
  return create(PrincipalSchema, { identifier: { case: 'orIds', value: { ids: [...ids] } } })
}

function allPrincipals(ids: readonly Principal[]): Principal {
  const [only, ...more] = ids
  if (only === undefined) return ANY_PRINCIPAL
  return more.length === 0
    ? only
    : create(PrincipalSchema, { identifier: { case: 'andIds', value: { ids: [...ids] } } })
}
