import { gatewayFor } from './consumer-address.ts'
import type { ClusterInfo, Decision, Exposure, Model, ModelGateway } from './types.ts'

export interface Exports {
  /** May the peer's network call this cluster's? Nothing is told to a peer that may not. */
  readonly allowed: Decision
  /** What the peer is told of: exposed, through a gateway that has an address. Sorted by host. */
  readonly services: readonly Exposure[]
  /** With the addresses that are for the peer's network. */
  readonly gateways: readonly ModelGateway[]
  /** Exposed, but held back, with the reason: the gateway has no address yet. */
  readonly withheld: readonly { readonly exposure: Exposure; readonly reason: string }[]
}

/** What this cluster tells one peer: the serving cluster's own copy of the objects decides. */
export function exportsFor(model: Model, peer: ClusterInfo): Exports {
  const allowed = model.mayCall(peer, model.self)
  if (!allowed.allowed) return { allowed, services: [], gateways: [], withheld: [] }
  const gateways = model.gateways.map((gateway) => gatewayFor(gateway, peer.network))
  const services: Exposure[] = []
  const withheld: { exposure: Exposure; reason: string }[] = []
  for (const exposure of model.exposures.values()) {
    const gateway = gatewayOf({ gateways }, exposure)
    if (!exposure.decision.allowed || gateway === undefined) continue
    if (gateway.addresses.length > 0) services.push(exposure)
    else withheld.push({ exposure, reason: `AwaitingAddress: ${gateway.addressReason}` })
  }
  return { allowed, services, gateways, withheld }
}

/** The gateway that serves an exposed service. */
export function gatewayOf(model: Pick<Model, 'gateways'>, exposure: Exposure): ModelGateway | undefined {
  if (exposure.gateway === undefined) return undefined
  return model.gateways.find(({ namespace, name }) => `${namespace}/${name}` === exposure.gateway)
}

/**
 * The serving cluster's copy of the objects decides; the client's can only narrow. One sentence where the two copies say
 * different things, undefined where they agree or the other side has not spoken.
 */
export function disagreement(ownSays: Decision, otherSays: Decision | undefined): string | undefined {
  if (otherSays === undefined || ownSays.allowed === otherSays.allowed) return undefined
  const word = (decision: Decision) => (decision.allowed ? 'allows it' : 'refuses it')
  return `the two clusters disagree: this one ${word(ownSays)} (${ownSays.reason}), the other ${word(otherSays)} (${otherSays.reason}); it is refused`
}
