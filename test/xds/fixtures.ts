import { Cluster_DiscoveryType, ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import type { XdsRequest } from '../../src/xds/messages.ts'
import { encodeResource, rawResource } from '../../src/xds/resource.ts'
import { type NodeInfo, TYPE, type XdsResource } from '../../src/xds/types.ts'

export const NODE: NodeInfo = {
  id: 'sidecar~127.0.0.1~sleep.default~default.svc.cluster.local',
  cluster: 'sleep',
  metadata: { CLUSTER_ID: 'cluster-1' },
  locality: { region: 'r1', zone: 'z1' },
  userAgentName: '',
}

/** A request of which only the named fields matter. */
export function request(fields: Partial<XdsRequest> & { typeUrl: string }): XdsRequest {
  return {
    node: undefined,
    versionInfo: '',
    names: [],
    unsubscribe: [],
    initialVersions: new Map(),
    responseNonce: '',
    errorDetail: undefined,
    ...fields,
  }
}

/** A resource of any type, different for each `content`. */
export function plain(name: string, content: string, typeUrl: string = TYPE.listener): XdsResource {
  return rawResource(name, typeUrl, Buffer.from(`${name}=${content}`))
}

export function byName(...resources: XdsResource[]): Map<string, XdsResource> {
  return new Map(resources.map((one) => [one.name, one]))
}

/** An EDS cluster; `seconds` is the connect timeout, so that it can change. */
export function cluster(name: string, seconds = 1): XdsResource {
  const clusterDiscoveryType = { case: 'type' as const, value: Cluster_DiscoveryType.EDS }
  return encodeResource(
    ClusterSchema,
    { name, clusterDiscoveryType, connectTimeout: { seconds: BigInt(seconds) } },
    name,
  )
}

export function endpoints(clusterName: string, port = 80): XdsResource {
  const address = {
    address: {
      case: 'socketAddress' as const,
      value: { address: '127.0.0.1', portSpecifier: { case: 'portValue' as const, value: port } },
    },
  }
  const lbEndpoints = [{ hostIdentifier: { case: 'endpoint' as const, value: { address } } }]
  return encodeResource(
    ClusterLoadAssignmentSchema,
    { clusterName, endpoints: [{ lbEndpoints }] },
    clusterName,
  )
}

export function listener(name: string, port = 1): XdsResource {
  const socketAddress = { address: '127.0.0.1', portSpecifier: { case: 'portValue' as const, value: port } }
  return encodeResource(
    ListenerSchema,
    { name, address: { address: { case: 'socketAddress', value: socketAddress } } },
    name,
  )
}
