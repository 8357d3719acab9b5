import {
  createRegistry,
  type DescMessage,
  fromBinary,
  type JsonObject,
  type JsonValue,
  toJson,
} from '@bufbuild/protobuf'
import { decodeNameTable } from '../../resources/name-table.ts'
import { ClusterSchema } from '../../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { TlsInspectorSchema } from '../../xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { RBACSchema } from '../../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../../xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { RawBufferSchema } from '../../xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import { SecretSchema } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import { type Snapshot, TYPE, type XdsResource } from '../../xds/types.ts'

const SCHEMAS: ReadonlyMap<string, DescMessage> = new Map<string, DescMessage>([
  [TYPE.listener, ListenerSchema],
  [TYPE.cluster, ClusterSchema],
  [TYPE.endpoints, ClusterLoadAssignmentSchema],
  [TYPE.secret, SecretSchema],
])

/** Every message that may stand in an `Any` of the subset that the engine accepts. */
const registry = createRegistry(
  ListenerSchema,
  ClusterSchema,
  TlsInspectorSchema,
  RBACSchema,
  SniClusterSchema,
  TcpProxySchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  SPIFFECertValidatorConfigSchema,
)

/** One resource as `/config_dump` shows it. */
export interface DumpedResource {
  readonly name: string
  readonly version: string
  readonly resource: JsonValue
}

/** A snapshot as protobuf's JSON, by type URL; private keys are left out. */
export function dumpSnapshot(snapshot: Snapshot): Record<string, DumpedResource[]> {
  const dump: Record<string, DumpedResource[]> = {}
  for (const [typeUrl, resources] of snapshot) {
    const sorted = [...resources.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
    dump[typeUrl] = sorted.map((one) => ({
      name: one.name,
      version: one.version,
      resource: readable(typeUrl, one),
    }))
  }
  return dump
}

function readable(typeUrl: string, resource: XdsResource): JsonValue {
  if (typeUrl === TYPE.nameTable) return Object.fromEntries(decodeNameTable(resource.body))
  const schema = SCHEMAS.get(typeUrl)
  if (schema === undefined) return { '@type': resource.anyTypeUrl }
  try {
    const json = toJson(schema, fromBinary(schema, resource.body), { registry })
    return typeUrl === TYPE.secret ? withoutKey(json as JsonObject) : json
  } catch (error) {
    // An Any of a type that we do not know: accepted resources have none.
    return { '@type': resource.anyTypeUrl, error: (error as Error).message }
  }
}

function withoutKey(secret: JsonObject): JsonObject {
  const certificate = secret['tlsCertificate']
  if (certificate === undefined) return secret
  return { ...secret, tlsCertificate: { ...(certificate as JsonObject), privateKey: '[redacted]' } }
}
