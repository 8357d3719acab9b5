import { PORTS_ANNOTATION } from '../objects/port-list.ts'
import { aliasesOf } from './aliases.ts'
import { handshakePolicy, policiesFor } from './handshake-policy.ts'
import { serviceObject } from './headless.ts'
import { hostCandidates } from './host.ts'
import { speaksFirst } from './protocol.ts'
import { formatServerName } from './server-name.ts'
import type { Exposure, ImportedService, Model, ModelEndpoint, ModelGateway } from './types.ts'

export interface Hop {
  readonly hop: 'exposed' | 'reachable' | 'config' | 'entry' | 'address' | 'tcp' | 'tls' | 'backend'
  readonly ok: boolean
  /** What was found, naming the object that decided. */
  readonly detail: string
  /** The object and field to change; '' where the hop holds. */
  readonly fix: string
  /** For programs: `NoService`, `NotExposed`, `NotReachable`, `AwaitingAddress`, `NoEntry`, …; absent where the hop holds. */
  readonly code?: string
}

export const holds = (hop: Hop['hop'], detail: string): Hop => ({ hop, ok: true, detail, fix: '' })
export const breaks = (hop: Hop['hop'], code: string, detail: string, fix: string): Hop => ({
  hop,
  ok: false,
  detail,
  fix,
  code,
})

export function exposedHop(model: Model, exposure: Exposure | undefined, host: string, port: number): Hop {
  const cluster = model.self.id
  if (exposure === undefined) {
    const [name = '', namespace = ''] = host.split('.')
    const neighbours = model.services
      .filter((service) => service.namespace === namespace)
      .map((service) => service.name)
    const known =
      neighbours.length === 0 ? '' : `; namespace "${namespace}" has ${neighbours.slice(0, 5).join(', ')}`
    const said = model.conditions.find(
      (each) => each.object === `Service/${namespace}/${name}` && !each.status,
    )
    const why =
      said === undefined
        ? `has no Service ${namespace}/${name}${known}`
        : `cannot use ${said.object}: ${said.message}`
    return breaks(
      'exposed',
      'NoService',
      `${cluster} ${why}`,
      said?.object ?? `apply Service/${namespace}/${name} in ${cluster}`,
    )
  }
  const { service, decision, rule, fix } = exposure
  const name = serviceObject(service)
  if (!decision.allowed) return breaks('exposed', 'NotExposed', `${name}: ${decision.reason}`, fix ?? rule)
  if (!service.ports.some((each) => each.number === port)) {
    const all = model.services.find((each) => each.host === service.host)?.ports ?? []
    if (all.some((each) => each.number === port)) {
      const list = service.ports.map((each) => each.number).join(', ')
      const fix = `metadata.annotations["${PORTS_ANNOTATION}"] of ${name}, or of the item of ${rule}`
      return breaks('exposed', 'PortNotExposed', `${name}: port ${port} is not exposed, only ${list}`, fix)
    }
    const ports = service.ports.map((each) =>
      each.name === '' ? `${each.number}` : `${each.number} (${each.name})`,
    )
    const detail = `${name} has no TCP port ${port}; it has ${ports.join(', ')}`
    return breaks('exposed', 'NoPort', detail, `the port that is called, or ${name} spec.ports`)
  }
  return holds(
    'exposed',
    `rule ${rule}: ${decision.reason}${served(exposure)}${firstWord(model, exposure, port)}`,
  )
}

/** How, and whether the gateway knows who calls; why, where that is not the usual way. */
function served({ mode }: Exposure): string {
  if (mode === undefined) return ''
  const caller = mode.mode === 'passthrough' ? 'caller: unverified' : 'caller: verified'
  return `; ${mode.mode}, ${caller}${mode.reason === 'the default' ? '' : `: ${mode.reason}`}`
}

/** Where the server may speak first, which matters where an Envoy is the gateway: it asks policy at the client's first byte. */
function firstWord(
  { authorization }: Model,
  { service, gateway = '', mode }: Exposure,
  number: number,
): string {
  const port = service.ports.find((each) => each.number === number)
  if (port === undefined || mode?.mode === 'passthrough') return ''
  const first = speaksFirst(port.protocol)
  if (first === 'client') return ''
  const names = [
    formatServerName({ port: number, subset: '', host: service.host }),
    ...aliasesOf(service, port),
  ]
  const policy = handshakePolicy(policiesFor(authorization.get(gateway) ?? [], names))
  const who =
    first === 'server'
      ? `${port.protocol}: the server speaks first`
      : "no protocol is named: the server may speak first, unless appProtocol or the port's name says otherwise"
  const waits =
    policy.decides === 'handshake'
      ? ''
      : `; where an Envoy is the gateway it waits for the client all the same, since ${policy.reason}`
  return `; ${who}${waits}`
}

