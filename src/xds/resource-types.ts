// What a client can watch: a type URL and how its resources are read.
import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import { ok, type Problem, type Result } from '../lib/result.ts'
import { ClusterSchema } from './gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from './gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from './gen/envoy/config/listener/v3/listener_pb.js'
import { RouteConfigurationSchema } from './gen/envoy/config/route/v3/route_pb.js'
import { SecretSchema } from './gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { decodeResource, typeUrlOf } from './resource.ts'
import type { XdsResource } from './types.ts'

export interface ResourceType<T> {
  /** As it stands in requests: `type.googleapis.com/envoy.config.cluster.v3.Cluster`. */
  readonly typeUrl: string
  /** A resource that cannot be read is refused, and the error says so to the server; it must not throw. */
  decode(resource: XdsResource): Result<T, Problem>
}

/** A type whose resources are protobuf messages, read by a descriptor of `@bufbuild/protobuf`. */
export function messageType<D extends DescMessage>(schema: D): ResourceType<MessageShape<D>> {
  return { typeUrl: typeUrlOf(schema), decode: (resource) => decodeResource(schema, resource) }
}

/** Any type, its resources as they came: name, version, type URL inside the `Any`, bytes. */
export function rawType(typeUrl: string): ResourceType<XdsResource> {
  return { typeUrl, decode: ok }
}

/** LDS. */
export const LISTENER = messageType(ListenerSchema)
/** RDS. */
export const ROUTE = messageType(RouteConfigurationSchema)
/** CDS. */
export const CLUSTER = messageType(ClusterSchema)
/** EDS. */
export const ENDPOINTS = messageType(ClusterLoadAssignmentSchema)
/** SDS. */
export const SECRET = messageType(SecretSchema)
