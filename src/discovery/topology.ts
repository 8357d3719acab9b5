import { exportsFor } from '../model/export-of.ts'
import { answeringIds } from '../model/mode.ts'
import type { ClusterInfo, Decision, Exposure, GatewayAddress, Model } from '../model/types.ts'

/** What one cluster says of the whole: `GET /topology`. It speaks for itself, and knows the others from its own copy of the objects. */
export interface Topology {
  /** Who says so. */
  readonly cluster: string
  readonly clusters: readonly {
    readonly id: string
    readonly network: string
    readonly trustDomain: string
    /** `region/zone`, as far as known. */
    readonly locality: string
    /** `peer`: linked to the one that speaks; `known`: there is a Cluster object, and no trust. */
    readonly relation: 'self' | 'peer' | 'known'
  }[]
  /** '' = the unnamed network. */
  readonly networks: readonly { readonly name: string; readonly clusters: readonly string[] }[]
  /** Every ordered pair of two networks. */
  readonly reachability: readonly (Decision & { readonly from: string; readonly to: string })[]
  /** Every pair of clusters of which the one that speaks is one: its copy of the verdict. */
  readonly calls: readonly (Decision & { readonly from: string; readonly to: string })[]
  readonly gateways: readonly {
    readonly name: string
    readonly addresses: readonly GatewayAddress[]
    /** What is awaited where there is none. */
    readonly addressReason: string
    /** Names of the AuthorizationPolicies in force there. */
    readonly policies: readonly string[]
  }[]
  readonly exposed: readonly {
    readonly host: string
    readonly ports: readonly number[]
    readonly gateway: string
    readonly mode: string
    /** Who answers. */
    readonly spiffeIds: readonly string[]
    /** Whether the gateway knows who calls; where it passes through, the workload does. */
    readonly callerVerified: boolean
    /** Clusters whose callers are let in. */
    readonly callers: readonly string[]
    /** Clusters that are told of it. */
    readonly toldTo: readonly string[]
  }[]
  readonly imported: readonly {
    readonly host: string
    readonly ports: readonly number[]
    readonly clusters: readonly string[]
    readonly source: string
  }[]
}

/** Pure; sorted by id, name or host throughout. */
export function topologyOf(model: Model): Topology {
  const clusters = [...model.clusters.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  const { self } = model
  const others = clusters.filter(({ id }) => id !== self.id)
  const peers = new Set(model.peers.map(({ cluster }) => cluster))
  const names = [...new Set(clusters.map(({ network }) => network))].sort()
  return {
    cluster: self.id,
    clusters: clusters.map((each) => ({
      id: each.id,
      network: each.network,
      trustDomain: each.trustDomain,
      locality: [each.locality.region, each.locality.zone].filter((part) => part !== '').join('/'),
      relation: each.id === self.id ? 'self' : peers.has(each.id) ? 'peer' : 'known',
    })),
    networks: names.map((name) => ({
      name,
      clusters: clusters.filter(({ network }) => network === name).map(({ id }) => id),
    })),
    reachability: names.flatMap((from) =>
      names.flatMap((to) => (from === to ? [] : [{ from, to, ...model.reachable(from, to) }])),
    ),
    calls: others.flatMap((other) => [
      { from: self.id, to: other.id, ...model.mayCall(self, other) },
      { from: other.id, to: self.id, ...model.mayCall(other, self) },
    ]),
    gateways: model.gateways.map(({ namespace, name, addresses, addressReason }) => ({
      name: `${namespace}/${name}`,
      addresses,
      addressReason,
      policies: (model.authorization.get(`${namespace}/${name}`) ?? []).map((policy) => policy.name),
    })),
    exposed: exposedOf(model, others),
    imported: model.imports.map(({ host, ports, endpoints, source }) => ({
      host,
      ports: ports.map(({ number }) => number),
      clusters: [...new Set(endpoints.map(({ cluster }) => cluster))].filter((id) => id !== '').sort(),
      source,
    })),
  }
}

function exposedOf(model: Model, others: readonly ClusterInfo[]): Topology['exposed'] {
  const callers = others.filter((each) => isLetIn(model, each)).map(({ id }) => id)
  const told = new Map<string, string[]>()
  for (const { cluster } of model.peers) {
    const peer = model.clusters.get(cluster)
    if (peer === undefined) continue
    for (const { service } of exportsFor(model, peer).services)
      told.set(service.host, [...(told.get(service.host) ?? []), cluster])
  }
  return [...model.exposures.values()]
    .filter(({ decision }) => decision.allowed)
    .map((exposure) => ({
      host: exposure.service.host,
      ports: exposure.service.ports.map(({ number }) => number),
      gateway: exposure.gateway ?? '',
      mode: exposure.mode?.mode ?? '',
      spiffeIds: idsOf(model, exposure),
      callerVerified: exposure.mode?.mode === 'terminate',
      callers,
      toldTo: told.get(exposure.service.host) ?? [],
    }))
}

/** Whether the callers of a cluster are let in: they can be told apart and verified, and their network may call. */
export function isLetIn(model: Model, cluster: ClusterInfo): boolean {
  const origin = model.origins.get(cluster.id)
  const known = cluster.id === model.self.id || model.peers.some((peer) => peer.cluster === cluster.id)
  return known && origin !== undefined && origin.issuers?.length !== 0 && model.admits(cluster).allowed
}

function idsOf(model: Model, exposure: Exposure): readonly string[] {
  const gateway = model.gateways.find(({ namespace, name }) => `${namespace}/${name}` === exposure.gateway)
  return gateway === undefined ? [] : answeringIds(model.self, exposure, gateway)
}