/** May the caller's cluster come in: known, told apart by its trust domain, verifiable, and on a network that may call. */
export function reachableHop(model: Model, from: string): Hop {
  const { self } = model
  const client = model.clusters.get(from)
  if (client === undefined) {
    const detail = `${self.id} knows no cluster "${from}"`
    return breaks(
      'reachable',
      'UnknownCluster',
      detail,
      `apply Cluster/${from} and its peer Secret in ${self.id}`,
    )
  }
  const decision = model.mayCall(client, self)
  const admitted = model.admits(client)
  if (!admitted.allowed) {
    const fix = `OrganizationSetting spec.networkSettings.networkReachability["${client.network}"]: add "${self.network}", in the copy of ${self.id}`
    return breaks('reachable', 'NotReachable', decision.reason, fix)
  }
  if (from !== self.id && !model.peers.some((peer) => peer.cluster === from)) {
    const detail = `${self.id} has no trust bundle of "${from}" and cannot verify its certificates`
    return breaks(
      'reachable',
      'NoPeer',
      detail,
      `apply a Secret labelled isthmus.io/peer: "true" with data.cluster ${from}`,
    )
  }
  const origin = model.origins.get(from)
  if (origin === undefined || origin.issuers?.length === 0) {
    const detail = `trust domain "${client.trustDomain}" of ${from} is not its alone, nor is any CA of it, so its callers cannot be told apart`
    return breaks(
      'reachable',
      'AmbiguousTrustDomain',
      detail,
      `Cluster/${from} spec.trustDomain and the certificates of ${from}`,
    )
  }
  return holds('reachable', decision.allowed ? decision.reason : `${decision.reason}; but ${admitted.reason}`)
}

export function gatewayHop(gateway: ModelGateway): Hop {
  const name = `gateway ${gateway.namespace}/${gateway.name}`
  if (gateway.addresses.length === 0) {
    return breaks(
      'address',
      'AwaitingAddress',
      `AwaitingAddress: ${name}: ${gateway.addressReason}`,
      gateway.addressReason,
    )
  }
  const list = gateway.addresses.map(({ address, port }) => `${address} port ${port}`).join(', ')
  return holds('address', `${name} at ${list}, from ${gateway.addressReason}`)
}

export function backendHop(model: Model, name: string, endpoints: readonly ModelEndpoint[]): Hop {
  const ready = endpoints.filter((endpoint) => endpoint.ready)
  if (ready.length > 0) {
    const first = ready.slice(0, 3).map(({ address, port }) => `${address} port ${port}`)
    return holds(
      'backend',
      `${ready.length} of ${endpoints.length} endpoints of ${name} ready: ${first.join(', ')}`,
    )
  }
  const said = model.conditions.find(
    (each) => each.object === name && each.type === 'ResolvedRefs' && !each.status,
  )
  if (endpoints.length === 0) {
    const why = said === undefined ? '' : `: ${said.message}`
    return breaks(
      'backend',
      'NoEndpoints',
      `${name} has no endpoint for this port${why}`,
      `${name} spec.selector and spec.ports, or the pods they mean`,
    )
  }
  const draining = endpoints.filter((endpoint) => endpoint.draining).length
  if (draining > 0) {
    // They are the last resort of the gateway: a call still succeeds, for as long as they live.
    return holds('backend', `no endpoint of ${name} is ready; ${draining} are terminating but still serve`)
  }
  const detail = `none of the ${endpoints.length} endpoints of ${name} is ready`
  const pods = endpoints.map((endpoint) => endpoint.podName || endpoint.address).slice(0, 3)
  return breaks(
    'backend',
    'NotReady',
    detail,
    `readiness of ${pods.join(', ')} (status.conditions of the pods)`,
  )
}

export function entryHop(
  model: Model,
  imported: ImportedService | undefined,
  host: string,
  port: number,
): Hop {
  const cluster = model.self.id
  if (imported === undefined) {
    const full = hostCandidates(host).at(-1) ?? host
    const detail = `${cluster} has no ServiceEntry for ${full}`
    const fix = `discovery of ${cluster} writes one when a peer exports the service: isthmus status shows the peers`
    return breaks('entry', 'NoEntry', detail, fix)
  }
  if (imported.ports.some((each) => each.number === port))
    return holds('entry', `${imported.source} in ${cluster}`)
  const ports = imported.ports.map((each) => each.number).join(', ')
  return breaks(
    'entry',
    'NoPort',
    `${imported.source} has no port ${port}; it has ${ports}`,
    'the port that is called',
  )
}
