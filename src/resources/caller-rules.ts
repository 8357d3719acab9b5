// Who may call a gateway, as network rbac filters.
import { create } from '@bufbuild/protobuf'
import { ambiguity } from '../model/origins.ts'
import type { Model, SharedCa } from '../model/types.ts'
import type { Filter } from '../xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { type Principal, PrincipalSchema, RBAC_Action } from '../xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { type RBAC, RBACSchema } from '../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { REACHABILITY_FILTER } from './accept-types.ts'
import { type DomainBundle, filter, uriSan } from './envoy.ts'
import { issuedBy } from './issuer-principal.ts'
import { mtlsAuthenticated } from './newer-envoy.ts'

/** Name of the rbac filter that denies whomever nobody can tell the cluster of; what it denies is cut. */
const ISSUER_FILTER = 'isthmus.ambiguous_issuer'

/** A cluster that may call this one, with the reason as its policy's name. */
interface Caller {
  readonly trustDomain: string
  /** Where the trust domain does not tell: the CAs that are its alone. */
  readonly issuers?: readonly string[]
  readonly policy: string
}

/** A trust domain of which not every caller can be told the cluster. */
interface SharedTrustDomain {
  readonly trustDomain: string
  /** Ids. */
  readonly clusters: readonly string[]
  /** The CAs that speak for one of them alone; whom none of these signed is nobody. */
  readonly issuers: readonly string[]
}

/** What the filters about callers are made of; plain data, equal where the filters are. */
export interface Callers {
  readonly callers: readonly Caller[]
  /** Every trust domain that has a bundle. */
  readonly federated: readonly string[]
  /** CAs that speak for nobody. */
  readonly ambiguous: readonly SharedCa[]
  /** Sorted by trust domain. */
  readonly shared: readonly SharedTrustDomain[]
}

export interface CallerOptions {
  readonly bundles: readonly DomainBundle[]
  /** Whether the client knows our principal for a caller's issuer, as our own engine does. Default false. */
  readonly issuers?: boolean
}

/**
 * Who may call: clusters that can be told apart, that have a bundle, and whose network may reach this one. An Envoy cannot tell
 * those apart that share a trust domain or a CA (it takes whatever chain leads to the root): for these it gets no policy.
 */
export function callersOf(model: Model, { bundles, issuers: knowsIssuers = false }: CallerOptions): Callers {
  const callers: Caller[] = []
  for (const { trustDomain } of bundles) {
    for (const { cluster, issuers } of model.origins.values()) {
      if (cluster.trustDomain !== trustDomain) continue
      if (issuers !== undefined && (issuers.length === 0 || !knowsIssuers)) continue
      const decision = model.admits(cluster)
      const policy = `${cluster.id}: ${decision.reason}`
      if (decision.allowed) callers.push({ trustDomain, ...(issuers !== undefined && { issuers }), policy })
    }
  }
  return {
    callers,
    federated: bundles.map(({ trustDomain }) => trustDomain),
    ambiguous: knowsIssuers ? model.sharedCas : [],
    shared: knowsIssuers ? bundles.flatMap(({ trustDomain }) => sharedDomain(model, trustDomain)) : [],
  }
}

function sharedDomain({ origins }: Model, trustDomain: string): SharedTrustDomain[] {
  const members = [...origins.values()].filter(({ cluster }) => cluster.trustDomain === trustDomain)
  if (members.length < 2) return []
  return [
    {
      trustDomain,
      clusters: members.map(({ cluster }) => cluster.id),
      issuers: members.flatMap(({ issuers = [] }) => issuers),
    },
  ]
}

/**
 * Network filters `rbac`: who is nobody (a shared CA signed him, or none that tells the clusters of his trust domain apart) is denied by
 * name, and so is cut: it is about who he is. Of all others those are allowed who may call; whose cluster may not drains.
 */
export function callerFilters({ callers, federated, ambiguous, shared }: Callers): Filter[] {
  const denied = [
    ...ambiguous.map(({ publicKeyHash, ...ca }): [string, Principal] => [
      `ambiguous issuer: ${ambiguity({ publicKeyHash, ...ca })}`,
      issuedBy([publicKeyHash]),
    ]),
    ...shared.map(({ trustDomain, clusters, issuers }): [string, Principal] => [
      `ambiguous trust domain: "${trustDomain}" belongs to ${clusters.join(', ')}`,
      issuers.length === 0
        ? memberOf(trustDomain)
        : allOf([memberOf(trustDomain), noneOf(issuedBy(issuers))]),
    ]),
  ]
  const allowed = callers.map(({ trustDomain, issuers, policy }): [string, Principal] => [
    policy,
    issuers === undefined
      ? onlyOf(trustDomain, federated)
      : allOf([onlyOf(trustDomain, federated), issuedBy(issuers)]),
  ])
  return [
    ...(denied.length > 0 ? [filter(ISSUER_FILTER, RBACSchema, rbac(RBAC_Action.DENY, denied))] : []),
    filter(REACHABILITY_FILTER, RBACSchema, rbac(RBAC_Action.ALLOW, allowed)),
  ]
}

function rbac(action: RBAC_Action, policies: readonly (readonly [string, Principal])[]): RBAC {
  return create(RBACSchema, {
    statPrefix: 'eastwest.',
    rules: {
      action,
      policies: Object.fromEntries(
        policies.map(([name, principal]) => [
          name,
          { permissions: [{ rule: { case: 'any' as const, value: true } }], principals: [principal] },
        ]),
      ),
    },
  })
}

function allOf(ids: readonly Principal[]): Principal {
  return create(PrincipalSchema, { identifier: { case: 'andIds', value: { ids: [...ids] } } })
}

/**
 * A caller with a URI SAN of `trustDomain` and none of another federated domain: Envoy picks the bundle by the first URI SAN
 * but would match any, so a certificate with two could pass as somebody else.
 */
function onlyOf(trustDomain: string, federated: readonly string[]): Principal {
  const others = federated.filter((other) => other !== trustDomain)
  return create(PrincipalSchema, {
    identifier: {
      case: 'andIds',
      value: {
        ids: [memberOf(trustDomain), ...others.map((other) => noneOf(memberOf(other)))],
      },
    },
  })
}

function noneOf(id: Principal): Principal {
  return create(PrincipalSchema, { identifier: { case: 'notId', value: id } })
}

function memberOf(trustDomain: string): Principal {
  return mtlsAuthenticated(uriSan('prefix', `spiffe://${trustDomain}/`))
}
