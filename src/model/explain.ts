// One call, walked hop by hop, in the words of the decisions that made it work or not. Each cluster speaks of its own half;
// who puts the halves together also tries the network in between.

import { own } from '../lib/own.ts'
import { gatewayFor } from './consumer-address.ts'
import { describeFailover, type FailoverFacts, failoverFacts } from './explain-failover.ts'
import {
  backendHop,
  breaks,
  entryHop,
  exposedHop,
  gatewayHop,
  type Hop,
  holds,
  reachableHop,
} from './explain-hops.ts'
import { gatewayOf } from './export-of.ts'
import { serviceObject } from './headless.ts'
import { hostCandidates } from './host.ts'
import { answeringIds } from './mode.ts'
import { formatServerName } from './server-name.ts'
import type { Exposure, ImportedService, Model, ModelGateway, ModelService } from './types.ts'

export type { FailoverFacts } from './explain-failover.ts'
export type { Hop } from './explain-hops.ts'

/** What a caller must know to reach a service of this cluster from outside. */
export interface ServingTarget {
  readonly host: string
  readonly gateway: ModelGateway
  /** Who answers there. */
  readonly spiffeIds: readonly string[]
  readonly sni: string
}

/** The exposed service behind `host` (short names too) and `port`; undefined where nothing is exposed. */
export function servingTarget(
  model: Model,
  host: string,
  port: number,
  fromCluster = '',
): ServingTarget | undefined {
  const exposure = findExposure(model, host)
  const gateway = exposure === undefined ? undefined : gatewayTowards(model, exposure, fromCluster)
  if (exposure === undefined || gateway === undefined) return undefined
  const found = exposure.service.host
  const spiffeIds = answeringIds(model.self, exposure, gateway)
  return { host: found, gateway, spiffeIds, sni: formatServerName({ port, subset: '', host: found }) }
}

/** The serving cluster's half: exposed, reachable, the gateway's address, backends. Hops that cannot be judged are left out. */
export function explainServing(model: Model, fromCluster: string, host: string, port: number): Hop[] {
  const exposure = findExposure(model, host)
  const hops = [exposedHop(model, exposure, host, port), reachableHop(model, fromCluster)]
  if (exposure === undefined) return hops
  const gateway = gatewayTowards(model, exposure, fromCluster)
  if (gateway !== undefined) hops.push(gatewayHop(gateway))
  const served = exposure.service.ports.find((each) => each.number === port)
  if (served !== undefined) {
    const name = serviceObject(exposure.service)
    hops.push(backendHop(model, name, served.endpoints))
  }
  return hops
}

/** Where calls of this cluster to `host` (short names too) go first, where next, and now; undefined where it knows no such port. */
export function explainFailover(model: Model, host: string, port: number): FailoverFacts | undefined {
  return failoverFacts(model, findService(model, host), findImport(model, host), port)
}

/**
 * The client cluster's half: its own copy of reachability towards `toCluster` (where told which), its ServiceEntry, the
 * addresses that it names. Where the service also runs here, ready local endpoints are the whole way.
 */
export function explainClient(model: Model, host: string, port: number, toCluster?: string): Hop[] {
  const local = findService(model, host)
  const localPort = local?.ports.find((each) => each.number === port)
  const imported = findImport(model, host)
  const facts = imported === undefined ? undefined : failoverFacts(model, local, imported, port)
  const order = facts === undefined || facts.levels.flat().length < 2 ? '' : `; ${describeFailover(facts)}`
  if (local !== undefined && localPort !== undefined) {
    const name = serviceObject(local)
    const backend = backendHop(model, name, localPort.endpoints)
    if (backend.ok || imported === undefined) {
      return [
        holds(
          'entry',
          `${name} runs in ${model.self.id} itself${order === '' ? ': nobody else has it' : order}`,
        ),
        backend,
      ]
    }
  }
  const entry = entryHop(model, imported, host, port)
  const hops = [...ownReachability(model, imported, toCluster), entry]
  const name = imported?.ports.find((each) => each.number === port)?.name
  if (imported === undefined || name === undefined) return hops
  const addresses = imported.endpoints
    .filter(
      (endpoint) => toCluster === undefined || endpoint.cluster === '' || endpoint.cluster === toCluster,
    )
    .flatMap((endpoint) => {
      const at = own(endpoint.ports, name)
      return at === undefined ? [] : [`${endpoint.address} port ${at}`]
    })
  if (addresses.length > 0)
    return [...hops, holds('address', `${imported.source} leads to ${addresses.join(', ')}${order}`)]
  const towards = toCluster === undefined ? '' : ` in ${toCluster}`
  const detail = `${imported.source} has no endpoint for port ${port}${towards}`
  return [...hops, breaks('address', 'NoEndpoints', detail, `${imported.source} spec.endpoints`)]
}

/** The gateway that serves it, with the addresses that are for the network of a cluster. */
function gatewayTowards(model: Model, exposure: Exposure, cluster: string): ModelGateway | undefined {
  const gateway = gatewayOf(model, exposure)
  const network = model.clusters.get(cluster)?.network
  return gateway === undefined || network === undefined ? gateway : gatewayFor(gateway, network)
}

function findExposure(model: Model, host: string): Exposure | undefined {
  return firstOf(hostCandidates(host), (candidate) => model.exposures.get(candidate))
}

function findService(model: Model, host: string): ModelService | undefined {
  return firstOf(hostCandidates(host), (candidate) =>
    model.services.find((service) => service.host === candidate),
  )
}

function findImport(model: Model, host: string): ImportedService | undefined {
  return firstOf(hostCandidates(host), (candidate) => model.imports.find((each) => each.host === candidate))
}

function firstOf<T>(
  candidates: readonly string[],
  find: (candidate: string) => T | undefined,
): T | undefined {
  for (const candidate of candidates) {
    const found = find(candidate)
    if (found !== undefined) return found
  }
  return undefined
}

/** The client's own copy can only narrow: it is shown where it says no, and where we know towards whom. */
function ownReachability(
  model: Model,
  imported: ImportedService | undefined,
  toCluster: string | undefined,
): Hop[] {
  const targets =
    toCluster !== undefined
      ? [toCluster]
      : imported !== undefined
        ? [...new Set(imported.endpoints.map((endpoint) => endpoint.cluster))]
        : model.peers.map((peer) => peer.cluster)
  return targets.flatMap((id) => {
    const cluster = model.clusters.get(id)
    if (cluster === undefined) return []
    const decision = model.mayCall(model.self, cluster)
    if (decision.allowed) return [holds('reachable', `copy of ${model.self.id}: ${decision.reason}`)]
    const fix = `OrganizationSetting spec.networkSettings.networkReachability["${model.self.network}"]: add "${cluster.network}", in the copy of ${model.self.id}`
    return [breaks('reachable', 'NotReachable', `copy of ${model.self.id}: ${decision.reason}`, fix)]
  })
}
