// DiscoveryResponse and DeltaDiscoveryResponse, both ways, by hand: field numbers from envoy/service/discovery/v3/discovery.proto.
// Each resource is encoded once in its life: its chunk (`field 2, length, …`) hangs on the XdsResource.
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { contentHash } from '../lib/canonical.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { GRPC } from './grpc.ts'
import type { Content, Variant, XdsResponse } from './messages.ts'
import type { XdsResource } from './types.ts'

const LEN = WireType.LengthDelimited
const ENVELOPED = 'type.googleapis.com/envoy.service.discovery.v3.Resource'

const chunks: Record<Variant, WeakMap<XdsResource, Uint8Array>> = {
  sotw: new WeakMap(),
  delta: new WeakMap(),
}

/** The message without its nonce, in parts to be written one after the other. `identifier`: `control_plane.identifier`. */
export function encodeContent(variant: Variant, content: Content, identifier = ''): Uint8Array[] {
  const writer = new BinaryWriter()
  writer.tag(1, LEN).string(content.version)
  writer.tag(4, LEN).string(content.typeUrl)
  if (variant === 'delta') for (const name of content.removed) writer.tag(6, LEN).string(name)
  if (identifier !== '')
    writer
      .tag(variant === 'sotw' ? 6 : 7, LEN)
      .fork()
      .tag(1, LEN)
      .string(identifier)
      .join()
  for (const name of content.notFound ?? []) writeNotFound(writer, variant, name)
  const chunk = (one: XdsResource) =>
    content.ttl === true && one.ttlMs !== undefined ? enveloped(variant, one, true) : chunkOf(variant, one)
  const heartbeats = (content.heartbeats ?? []).map((one) => enveloped(variant, one, false))
  return [writer.finish(), ...content.resources.map(chunk), ...heartbeats]
}

/** `ResourceError`: a `ResourceName` and a `google.rpc.Status`. Newer than the generated code: field 7, in Delta 9. */
function writeNotFound(writer: BinaryWriter, variant: Variant, name: string): void {
  writer.tag(variant === 'sotw' ? 7 : 9, LEN).fork()
  writer.tag(1, LEN).fork().tag(1, LEN).string(name).join()
  writer.tag(2, LEN).fork().tag(1, WireType.Varint).int32(GRPC.notFound)
  writer.tag(2, LEN).string('does not exist').join()
  writer.join()
}

/** A resource with the time after which it ends; without its body, a heartbeat. */
function enveloped(variant: Variant, resource: XdsResource, withBody: boolean): Uint8Array {
  const writer = new BinaryWriter().tag(2, LEN).fork()
  if (variant === 'sotw') writer.tag(1, LEN).string(ENVELOPED).tag(2, LEN).fork()
  writer.tag(1, LEN).string(resource.version)
  if (withBody) {
    writer.tag(2, LEN).fork()
    writeAny(writer, resource)
    writer.join()
  }
  writer.tag(3, LEN).string(resource.name)
  // `google.protobuf.Duration`.
  const { ttlMs = 0 } = resource
  writer.tag(6, LEN).fork()
  writer.tag(1, WireType.Varint).int64(Math.floor(ttlMs / 1_000))
  writer.tag(2, WireType.Varint).int32((ttlMs % 1_000) * 1_000_000)
  writer.join()
  if (variant === 'sotw') writer.join()
  return writer.join().finish()
}

/** The field that is left out above. Protobuf fields may stand in any order, and it has the same number in both variants. */
export function encodeNonce(nonce: string): Uint8Array {
  return new BinaryWriter().tag(5, LEN).string(nonce).finish()
}

/** `field 2, length, Any` (SotW) or `field 2, length, Resource` (Delta). */
function chunkOf(variant: Variant, resource: XdsResource): Uint8Array {
  let chunk = chunks[variant].get(resource)
  if (chunk === undefined) {
    const writer = new BinaryWriter().tag(2, LEN).fork()
    if (variant === 'sotw') writeAny(writer, resource)
    else {
      writer.tag(1, LEN).string(resource.version)
      writer.tag(2, LEN).fork()
      writeAny(writer, resource)
      writer.join().tag(3, LEN).string(resource.name)
    }
    chunk = writer.join().finish()
    chunks[variant].set(resource, chunk)
  }
  return chunk
}

function writeAny(writer: BinaryWriter, resource: XdsResource): void {
  writer.tag(1, LEN).string(resource.anyTypeUrl).tag(2, LEN).bytes(resource.body)
}

