import { isIP } from 'node:net'
import { parseSpiffeId } from '../identity/spiffe-id.ts'
import type { ImportedService, Model, ModelPort, ModelService } from '../model/types.ts'
import { type EdsEndpoint, localEndpoints, normalise } from './endpoints.ts'

/** One port of a host that workloads of this cluster may call, here or elsewhere. Plain JSON. */
export interface CallablePort {
  readonly number: number
  readonly protocol: ModelPort['protocol']
  readonly endpoints: readonly EdsEndpoint[]
}

export interface CallableHost {
  readonly host: string
  /** Empty for a host that is no Kubernetes service. */
  readonly name: string
  readonly namespace: string
  /** By number. */
  readonly ports: readonly CallablePort[]
  /** SPIFFE ids that its remote gateways may have. */
  readonly gatewayIds: readonly string[]
}

/**
 * Every host that the cluster's workloads may call, sorted: its own services and what is imported, those with the same host
 * merged (same name and namespace = same service). Own endpoints come first, then remote gateways in the own region, then others.
 * `hostNames` false leaves out gateways that are known by a host name only, which an Envoy would not take in EDS.
 */
export function callableHosts(model: Model, hostNames: boolean): CallableHost[] {
  const services = new Map(model.services.map((service) => [service.host, service]))
  const imports = new Map(model.imports.map((entry) => [entry.host, entry]))
  const hosts = [...new Set([...services.keys(), ...imports.keys()])].sort()
  return hosts.map((host) => merge(model, host, services.get(host), imports.get(host), hostNames))
}

function merge(
  model: Model,
  host: string,
  service: ModelService | undefined,
  entry: ImportedService | undefined,
  hostNames: boolean,
): CallableHost {
  const protocols = new Map<number, ModelPort['protocol']>()
  for (const port of [...(service?.ports ?? []), ...(entry?.ports ?? [])]) {
    if (!protocols.has(port.number)) protocols.set(port.number, port.protocol)
  }
  const gatewayIds = entry?.subjectAltNames.filter((id) => parseSpiffeId(id).ok) ?? []
  const ports = [...protocols].sort(([a], [b]) => a - b)
  return {
    host,
    name: service?.name ?? entry?.name ?? '',
    namespace: service?.namespace ?? entry?.namespace ?? '',
    gatewayIds,
    ports: ports.map(([number, protocol]) => {
      const own = service?.ports.find((port) => port.number === number)?.endpoints ?? []
      const remote = entry === undefined ? [] : remoteEndpoints(model, entry, number, gatewayIds, hostNames)
      return {
        number,
        protocol,
        endpoints: normalise([...localEndpoints(own, model.self.locality), ...remote]),
      }
    }),
  }
}

function remoteEndpoints(
  model: Model,
  entry: ImportedService,
  port: number,
  gatewayIds: readonly string[],
  hostNames: boolean,
): EdsEndpoint[] {
  const name = entry.ports.find(({ number }) => number === port)?.name
  if (name === undefined) return []
  return entry.endpoints.flatMap(({ address, ports, locality, weight, mtls, notReady = [] }) => {
    // TLS to a gateway that nothing pins would trust every certificate of every peer.
    if (mtls && gatewayIds.length === 0) return []
    if (!hostNames && isIP(address) === 0) return []
    const [region = '', zone = ''] = locality.split('/')
    const sameRegion = region !== '' && region === model.self.locality.region
    return {
      address,
      port: ports[name] ?? port,
      region,
      zone,
      priority: sameRegion ? 1 : 2,
      weight: Math.max(1, weight),
      draining: false,
      ...(notReady.includes(port) ? { unready: true as const } : {}),
      mtls,
    }
  })
}
