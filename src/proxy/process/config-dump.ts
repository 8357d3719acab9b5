import { fromBinary, type JsonObject, type JsonValue, toJson } from '@bufbuild/protobuf'
import { decodeNameTable } from '../../resources/name-table.ts'
import { envoyDescriptors } from '../../xds/descriptors.ts'
import { type Snapshot, TYPE, type XdsResource } from '../../xds/types.ts'

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
  // The generated code is too old for some fields.
  const registry = envoyDescriptors()
  const desc = registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf('/') + 1))
  if (desc === undefined) return {}
  try {
    const message = fromBinary(desc, resource.body)
    const json = toJson(desc, message, { registry, useProtoFieldName: true }) as JsonObject
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
