import type { ModelCondition } from '../model/types.ts'
import type { PeerLink } from './peer-link.ts'
import type { LossPolicy } from './peer-offers.ts'

type State = Pick<PeerLink, 'connected' | 'lastError' | 'reversed' | 'offers'>

/**
 * Two conditions of a peer's Cluster object: `Connected`, whether it can be heard, and `ExportsCurrent`, whether what is in force of its
 * exports is what it offers now. Messages change with the facts alone, never with the time.
 */
export function peerConditions(
  object: string,
  cluster: string,
  link: State,
  policy: LossPolicy,
): ModelCondition[] {
  return [connected(object, cluster, link), current(object, cluster, link, policy)]
}

function connected(object: string, cluster: string, link: State): ModelCondition {
  const common = { object, type: 'Connected' as const }
  const { fault } = link.offers
  if (fault !== undefined) return { ...common, status: false, reason: fault.fault, message: fault.message }
  if (!link.connected) return { ...common, status: false, reason: 'Unreachable', message: link.lastError }
  const how = link.reversed ? `${cluster} has dialled us` : `${cluster} is dialled`
  return { ...common, status: true, reason: link.reversed ? 'DialledByPeer' : 'Dialled', message: how }
}

function current(object: string, cluster: string, { offers }: State, policy: LossPolicy): ModelCondition {
  const common = { object, type: 'ExportsCurrent' as const }
  const { staleSinceMs, frozen } = offers
  if (staleSinceMs === undefined)
    return { ...common, status: true, reason: 'Current', message: `what ${cluster} offers is in force` }
  const since = new Date(staleSinceMs).toISOString()
  const ends =
    policy.onPeerLoss === 'keep'
      ? 'and are kept (isthmus.io/on-peer-loss)'
      : `until ${new Date(staleSinceMs + policy.leaseMs).toISOString()}`
  if (frozen > 0) {
    const what = `${frozen} exports of ${cluster} went missing at once, without a word that they were deleted`
    return {
      ...common,
      status: false,
      reason: 'Frozen',
      message: `${what}; they stay since ${since} ${ends}`,
    }
  }
  const message = `${offers.size} exports of ${cluster} are in force without its word since ${since} ${ends}`
  return { ...common, status: false, reason: 'Stale', message }
}
