// DiscoveryRequest and DeltaDiscoveryRequest, both ways, by hand: field numbers from envoy/service/discovery/v3/discovery.proto
// and envoy/config/core/v3/base.proto. `test/xds/codec.test.ts` holds them against the generated code.
import { fromBinary, fromJson, type JsonObject, toBinary, toJson } from '@bufbuild/protobuf'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { StructSchema } from '@bufbuild/protobuf/wkt'
import { fail, ok, type Result } from '../lib/result.ts'
import type { Variant, XdsRequest } from './messages.ts'
import { findNames, keepNames } from './name-lists.ts'
import type { NodeInfo } from './types.ts'

const LEN = WireType.LengthDelimited

export interface RequestLimits {
  /** Names, unsubscribed names and initial versions in one request together. Default 100,000. */
  readonly maxNames?: number
  /** Longest resource name, UTF-16 units. Default 4,096. */
  readonly maxNameLength?: number
  /** Encoded `node.metadata`, bytes. Default 256 KiB. */
  readonly maxMetadata?: number
}

/** `node.client_features` beyond these are not read; there are about ten in the world. */
const MAX_FEATURES = 64

interface Fields {
  typeUrl: string
  node: NodeInfo | undefined
  versionInfo: string
  names: string[]
  unsubscribe: string[]
  initialVersions: Map<string, string>
  responseNonce: string
  errorDetail: string | undefined
}

/** Reads a request. What is malformed or beyond the limits is told in words; nothing is thrown. */
export function decodeRequest(
  variant: Variant,
  bytes: Uint8Array,
  limits: RequestLimits = {},
): Result<XdsRequest, string> {
  const fields: Fields = {
    typeUrl: '',
    node: undefined,
    versionInfo: '',
    names: [],
    unsubscribe: [],
    initialVersions: new Map(),
    responseNonce: '',
    errorDetail: undefined,
  }
  const { maxNames = 100_000, maxNameLength = 4_096, maxMetadata = 256 * 1024 } = limits
  const readField = variant === 'sotw' ? readSotwField : readDeltaField
  const reader = new BinaryReader(bytes)
  const run = findNames(bytes)
  const shared = run?.names ?? []
  let alone = run !== undefined
  try {
    while (reader.pos < reader.len) {
      const at = reader.pos
      if (run !== undefined && at === run.start && shared.length > 0) {
        reader.pos = run.end
        continue
      }
      const [field, wire] = reader.tag()
      if (wire !== LEN || !readField(field, reader, fields, maxMetadata)) reader.skip(wire, field)
      if (run !== undefined && field === 3 && (at < run.start || at >= run.end)) alone = false
      const { names, unsubscribe, initialVersions } = fields
      const count = shared.length + names.length + unsubscribe.length + initialVersions.size
      if (count > maxNames) return fail(`more than ${maxNames} resource names in one request`)
    }
  } catch (error) {
    return fail(`malformed request: ${(error as Error).message}`)
  }
  const initial = [...fields.initialVersions.keys(), ...fields.unsubscribe, fields.typeUrl]
  for (const name of [...fields.names, ...initial])
    if (name.length > maxNameLength)
      return fail(`a name of ${name.length} characters; at most ${maxNameLength}`)
  // Names of a shared list were measured when it was read.
  if (shared.length > 0) return ok({ ...fields, names: alone ? shared : [...shared, ...fields.names] })
  if (alone && run !== undefined) keepNames(bytes.subarray(run.start, run.end), fields.names)
  return ok(fields)
}

function readSotwField(field: number, reader: BinaryReader, out: Fields, maxMetadata: number): boolean {
  if (field === 1) out.versionInfo = reader.string()
  else if (field === 2) out.node = readNode(reader.bytes(), maxMetadata)
  else if (field === 3) out.names.push(reader.string())
  else if (field === 4) out.typeUrl = reader.string()
  else if (field === 5) out.responseNonce = reader.string()
  else if (field === 6) out.errorDetail = readStatus(reader.bytes())
  else return false
  return true
}

function readDeltaField(field: number, reader: BinaryReader, out: Fields, maxMetadata: number): boolean {
  if (field === 1) out.node = readNode(reader.bytes(), maxMetadata)
  else if (field === 2) out.typeUrl = reader.string()
  else if (field === 3) out.names.push(reader.string())
  else if (field === 4) out.unsubscribe.push(reader.string())
  else if (field === 5) {
    const [key, value] = readStrings(reader.bytes(), [1, 2])
    out.initialVersions.set(key ?? '', value ?? '')
  } else if (field === 6) out.responseNonce = reader.string()
  else if (field === 7) out.errorDetail = readStatus(reader.bytes())
  else return false
  return true
}

/** `google.rpc.Status`: presence is the refusal, whatever the code. */
function readStatus(bytes: Uint8Array): string {
  return readStrings(bytes, [2])[0] ?? ''
}

