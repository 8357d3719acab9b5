import { create } from '@bufbuild/protobuf'
import type { ModelEndpoint } from '../model/types.ts'
import { HealthStatus } from '../xds/gen/envoy/config/core/v3/health_check_pb.js'
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from '../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { locality, socketAddress } from './envoy.ts'

/** One endpoint as it goes into a ClusterLoadAssignment. Plain JSON. */
export interface EdsEndpoint {
  readonly address: string
  readonly port: number
  readonly region: string
  readonly zone: string
  /** 0 first; made contiguous by `loadAssignment`. */
  readonly priority: number
  readonly weight: number
  readonly draining: boolean
  /** A gateway whose cluster has nobody ready behind it: known, but not to be chosen. Absent: usable. */
  readonly unready?: true
  /** TLS is spoken to it: transport socket match `tlsMode: istio`. */
  readonly mtls: boolean
  /** The SPIFFE id of the workload, where it alone may answer. */
  readonly workload?: string
  /** Set where that cluster's gateways have other ids than the host's other gateways: the match that pins these alone. */
  readonly cluster?: string
}

/**
 * The endpoints of this cluster's own pods that may be used: ready ones, and draining ones marked so. Where nobody is ready and
 * nobody serves it `elsewhere`, the draining ones are the last resort, as with kube-proxy (KEP-1669), and not marked.
 */
export function localEndpoints(
  endpoints: readonly ModelEndpoint[],
  at: { readonly region: string; readonly zone: string },
  elsewhere = false,
): EdsEndpoint[] {
  const lastResort = !elsewhere && !endpoints.some(({ ready }) => ready)
  return endpoints
    .filter((endpoint) => endpoint.ready || endpoint.draining)
    .map((endpoint) => ({
      address: endpoint.address,
      port: endpoint.port,
      region: at.region,
      zone: endpoint.zone === '' ? at.zone : endpoint.zone,
      priority: 0,
      weight: 1,
      draining: !endpoint.ready && !lastResort,
      mtls: false,
    }))
}

/**
 * Sorted, each address once (Envoy keeps only the first of two: the lower priority wins, weights of equal ones add up), and
 * priorities without gaps (a gap is a NACK).
 */
export function normalise(endpoints: readonly EdsEndpoint[]): EdsEndpoint[] {
  const byAddress = new Map<string, EdsEndpoint>()
  for (const endpoint of [...endpoints].sort(byPriorityAndPlace)) {
    const key = `${endpoint.address} ${endpoint.port}`
    const known = byAddress.get(key)
    if (known === undefined) byAddress.set(key, endpoint)
    else byAddress.set(key, sameAddress(known, endpoint))
  }
  const found = [...byAddress.values()].sort(byPriorityAndPlace)
  const priorities = [...new Set(found.map(({ priority }) => priority))]
  return found.map((endpoint) => ({ ...endpoint, priority: priorities.indexOf(endpoint.priority) }))
}

function sameAddress(first: EdsEndpoint, second: EdsEndpoint): EdsEndpoint {
  const weight = first.priority === second.priority ? first.weight + second.weight : first.weight
  if (first.cluster === second.cluster) return { ...first, weight }
  // Two clusters claim one address: whose it is shows in its certificate, so neither may shut the other out.
  const { cluster: _, ...either } = first
  return { ...either, weight }
}

/**
 * One locality per (priority, region, zone), weighted by its endpoints. `overprovisioning_factor` is 100 × the most endpoints
 * of a priority, so that the next priority gets nothing while one endpoint of this one is healthy (Envoy's default of 140
 * spills over as soon as 71 % are).
 */
export function loadAssignment(name: string, endpoints: readonly EdsEndpoint[]): ClusterLoadAssignment {
  const groups = new Map<string, EdsEndpoint[]>()
  const perPriority = new Map<number, number>()
  for (const endpoint of endpoints) {
    const key = `${endpoint.priority} ${endpoint.region} ${endpoint.zone}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [endpoint])
    else group.push(endpoint)
    perPriority.set(endpoint.priority, (perPriority.get(endpoint.priority) ?? 0) + 1)
  }
  return create(ClusterLoadAssignmentSchema, {
    clusterName: name,
    endpoints: [...groups.values()].map((members) => ({
      locality: locality(members[0]?.region ?? '', members[0]?.zone ?? ''),
      priority: members[0]?.priority ?? 0,
      loadBalancingWeight: members.reduce((sum, { weight }) => sum + weight, 0),
      lbEndpoints: members.map((endpoint) => ({
        hostIdentifier: {
          case: 'endpoint' as const,
          value: { address: socketAddress(endpoint.address, endpoint.port) },
        },
        healthStatus: healthOf(endpoint),
        loadBalancingWeight: endpoint.weight,
        ...(endpoint.mtls
          ? { metadata: { filterMetadata: { 'envoy.transport_socket_match': socketMatch(endpoint) } } }
          : {}),
      })),
    })),
    policy: { overprovisioningFactor: Math.max(140, 100 * Math.max(0, ...perPriority.values())) },
  })
}

/** What an endpoint's transport socket is chosen by. */
export function socketMatch({
  cluster,
  workload,
}: Pick<EdsEndpoint, 'cluster' | 'workload'>): Record<string, string> {
  return {
    tlsMode: 'istio',
    ...(cluster === undefined ? {} : { cluster }),
    ...(workload === undefined ? {} : { workload }),
  }
}

function healthOf({ draining, unready }: EdsEndpoint): HealthStatus {
  if (unready === true) return HealthStatus.UNHEALTHY
  return draining ? HealthStatus.DRAINING : HealthStatus.HEALTHY
}

function byPriorityAndPlace(a: EdsEndpoint, b: EdsEndpoint): number {
  return a.priority - b.priority || compare(place(a), place(b)) || a.port - b.port
}

const place = ({ region, zone, address }: EdsEndpoint): string => `${region} ${zone} ${address}`
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