/** Reads a response. The bodies are copies: one small resource that lives long must not keep a whole message. */
export function decodeResponse(variant: Variant, bytes: Uint8Array): Result<XdsResponse, string> {
  const out = {
    version: '',
    typeUrl: '',
    nonce: '',
    identifier: '',
    resources: [] as XdsResource[],
    removed: [] as string[],
    notFound: [] as string[],
  }
  const reader = new BinaryReader(bytes)
  try {
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag()
      if (wire !== LEN) reader.skip(wire, field)
      else if (field === 1) out.version = reader.string()
      else if (field === 2) {
        const resource = variant === 'sotw' ? readAny(reader.bytes()) : readEnvelope(reader.bytes())
        if (resource !== undefined) out.resources.push(resource)
      } else if (field === 4) out.typeUrl = reader.string()
      else if (field === 5) out.nonce = reader.string()
      else if (field === 6 && variant === 'delta') out.removed.push(reader.string())
      else if (field === (variant === 'sotw' ? 6 : 7)) out.identifier = firstString(reader.bytes())
      else if (field === (variant === 'sotw' ? 7 : 9)) {
        const name = readNotFound(reader.bytes())
        if (name !== undefined) out.notFound.push(name)
      } else reader.skip(wire, field)
    }
  } catch (error) {
    return fail(`malformed response: ${(error as Error).message}`)
  }
  return ok(out)
}

/**
 * The name in a `ResourceError` that says that there is no such resource, or none for us (gRFC A88); any other error is of the server, and
 * says nothing of what exists.
 */
function readNotFound(bytes: Uint8Array): string | undefined {
  const reader = new BinaryReader(bytes)
  let [name, code] = ['', 0]
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (wire === LEN && field === 1) name = firstString(reader.bytes())
    else if (wire === LEN && field === 2) code = firstInt(reader.bytes())
    else reader.skip(wire, field)
  }
  return code === GRPC.notFound || code === GRPC.permissionDenied ? name : undefined
}

function firstInt(bytes: Uint8Array): number {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (field === 1 && wire === WireType.Varint) return reader.int32()
    reader.skip(wire, field)
  }
  return 0
}

/** `envoy.service.discovery.v3.Resource`. One without a body is a TTL heartbeat: nothing changed. */
function readEnvelope(bytes: Uint8Array): XdsResource | undefined {
  let name = ''
  let version = ''
  let body: Uint8Array | undefined
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (wire === LEN && field === 1) version = reader.string()
    else if (wire === LEN && field === 2) body = reader.bytes()
    else if (wire === LEN && field === 3) name = reader.string()
    else reader.skip(wire, field)
  }
  return body === undefined ? undefined : readAny(body, name, version)
}

/** What the envelope does not say is found out: a hash of each of ten thousand bodies is not for nothing. */
function readAny(bytes: Uint8Array, name = '', version = ''): XdsResource | undefined {
  let anyTypeUrl = ''
  let value: Uint8Array = new Uint8Array(0)
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (wire === LEN && field === 1) anyTypeUrl = reader.string()
    else if (wire === LEN && field === 2) value = reader.bytes()
    else reader.skip(wire, field)
  }
  if (anyTypeUrl === ENVELOPED) {
    const inner = readEnvelope(value)
    return inner && { ...inner, name: name || inner.name, version: version || inner.version }
  }
  const body = new Uint8Array(value)
  return { name: name || nameOf(anyTypeUrl, body), version: version || contentHash(body), anyTypeUrl, body }
}

const MCP = 'type.googleapis.com/istio.mcp.v1alpha1.Resource'

/**
 * SotW does not say a resource's name. In every type that has one it is the string in field 1 (a ClusterLoadAssignment's is
 * called `cluster_name`); of an MCP resource it is field 1 of its metadata. A NameTable has none.
 */
function nameOf(anyTypeUrl: string, body: Uint8Array): string {
  if (anyTypeUrl.endsWith('NameTable')) return ''
  try {
    if (anyTypeUrl !== MCP) return firstString(body)
    const reader = new BinaryReader(body)
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag()
      if (field === 1 && wire === LEN) return firstString(reader.bytes())
      reader.skip(wire, field)
    }
  } catch {
    // Not for us to judge: the receiver of the resource finds out and refuses it.
  }
  return ''
}

function firstString(bytes: Uint8Array): string {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (field === 1 && wire === LEN) return reader.string()
    reader.skip(wire, field)
  }
  return ''
}
