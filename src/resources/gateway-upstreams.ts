// Where a gateway's connections go: one upstream for each exposed port, under the server name that leads to it.
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { workloadId } from '../identity/spiffe-id.ts'
import { Memo } from '../lib/memo.ts'
import { aliasesOf } from '../model/aliases.ts'
import { isMeshWorkload } from '../model/endpoints.ts'
import { type ProxyProtocolVersion, proxyProtocolOf } from '../model/proxy-protocol.ts'
import { formatServerName } from '../model/server-name.ts'
import { endpointsIn } from '../model/subsets.ts'
import type { ClusterInfo, Exposure, Model, ModelPort, ModelService, ModelSubset } from '../model/types.ts'
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
  type Cluster as XdsCluster,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import type { OutlierDetectionSchema } from '../xds/gen/envoy/config/cluster/v3/outlier_detection_pb.js'
import { ClusterLoadAssignmentSchema } from '../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { TYPE } from '../xds/types.ts'
import { OWN_METADATA } from './accept-aliases.ts'
import { type EdsEndpoint, loadAssignment, localEndpoints, normalise, socketMatch } from './endpoints.ts'
import { adsSource, KEEPALIVE, NO_CIRCUIT_BREAKERS, seconds } from './envoy.ts'
import { clearTextSocket } from './proxy-protocol-socket.ts'
import type { SnapshotBuilder } from './snapshot-builder.ts'
import { clearTextMatch, mutualTlsMatch, neverInClear } from './transport-socket-matches.ts'

/** One exposed port as the gateway serves it. Plain data. */
export interface GatewayRoute {
  /** The server name, and the upstream's name. */
  readonly name: string
  readonly aliases: readonly string[]
  /** The server name of the whole, where this is a subset or one pod of a headless service. */
  readonly partOf?: string
  readonly passthrough: boolean
  readonly protocol: ModelPort['protocol']
  /** What endpoints that are called in clear expect first. */
  readonly proxyProtocol: ProxyProtocolVersion | undefined
  readonly endpoints: readonly EdsEndpoint[]
}

/**
 * What a gateway (`namespace/name`) serves, in the order of the hosts. With the `memo` of the time before, the routes of a service of
 * which nothing changed are the same objects.
 */
export function gatewayRoutes(model: Model, gateway: string, memo = new Memo()): GatewayRoute[] {
  const { self } = model
  const served = [...model.exposures.values()].filter(
    (exposure) => exposure.decision.allowed && exposure.gateway === gateway,
  )
  return served.flatMap((exposure) => memo.get(exposure.service.host, { self, exposure }, routesOf))
}

function routesOf({ self, exposure }: { self: ClusterInfo; exposure: Exposure }): readonly GatewayRoute[] {
  const { ports, subsets = [] } = exposure.service
  const parts = [undefined, ...subsets]
  return ports.flatMap((port) => parts.map((subset) => routeOf(self, exposure, port, subset)))
}

/** `subset` undefined: all endpoints of the port. */
function routeOf(
  self: ClusterInfo,
  { service, mode }: Exposure,
  port: ModelPort,
  subset: ModelSubset | undefined,
): GatewayRoute {
  const passthrough = mode?.mode === 'passthrough'
  const meant = subset === undefined ? port.endpoints : endpointsIn(port.endpoints, subset)
  // Nobody but a mesh workload is passed through to.
  const candidates = passthrough ? meant.filter(isMeshWorkload) : meant
  const byAddress = new Map(candidates.map((endpoint) => [`${endpoint.address} ${endpoint.port}`, endpoint]))
  const endpoints = normalise(localEndpoints(candidates, self.locality)).map((endpoint) => {
    const workload = byAddress.get(`${endpoint.address} ${endpoint.port}`)
    if (workload === undefined || !isMeshWorkload(workload)) return endpoint
    // In passthrough it is the caller who speaks TLS, and who checks the id.
    const id = workloadId(self.trustDomain, service.namespace, workload.serviceAccount)
    return { ...endpoint, mtls: true, ...(passthrough ? {} : { workload: id }) }
  })
  const name = formatServerName({ port: port.number, subset: subset?.name ?? '', host: service.host })
  const proxyProtocol = proxyProtocolOf(service.annotations)
  const aliases = subset === undefined ? aliasesOf(service, port) : []
  const partOf = wholeOf(service, port, subset)
  return {
    name,
    aliases,
    ...(partOf !== undefined && { partOf }),
    passthrough,
    protocol: port.protocol,
    proxyProtocol,
    endpoints,
  }
}

function wholeOf(
  { host, pod }: ModelService,
  port: ModelPort,
  subset: ModelSubset | undefined,
): string | undefined {
  if (subset === undefined && pod === undefined) return undefined
  const whole = pod === undefined ? host : host.slice(pod.length + 1)
  return formatServerName({ port: port.number, subset: '', host: whole })
}

