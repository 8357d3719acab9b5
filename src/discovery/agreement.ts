import { canonicalJson } from '../lib/canonical.ts'
import { Memo } from '../lib/memo.ts'
import { ENTRY_NAMESPACE, MANAGED_BY, MANAGER } from '../model/managed.ts'
import type { Model, ModelCondition } from '../model/types.ts'
import type { ObjectStore } from '../objects/store.ts'
import { PEER_LEASE_MS, refKey, refOf } from '../objects/types.ts'
import { portConflicts } from '../resources/port-conflicts.ts'
import type { EntryConfig } from '../resources/service-entry.ts'
import { entryOf } from '../resources/service-entry-manifest.ts'
import type { NodeInfo } from '../xds/types.ts'
import { peerConditions } from './peer-conditions.ts'
import type { LossPolicy } from './peer-offers.ts'
import type { Peers } from './peers.ts'
import { agreementConditions, type Claim, offerConditions, readClaim, type StatusInputs } from './status.ts'

type PeersPart = Pick<Peers, 'disagreements' | 'refused' | 'offers' | 'links'>

/** What the peers' copies of the objects say beside ours, and the conditions of Cluster objects that follow from it. */
export class Agreement {
  readonly #store: ObjectStore
  readonly #peers: PeersPart
  /** What peers' nodes claimed about calling us, by cluster. */
  readonly #claims = new Map<string, Claim>()

  readonly #memo = new Memo()

  constructor(store: ObjectStore, peers: PeersPart) {
    this.#store = store
    this.#peers = peers
  }

  /** Reads what a peer's node claims about calling us. Whether that is news. */
  heardFrom(cluster: string, node: NodeInfo): boolean {
    const claim = readClaim(node)
    if (claim === undefined || canonicalJson(claim) === canonicalJson(this.#claims.get(cluster))) return false
    this.#claims.set(cluster, claim)
    return true
  }

  inputs(
    model: Model | undefined,
  ): Pick<StatusInputs, 'model' | 'disagreements' | 'claims' | 'refused' | 'objectOf'> {
    return {
      model,
      disagreements: this.#peers.disagreements(),
      claims: this.#claims,
      refused: this.#peers.refused(),
      objectOf: (cluster) => this.objectOf(cluster),
    }
  }

  conditions(model: Model | undefined): ModelCondition[] {
    const inputs = this.inputs(model)
    const links = [...this.#peers.links()].flatMap(([cluster, link]) =>
      peerConditions(this.objectOf(cluster), cluster, link, lossPolicyOf(this.#store, cluster)),
    )
    const conflicts =
      model === undefined
        ? []
        : portConflicts(model.self.id, model.services, this.#peers.offers(), this.#memo)
    return [...agreementConditions(inputs), ...offerConditions(inputs), ...conflicts, ...links]
  }

  /** refKey of the Cluster object of that name. */
  objectOf(cluster: string): string {
    const object = this.#store.list('Cluster').find(({ metadata }) => metadata.name === cluster)
    return object === undefined ? `Cluster/${cluster}` : refKey(refOf(object))
  }
}

/** What is to become of a cluster's exports when it is gone, as its Cluster object says. */
export function lossPolicyOf(store: ObjectStore, cluster: string): LossPolicy {
  const object = store.list('Cluster').find(({ metadata }) => metadata.name === cluster)
  return {
    onPeerLoss: object?.spec.onPeerLoss ?? 'withdraw',
    leaseMs: object?.spec.peerLeaseMs ?? PEER_LEASE_MS,
  }
}

/** The entries in the store that this or an earlier run wrote. */
export function writtenEntries(store: ObjectStore): EntryConfig[] {
  return store
    .list('ServiceEntry')
    .filter(
      ({ metadata }) => metadata.namespace === ENTRY_NAMESPACE && metadata.labels[MANAGED_BY] === MANAGER,
    )
    .map(entryOf)
}
