import { formatProblem, type Problem } from '../lib/result.ts'
import { disagreement } from '../model/export-of.ts'
import type { Decision, Model, ModelCondition } from '../model/types.ts'
import type { ClientStatus } from '../xds/server-stream.ts'
import type { NodeInfo } from '../xds/types.ts'
import { type PeerStatus, REACHABLE_CLAIM, REASON_CLAIM } from './peers.ts'
import { viewKey } from './views.ts'

/** What a peer's node says about calling us, and the network it says it is on. */
export interface Claim extends Decision {
  readonly network: string
}

/** The claim in a peer's node metadata; undefined where it makes none. */
export function readClaim({ metadata }: NodeInfo): Claim | undefined {
  const reachable = metadata[REACHABLE_CLAIM]
  if (reachable !== 'true' && reachable !== 'false') return undefined
  return {
    allowed: reachable === 'true',
    reason: text(metadata[REASON_CLAIM]),
    network: text(metadata['NETWORK']),
  }
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')

export interface StatusInputs {
  readonly cluster: string
  readonly pending: readonly string[]
  readonly model: Model | undefined
  readonly peers: readonly PeerStatus[]
  /** About us calling them: cluster → sentence. */
  readonly disagreements: ReadonlyMap<string, string>
  /** About them calling us. */
  readonly claims: ReadonlyMap<string, Claim>
  /** Of what peers offer: cluster → problems of the entries that are not taken. */
  readonly refused: ReadonlyMap<string, readonly Problem[]>
  /** refKey of the object that stands for a cluster. */
  readonly objectOf: (cluster: string) => string
  readonly problems: readonly Problem[]
  readonly clients: readonly ClientStatus[]
  readonly nowMs?: number
}

/** A client as an operator sees it: `view` without what is the same for all of its kind. */
function clientStatus(client: ClientStatus, nowMs: number) {
  const { nodeId, userAgent, address, variant, blocked, bytesSent, pushes, types } = client
  const connectedForS = Math.max(0, Math.round((nowMs - client.connectedSinceMs) / 1_000))
  return {
    nodeId,
    userAgent,
    address,
    ...viewOf(client),
    variant,
    connectedForS,
    blocked,
    bytesSent,
    pushes,
    types,
  }
}

function viewOf({ view }: ClientStatus): { kind: string; view: string } {
  const key = viewKey(view)
  if (key === undefined) return { kind: '', view: '' }
  switch (key.kind) {
    case 'gateway':
      return { kind: key.kind, view: key.gateway }
    case 'sidecar':
      return { kind: key.kind, view: [key.bind, ...(key.http ? ['http'] : [])].join(' ') }
    case 'exports':
      return { kind: 'peer', view: `exports to ${key.cluster}` }
    default:
      return { kind: key.kind, view: '' }
  }
}

/** `GET /status` of discovery. */
export function discoveryStatus(inputs: StatusInputs) {
  const { cluster, pending, model, peers, problems, clients, nowMs = Date.now() } = inputs
  return {
    cluster,
    network: model?.self.network ?? '',
    trustDomain: model?.self.trustDomain ?? '',
    ready: pending.length === 0,
    pending,
    peers,
    gateways: (model?.gateways ?? []).map(({ name, namespace, spiffeIds, addresses, addressReason }) => ({
      name,
      namespace,
      spiffeIds,
      addresses,
      addressReason,
    })),
    exposures: [...(model?.exposures.values() ?? [])].map(({ service, decision, gateway, rule, mode }) => ({
      host: service.host,
      ports: service.ports.map(({ number }) => number),
      exposed: decision.allowed,
      gateway: gateway ?? '',
      rule,
      mode: mode?.mode ?? '',
      modeReason: mode?.reason ?? '',
      reason: decision.reason,
    })),
    imports: model?.imports ?? [],
    conditions: [...(model?.conditions ?? []), ...agreementConditions(inputs), ...offerConditions(inputs)],
    problems,
    clients: clients.map((client) => clientStatus(client, nowMs)),
  }
}

/** Condition `Agreed` of each peer's Cluster object: whether its copy of the reachability and ours say the same, both ways. */
export function agreementConditions({
  model,
  disagreements,
  claims,
  objectOf,
}: Pick<StatusInputs, 'model' | 'disagreements' | 'claims' | 'objectOf'>): ModelCondition[] {
  if (model === undefined) return []
  return model.peers.map(({ cluster }) => {
    const calling = disagreements.get(cluster)
    const called = calledBy(model, cluster, claims.get(cluster))
    const sentences = [
      ...(calling === undefined ? [] : [`calls to ${cluster}: ${calling}`]),
      ...(called === undefined ? [] : [`calls from ${cluster}: ${called}`]),
    ]
    return {
      object: objectOf(cluster),
      type: 'Agreed',
      status: sentences.length === 0,
      reason: sentences.length === 0 ? 'Agreed' : 'ReachabilityDisagreement',
      message: sentences.length === 0 ? 'both copies of the reachability say the same' : sentences.join('; '),
    }
  })
}

/** Condition `OffersAccepted` of each peer's Cluster object: whether all that it offers us is taken, and if not, why. */
export function offerConditions({
  refused,
  objectOf,
}: Pick<StatusInputs, 'refused' | 'objectOf'>): ModelCondition[] {
  return [...refused].map(([cluster, problems]) => ({
    object: objectOf(cluster),
    type: 'OffersAccepted',
    status: problems.length === 0,
    reason: problems.length === 0 ? 'Accepted' : 'EntriesRefused',
    message:
      problems.length === 0
        ? `all that ${cluster} offers is taken`
        : `refused: ${problems.slice(0, 3).map(formatProblem).join('; ')}${problems.length > 3 ? `; and ${problems.length - 3} more` : ''}`,
  }))
}

function calledBy(model: Model, cluster: string, claim: Claim | undefined): string | undefined {
  const info = model.clusters.get(cluster)
  if (info === undefined) return undefined
  if (claim !== undefined && claim.network !== info.network) {
    return `it says that it is on network "${claim.network}", here it is on "${info.network}", which counts`
  }
  return disagreement(model.mayCall(info, model.self), claim)
}