/**
 * The upstream of a route. Our engine looks for the server name. In an Envoy the two modes have different ones, so that a change of mode
 * never has what was decrypted on its way to a workload that is spoken to as it is: the new one is there before the chain that uses it.
 */
export function upstreamName(name: string, passthrough: boolean, ours: boolean): string {
  return passthrough && !ours ? name.replace(/^outbound/, 'passthrough') : name
}

export interface UpstreamOptions {
  readonly credentialFile: string
  /** Our own engine, not an Envoy. */
  readonly ours: boolean
}

/** Cluster and ClusterLoadAssignment of each route. */
export function addUpstreams(
  builder: SnapshotBuilder,
  routes: readonly GatewayRoute[],
  { credentialFile, ours }: UpstreamOptions,
): void {
  for (const route of routes)
    builder.group(route.name, { route, credentialFile, ours }, (inputs) =>
      addUpstream(builder, inputs.route, inputs),
    )
}

function addUpstream(
  builder: SnapshotBuilder,
  { name: endpointsName, aliases, passthrough, proxyProtocol, endpoints }: GatewayRoute,
  { credentialFile, ours }: UpstreamOptions,
): void {
  const pins = passthrough ? [] : pinsOf(endpoints)
  const shape = {
    endpointsName,
    aliases: ours ? aliases : [],
    pins,
    proxyProtocol,
    credentialFile: pins.length > 0 ? credentialFile : '',
    guarded: !ours && !passthrough,
  }
  const name = upstreamName(endpointsName, passthrough, ours)
  builder.message(TYPE.cluster, ClusterSchema, name, shape, () => upstream(name, shape))
  builder.message(TYPE.endpoints, ClusterLoadAssignmentSchema, endpointsName, endpoints, () =>
    loadAssignment(endpointsName, endpoints),
  )
}

function pinsOf(endpoints: readonly EdsEndpoint[]): string[] {
  return [...new Set(endpoints.flatMap(({ workload }) => workload ?? []))].sort()
}

interface UpstreamShape {
  readonly endpointsName: string
  readonly aliases: readonly string[]
  /** Ids of the workloads that are spoken to over mutual TLS. */
  readonly pins: readonly string[]
  readonly proxyProtocol: ProxyProtocolVersion | undefined
  readonly credentialFile: string
  /** Whether the client has to be told that what wants mutual TLS is never spoken to in clear. */
  readonly guarded: boolean
}

/**
 * One endpoint that cannot be connected to is left out for 3 s, longer each time, while half of them stay: where more than half fail it is
 * not they, and only a connect shows that they are back. Retries take the others meanwhile.
 */
const OUTLIER_DETECTION: MessageInitShape<typeof OutlierDetectionSchema> = {
  interval: seconds(1),
  baseEjectionTime: seconds(3),
  maxEjectionTime: seconds(30),
  maxEjectionPercent: 50,
  splitExternalLocalOriginErrors: true,
  consecutiveLocalOriginFailure: 3,
  enforcingConsecutiveLocalOriginFailure: 100,
  enforcingSuccessRate: 0,
  enforcingLocalOriginSuccessRate: 0,
}

function upstream(name: string, shape: UpstreamShape): XdsCluster {
  const { endpointsName, aliases, pins, proxyProtocol, credentialFile, guarded } = shape
  const mutual = (ids: readonly string[], match: Record<string, string>, matchName: string) =>
    mutualTlsMatch({ name: matchName, match, sni: endpointsName, ids, credentialFile })
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
    connectTimeout: seconds(5),
    lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
    edsClusterConfig: { serviceName: endpointsName, edsConfig: adsSource(5) },
    circuitBreakers: NO_CIRCUIT_BREAKERS,
    upstreamConnectionOptions: KEEPALIVE,
    // Without it Envoy routes to endpoints that are all unhealthy.
    commonLbConfig: { healthyPanicThreshold: { value: 0 } },
    outlierDetection: OUTLIER_DETECTION,
    ...(aliases.length > 0 && {
      metadata: { filterMetadata: { [OWN_METADATA]: { aliases: [...aliases] } } },
    }),
    // The first match counts: each workload by its own id; one whose id is not known here yet by any of the service's.
    transportSocketMatches:
      pins.length === 0
        ? guarded
          ? [neverInClear(), clearTextMatch(proxyProtocol)]
          : []
        : [
            ...pins.map((id) => mutual([id], socketMatch({ workload: id }), id)),
            mutual(pins, socketMatch({}), 'tlsMode-istio'),
            clearTextMatch(proxyProtocol),
          ],
    ...(proxyProtocol !== undefined && { transportSocket: clearTextSocket(proxyProtocol) }),
  })
}
