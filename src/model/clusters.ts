import { DISCOVERY_NAMESPACE } from '../identity/spiffe-id.ts'
import type { Cluster, Secret } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { byText, type Labels } from './labels.ts'
import type { ClusterInfo, Peer } from './types.ts'

export const PEER_LABEL = 'isthmus.io/peer'

export interface ClusterSet {
  readonly self: ClusterInfo
  /** By id, `self` among them. */
  readonly clusters: ReadonlyMap<string, ClusterInfo>
  /** Only where one cluster alone has the trust domain. */
  readonly clusterByTrustDomain: ReadonlyMap<string, ClusterInfo>
  /** Labels of our own Cluster object. */
  readonly ownLabels: Labels
  /** The Cluster objects, by id. */
  readonly objects: ReadonlyMap<string, Cluster>
}

/** Whether a Secret says whom this cluster trusts. */
export const isPeerSecret = ({ metadata }: Pick<Secret, 'metadata'>): boolean =>
  metadata.labels[PEER_LABEL] === 'true' && metadata.namespace === DISCOVERY_NAMESPACE

/**
 * Secrets labelled `isthmus.io/peer: "true"` in discovery's own namespace: whoever may write a Secret in another must not say whom this
 * cluster trusts. One per cluster, the first by name; ourselves and incomplete ones never.
 */
export function readPeers(secrets: readonly Secret[], self: string, conditions: Conditions): readonly Peer[] {
  const peers = new Map<string, Peer>()
  for (const secret of [...secrets].sort((a, b) => byText(nameOf(a), nameOf(b)))) {
    if (secret.metadata.labels[PEER_LABEL] !== 'true') continue
    const { cluster = '', trustDomain = '', bundle = '', crl = '', adsAddress = '' } = secret.spec.data
    const missing = Object.entries({ cluster, trustDomain, bundle }).filter(
      ([, value]) => value.trim() === '',
    )
    const other = peers.get(cluster)
    if (!isPeerSecret(secret)) {
      const message = `metadata.namespace: "${secret.metadata.namespace}" names no peers, only Secrets of "${DISCOVERY_NAMESPACE}" do`
      conditions.fails(secret, 'Accepted', 'InvalidPeer', message)
    } else if (missing.length > 0) {
      const fields = missing.map(([key]) => `data.${key}`).join(', ')
      conditions.fails(
        secret,
        'Accepted',
        'InvalidPeer',
        `${fields}: expected a value, found none; this peer is ignored`,
      )
    } else if (cluster === self) {
      conditions.fails(secret, 'Accepted', 'InvalidPeer', `data.cluster: "${cluster}" is this cluster itself`)
    } else if (other !== undefined) {
      conditions.fails(
        secret,
        'Accepted',
        'Conflicted',
        `data.cluster: "${cluster}" is already the peer of ${other.source}`,
      )
    } else {
      conditions.holds(secret, 'Accepted', 'Accepted', `peer ${cluster}, trust domain ${trustDomain}`)
      peers.set(cluster, { cluster, trustDomain, bundle, crl, adsAddress, source: nameOf(secret) })
    }
  }
  return [...peers.values()].sort((a, b) => byText(a.cluster, b.cluster))
}

/**
 * Cluster objects, peers and ourselves. The trust domain of `self` is the one its certificates carry and that of a peer the one
 * its bundle was given for: a Cluster object that says otherwise is told so and overruled. Network and locality are its own.
 */
export function collectClusters(
  self: { readonly cluster: string; readonly trustDomain: string },
  objects: readonly Cluster[],
  peers: readonly Peer[],
  conditions: Conditions,
): ClusterSet {
  const clusters = new Map<string, ClusterInfo>()
  const sources = new Map<string, Cluster>()
  for (const object of [...objects].sort((a, b) => byText(nameOf(a), nameOf(b)))) {
    const id = object.metadata.name
    const other = sources.get(id)
    if (other !== undefined) {
      conditions.fails(object, 'Accepted', 'Conflicted', `metadata.name: "${id}" is already ${nameOf(other)}`)
      continue
    }
    const { network, trustDomain, locality, weight } = object.spec
    sources.set(id, object)
    clusters.set(id, { id, network, trustDomain, locality, ...(weight !== 100 && { weight }) })
    conditions.holds(
      object,
      'Accepted',
      'Accepted',
      network === '' ? 'on the unnamed network' : `on network ${network}`,
    )
  }
  const known = [
    { id: self.cluster, trustDomain: self.trustDomain, from: `the certificates of ${self.cluster}` },
    ...peers.map((peer) => ({ id: peer.cluster, trustDomain: peer.trustDomain, from: peer.source })),
  ]
  for (const { id, trustDomain, from } of known) {
    const object = sources.get(id)
    const said = object?.spec.trustDomain ?? ''
    if (object !== undefined && said !== '' && said !== trustDomain) {
      const message = `spec.trustDomain: "${said}" differs from "${trustDomain}" of ${from}, which counts`
      conditions.fails(object, 'ResolvedRefs', 'TrustDomainMismatch', message)
    }
    const base = clusters.get(id) ?? { id, network: '', locality: { region: '', zone: '' } }
    clusters.set(id, { ...base, trustDomain })
  }
  return {
    self: clusters.get(self.cluster) as ClusterInfo,
    clusters,
    clusterByTrustDomain: indexByTrustDomain(clusters),
    ownLabels: sources.get(self.cluster)?.metadata.labels ?? {},
    objects: sources,
  }
}

function indexByTrustDomain(clusters: ReadonlyMap<string, ClusterInfo>): ReadonlyMap<string, ClusterInfo> {
  const groups = Map.groupBy(clusters.values(), (cluster) => cluster.trustDomain)
  groups.delete('')
  const alone = [...groups].flatMap(([trustDomain, [first, ...more]]) =>
    first === undefined || more.length > 0 ? [] : [[trustDomain, first] as const],
  )
  return new Map(alone)
}
