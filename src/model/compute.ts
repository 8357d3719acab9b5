import type { TrustBundle } from '../identity/trust-bundle.ts'
import type { ObjectStore } from '../objects/store.ts'
import { collectAuthorization } from './authorization.ts'
import { collectClusters, readPeers } from './clusters.ts'
import { Conditions } from './conditions.ts'
import { collectExposures } from './exposure.ts'
import { collectGateways } from './gateways.ts'
import { collectImports } from './imports.ts'
import type { NetworkTransition } from './network-transition.ts'
import { collectOrigins, reportOrigins } from './origins.ts'
import { PodIndex } from './pod-index.ts'
import { networkRelation, selectOrganizationSetting } from './reachability.ts'
import { collectServices } from './services.ts'
import { reportSettings } from './setting-status.ts'
import type { Model, Peer } from './types.ts'
import { indexWorkspaces } from './workspaces.ts'

export interface ModelInput {
  /** This cluster's name. */
  readonly cluster: string
  /** The trust domain of this cluster's own certificates. */
  readonly trustDomain: string
  /** Every object in force now. */
  readonly list: ObjectStore['list']
  /** What should be in force and cannot be read; without it nothing is refused. */
  readonly refused?: ObjectStore['refused']
  /** What the last model remembered of networks that were being named, and the time now in milliseconds. */
  readonly transition?: { readonly previous: NetworkTransition | undefined; readonly nowMs: number }
  /** The bundle of this cluster (undefined) or of a peer, as it is in force; without them clusters that share a trust domain are nobody. */
  readonly bundleOf?: (peer: Peer | undefined) => TrustBundle | undefined
}

/** Derives the model of one cluster from its objects: pure, so equal objects give an equal model, in any order of listing. */
export function computeModel({
  cluster,
  trustDomain,
  list,
  refused,
  bundleOf,
  transition,
}: ModelInput): Model {
  const conditions = new Conditions()
  const peers = readPeers(list('Secret'), cluster, conditions)
  const { self, clusters, clusterByTrustDomain, objects } = collectClusters(
    { cluster, trustDomain },
    list('Cluster'),
    peers,
    conditions,
  )
  const bundles = new Map<string, TrustBundle>()
  for (const peer of [undefined, ...peers]) {
    const bundle = bundleOf?.(peer)
    if (bundle !== undefined) bundles.set(peer?.cluster ?? cluster, bundle)
  }
  const origins = collectOrigins(clusters, bundles)
  reportOrigins(origins, bundles, objects, conditions)
  const organization = selectOrganizationSetting(list('OrganizationSetting'), list('Cluster'), conditions)
  const networks = networkRelation(organization, { self, clusters, ...transition })

  const pods = new PodIndex(list('Pod'))
  const services = collectServices(list('Service'), list('EndpointSlice'), pods, conditions)
  const namespaces = new Set([
    ...list('Namespace').map((namespace) => namespace.metadata.name),
    ...services.map((service) => service.namespace),
  ])
  const workspaces = indexWorkspaces(
    cluster,
    list('Workspace'),
    list('WorkspaceSetting'),
    namespaces,
    conditions,
  )
  const gateways = collectGateways(
    {
      trustDomain,
      objects: [...list('IngressGateway'), ...list('Gateway')],
      deployments: list('Deployment'),
      services: list('Service'),
      pods,
      selectors: workspaces.settings.flatMap((setting) =>
        setting.spec.defaultEastWestGatewaySettings.map((item) => item.workloadSelector),
      ),
    },
    conditions,
  )
  const exposures = collectExposures(
    cluster,
    services,
    workspaces,
    gateways,
    peers.map((peer) => peer.cluster).filter((id) => !networks.admits(clusters.get(id) ?? self).allowed),
  )
  reportSettings(services, workspaces, gateways, conditions)
  const imports = collectImports(list('ServiceEntry'), namespaces, conditions)
  return {
    self,
    clusters,
    clusterByTrustDomain,
    ...origins,
    services,
    gateways: gateways.gateways,
    exposures,
    authorization: collectAuthorization(
      list('AuthorizationPolicy'),
      refused?.('AuthorizationPolicy') ?? [],
      gateways.gateways,
      trustDomain,
      conditions,
    ),
    imports,
    peers,
    ...networks,
    conditions: conditions.list(),
  }
}
