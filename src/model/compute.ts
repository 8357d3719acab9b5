import type { TrustBundle } from '../identity/trust-bundle.ts'
import type { ObjectStore } from '../objects/store.ts'
import { collectAuthorization } from './authorization.ts'
import { Conditions } from './conditions.ts'
import { isManagedEntry } from './managed.ts'
import { ModelStages } from './model-stages.ts'
import type { NetworkTransition } from './network-transition.ts'
import { networkRelation, selectOrganizationSetting } from './reachability.ts'
import type { Model, Peer } from './types.ts'

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

/**
 * Derives the model of one cluster from its objects: pure, so equal objects give an equal model, in any order of listing. With the
 * `stages` of the model before, only what changed since is derived anew, and what did not is the same object.
 */
export function computeModel(
  { cluster, trustDomain, list, refused, bundleOf, transition }: ModelInput,
  stages = new ModelStages(),
): Model {
  const conditions = new Conditions()
  const peers = stages.peers.get({ cluster, secrets: list('Secret') }, conditions)
  const { self, clusters, clusterByTrustDomain, ownLabels, objects } = stages.clusters.get(
    { cluster, trustDomain, objects: list('Cluster'), peers },
    conditions,
  )
  const bundles = new Map<string, TrustBundle>()
  for (const peer of [undefined, ...peers]) {
    const bundle = bundleOf?.(peer)
    if (bundle !== undefined) bundles.set(peer?.cluster ?? cluster, bundle)
  }
  const origins = stages.origins.get(
    { clusters, objects, ids: [...bundles.keys()], bundles: [...bundles.values()] },
    conditions,
  )
  const organization = selectOrganizationSetting(list('OrganizationSetting'), list('Cluster'), conditions)
  const networks = networkRelation(organization, { self, clusters, ...transition })

  const pods = stages.pods.get({ pods: list('Pod') }, conditions)
  const services = stages.services.get(
    { services: list('Service'), slices: list('EndpointSlice'), pods, rules: list('DestinationRule') },
    conditions,
  )
  const namespaces = stages.namespaces.get({ objects: list('Namespace'), services }, conditions)
  const workspaces = stages.workspaces.get(
    { cluster, workspaces: list('Workspace'), settings: list('WorkspaceSetting'), namespaces },
    conditions,
  )
  const gateways = stages.gateways.get(
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
  const keptOut = peers
    .map((peer) => peer.cluster)
    .filter((id) => !networks.admits(clusters.get(id) ?? self).allowed)
  const exposures = stages.exposures.get({ cluster, keptOut, services, workspaces, gateways }, conditions)
  stages.settings.get({ services, workspaces, gateways }, conditions)
  const imports = stages.imports.get({ entries: list('ServiceEntry'), namespaces }, conditions)
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
    written: list('ServiceEntry').filter(({ metadata }) => isManagedEntry(metadata)),
    peers,
    ...networks,
    failover: stages.failover.get({ workspaces, organization }, conditions),
    ownLabels,
    conditions: conditions.list(),
  }
}
