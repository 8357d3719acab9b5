// Clusters and assignments in Envoy's own JSON, for tests of upstreams.
import { createRegistry, fromJson, type JsonObject } from '@bufbuild/protobuf'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ProxyProtocolUpstreamTransportSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js'
import { RawBufferSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import { UpstreamTlsContextSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { encodeResource } from '../../src/xds/resource.ts'
import type { XdsResource } from '../../src/xds/types.ts'

export const registry = createRegistry(
  ProxyProtocolUpstreamTransportSchema,
  RawBufferSchema,
  UpstreamTlsContextSchema,
)

/** A Cluster by EDS over ADS, without panic. */
export function clusterOf(name: string, fields: JsonObject): XdsResource {
  const message = fromJson(
    ClusterSchema,
    {
      name,
      type: 'EDS',
      connectTimeout: '2s',
      edsClusterConfig: { serviceName: name, edsConfig: { ads: {} } },
      commonLbConfig: { healthyPanicThreshold: { value: 0 } },
      ...fields,
    },
    { registry },
  )
  return encodeResource(ClusterSchema, message, name)
}

export interface EndpointJson {
  readonly host?: string
  readonly port: number
  readonly [field: string]: unknown
}

/** One locality of endpoints; further fields are an LbEndpoint's, `endpoint` an Endpoint's. */
export function assignmentOf(
  name: string,
  endpoints: readonly EndpointJson[],
  policy: JsonObject = {},
): XdsResource {
  const lbEndpoints = endpoints.map(({ host = '127.0.0.1', port, endpoint, ...fields }) => ({
    endpoint: { address: { socketAddress: { address: host, portValue: port } }, ...(endpoint as JsonObject) },
    ...fields,
  }))
  const message = fromJson(ClusterLoadAssignmentSchema, {
    clusterName: name,
    endpoints: [{ locality: { region: 'r1', zone: 'z1' }, loadBalancingWeight: 1, lbEndpoints }],
    policy,
  } as unknown as JsonObject)
  return encodeResource(ClusterLoadAssignmentSchema, message, name)
}