function readNode(bytes: Uint8Array, maxMetadata: number): NodeInfo {
  const [id = '', cluster = '', userAgentName = ''] = readStrings(bytes, [1, 2, 6])
  let metadata: JsonObject = {}
  let locality: readonly (string | undefined)[] = []
  let userAgentVersion = ''
  const clientFeatures: string[] = []
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (field === 3 && wire === LEN) {
      const struct = reader.bytes()
      if (struct.length > maxMetadata)
        throw new Error(`node.metadata of ${struct.length} bytes, at most ${maxMetadata}`)
      metadata = toJson(StructSchema, fromBinary(StructSchema, struct)) as JsonObject
    } else if (field === 10 && wire === LEN && clientFeatures.length < MAX_FEATURES)
      clientFeatures.push(reader.string())
    else if (field === 8 && wire === LEN) userAgentVersion = readBuildVersion(reader.bytes())
    else if (field === 4 && wire === LEN) locality = readStrings(reader.bytes(), [1, 2])
    else reader.skip(wire, field)
  }
  return {
    id,
    cluster,
    metadata,
    locality: { region: locality[0] ?? '', zone: locality[1] ?? '' },
    userAgentName,
    ...(userAgentVersion !== '' && { userAgentVersion }),
    ...(clientFeatures.length > 0 && { clientFeatures }),
  }
}

/** `core.v3.BuildVersion`: its `type.v3.SemanticVersion` as text; '' where there is none. */
function readBuildVersion(bytes: Uint8Array): string {
  let text = ''
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (field !== 1 || wire !== LEN) {
      reader.skip(wire, field)
      continue
    }
    const parts = [0, 0, 0]
    const version = new BinaryReader(reader.bytes())
    while (version.pos < version.len) {
      const [part, kind] = version.tag()
      if (part <= parts.length && kind === WireType.Varint) parts[part - 1] = version.uint32()
      else version.skip(kind, part)
    }
    text = parts.join('.')
  }
  return text
}

/** The string fields with these numbers, the last occurrence of each. */
function readStrings(bytes: Uint8Array, numbers: readonly number[]): (string | undefined)[] {
  const found: (string | undefined)[] = numbers.map(() => undefined)
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    const index = wire === LEN ? numbers.indexOf(field) : -1
    if (index >= 0) found[index] = reader.string()
    else reader.skip(wire, field)
  }
  return found
}

/** Writes a request, as a client does. */
export function encodeRequest(variant: Variant, request: XdsRequest): Uint8Array {
  const sotw = variant === 'sotw'
  const writer = new BinaryWriter()
  if (sotw) writeString(writer, 1, request.versionInfo)
  if (request.node !== undefined) writeNode(writer, sotw ? 2 : 1, request.node)
  for (const name of request.names) writer.tag(3, LEN).string(name)
  writeString(writer, sotw ? 4 : 2, request.typeUrl)
  if (!sotw) {
    for (const name of request.unsubscribe) writer.tag(4, LEN).string(name)
    for (const [name, version] of request.initialVersions) {
      writer.tag(5, LEN).fork()
      writer.tag(1, LEN).string(name).tag(2, LEN).string(version).join()
    }
  }
  writeString(writer, sotw ? 5 : 6, request.responseNonce)
  if (request.errorDetail !== undefined) {
    // INVALID_ARGUMENT, as Envoy's refusals.
    writer
      .tag(sotw ? 6 : 7, LEN)
      .fork()
      .tag(1, WireType.Varint)
      .int32(3)
    writer.tag(2, LEN).string(request.errorDetail).join()
  }
  return writer.finish()
}

/** `core.v3.Node`, the part of it that was read. */
export function writeNode(writer: BinaryWriter, field: number, node: NodeInfo): void {
  writer.tag(field, LEN).fork()
  writeString(writer, 1, node.id)
  writeString(writer, 2, node.cluster)
  const metadata = toBinary(StructSchema, fromJson(StructSchema, node.metadata as JsonObject))
  if (metadata.length > 0) writer.tag(3, LEN).bytes(metadata)
  writer.tag(4, LEN).fork()
  writeString(writer, 1, node.locality.region)
  writeString(writer, 2, node.locality.zone)
  writer.join()
  writeString(writer, 6, node.userAgentName)
  if (node.userAgentVersion !== undefined) {
    writer.tag(8, LEN).fork().tag(1, LEN).fork()
    for (const [i, part] of node.userAgentVersion.split('.').entries())
      writer.tag(i + 1, WireType.Varint).uint32(Number(part))
    writer.join().join()
  }
  for (const feature of node.clientFeatures ?? []) writeString(writer, 10, feature)
  writer.join()
}

function writeString(writer: BinaryWriter, field: number, value: string): void {
  if (value !== '') writer.tag(field, LEN).string(value)
}
