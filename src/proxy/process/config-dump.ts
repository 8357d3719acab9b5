import { type DescMessage, fromBinary, type JsonObject, type JsonValue, toJson } from '@bufbuild/protobuf'
import { envoyRegistry } from '../../resources/envoy-registry.ts'
import { decodeNameTable } from '../../resources/name-table.ts'
import { ClusterSchema } from '../../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { SecretSchema } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { type Snapshot, TYPE, type XdsResource } from '../../xds/types.ts'

const SCHEMAS: ReadonlyMap<string, DescMessage> = new Map<string, DescMessage>([
  [TYPE.listener, ListenerSchema],
  [TYPE.cluster, ClusterSchema],
  [TYPE.endpoints, ClusterLoadAssignmentSchema],
  [TYPE.secret, SecretSchema],
])

/** One resource, as people read it. */
export interface DumpedResource {
  readonly name: string
  readonly version: string
  /** Protobuf's JSON with the proto's own field names, as Envoy prints it, `@type` first. Private keys are left out. */
  readonly resource: JsonObject
}

/** The resources of one type, sorted by name. */
export function dumpType(snapshot: Snapshot, typeUrl: string): DumpedResource[] {
  const resources = [...(snapshot.get(typeUrl)?.values() ?? [])]
  resources.sort((a, b) => (a.name < b.name ? -1 : 1))
  return resources.map((one) => ({
    name: one.name,
    version: one.version,
    resource: { '@type': typeUrl, ...readable(typeUrl, one) },
  }))
}

function readable(typeUrl: string, resource: XdsResource): JsonObject {
  if (typeUrl === TYPE.nameTable)
    return { table: Object.fromEntries(decodeNameTable(resource.body)) as JsonObject }
  const schema = SCHEMAS.get(typeUrl)
  if (schema === undefined) return {}
  try {
    const options = { registry: envoyRegistry, useProtoFieldName: true }
    const json = toJson(schema, fromBinary(schema, resource.body), options) as JsonObject
    return typeUrl === TYPE.secret ? withoutKey(json) : json
  } catch (error) {
    // An Any of a type that we do not know: accepted resources have none.
    return { error: (error as Error).message }
  }
}

const REDACTED: JsonValue = { inline_string: '[redacted]' }

/** All that Envoy marks as sensitive: keys and their passwords, session ticket keys, generic secrets. */
function withoutKey(secret: JsonObject): JsonObject {
  const shown: JsonObject = { ...secret }
  const certificate = secret['tls_certificate']
  if (certificate !== undefined) {
    const rest = certificate as JsonObject
    shown['tls_certificate'] = { ...rest, private_key: REDACTED }
    for (const field of ['password', 'pkcs12', 'private_key_provider'])
      if (rest[field] !== undefined) (shown['tls_certificate'] as JsonObject)[field] = REDACTED
  }
  for (const field of ['session_ticket_keys', 'generic_secret'])
    if (secret[field] !== undefined) shown[field] = REDACTED
  return shown
}
