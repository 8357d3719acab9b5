// istio.mcp.v1alpha1.Resource: the envelope in which Istio's configuration travels over xDS. Field numbers: istio/api
// mcp/v1alpha1/{resource,metadata}.proto.
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { contentHash } from '../lib/canonical.ts'
import { own } from '../lib/own.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { XdsResource } from '../xds/types.ts'
import { readFields, readMap, readText, writeMap, writeMessage, writeString } from './protobuf-fields.ts'

const MCP_RESOURCE_TYPE = 'type.googleapis.com/istio.mcp.v1alpha1.Resource'

/** What every resource has, whatever its kind. */
export interface McpMetadata {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** RFC 3339, as Kubernetes writes `metadata.creationTimestamp`; absent where nobody knows. */
  readonly createTime?: string
}

/**
 * The resource `namespace/name` with `spec` as its body. Its version is the hash of all that it says, so every replica of a discovery
 * server gives it the same one; an Istio control plane updates what it has when, and only when, the version differs.
 */
export function encodeMcp(metadata: McpMetadata, bodyType: string, spec: Uint8Array): XdsResource {
  const { labels, annotations, createTime } = metadata
  const name = `${metadata.namespace}/${metadata.name}`
  const meta = JSON.stringify([name, sorted(labels), sorted(annotations), createTime ?? ''])
  const version = contentHash(contentHash(spec) + meta)
  const writer = new BinaryWriter()
  writeMessage(writer, 1, (message) => {
    writeString(message, 1, name)
    writeTimestamp(message, 2, createTime)
    writeString(message, 3, version)
    writeMap(message, 4, labels, writeString)
    writeMap(message, 5, annotations, writeString)
  })
  writeMessage(writer, 2, (any) => {
    writeString(any, 1, bodyType)
    any.tag(2, WireType.LengthDelimited).bytes(spec)
  })
  return { name, version, anyTypeUrl: MCP_RESOURCE_TYPE, body: writer.finish() }
}

/**
 * The inverse. `kind` is for messages. Unknown fields are skipped; another type, a name that is not `namespace/name`, and bytes that
 * are no protobuf, also those that `readSpec` finds, are a Problem.
 */
export function decodeMcp<T>(
  resource: XdsResource,
  kind: string,
  bodyType: string,
  readSpec: (spec: Uint8Array, metadata: McpMetadata) => Result<T>,
): Result<T> {
  const object = `${kind}/${resource.name}`
  if (resource.anyTypeUrl !== MCP_RESOURCE_TYPE)
    return fail(problem(object, '@type', `is "${resource.anyTypeUrl}", expected ${MCP_RESOURCE_TYPE}`))
  try {
    const envelope = readEnvelope(resource.body)
    const metadata = metadataOf(envelope, object)
    if (!metadata.ok) return metadata
    if (envelope.bodyType !== bodyType)
      return fail(problem(object, 'body', `is "${envelope.bodyType}", expected ${bodyType}`))
    return readSpec(envelope.body, metadata.value)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    return fail(problem(object, '', `is not a valid protobuf message (${reason})`))
  }
}

interface Envelope {
  name: string
  seconds: number
  timed: boolean
  labels: Record<string, string>
  annotations: Record<string, string>
  bodyType: string
  body: Uint8Array
}

function readEnvelope(bytes: Uint8Array): Envelope {
  const read: Envelope = {
    name: '',
    seconds: 0,
    timed: false,
    labels: {},
    annotations: {},
    bodyType: '',
    body: new Uint8Array(),
  }
  readFields(bytes, (no, reader) => {
    if (no !== 1 && no !== 2) return false
    readFields(reader.bytes(), (inner, field) => {
      if (no === 2 && inner === 1) read.bodyType = field.string()
      else if (no === 2 && inner === 2) read.body = field.bytes()
      else if (no === 2) return false
      else if (inner === 1) read.name = field.string()
      else if (inner === 2) {
        read.timed = true
        readFields(field.bytes(), (part, value) => {
          if (part === 1) read.seconds = Number(value.int64())
          return part === 1
        })
      } else if (inner === 4) readMap(read.labels, field, '', readText)
      else if (inner === 5) readMap(read.annotations, field, '', readText)
      else return false
      return true
    })
    return true
  })
  return read
}

function metadataOf(
  { name, labels, annotations, timed, seconds }: Envelope,
  object: string,
): Result<McpMetadata, Problem> {
  const [namespace = '', short = '', ...more] = name.split('/')
  if (namespace === '' || short === '' || more.length > 0)
    return fail(problem(object, 'metadata.name', `is "${name}", expected namespace/name`))
  const date = new Date(seconds * 1_000)
  if (!timed || Number.isNaN(date.getTime())) return ok({ namespace, name: short, labels, annotations })
  const createTime = date.toISOString().replace('.000Z', 'Z')
  return ok({ namespace, name: short, labels, annotations, createTime })
}

/** `google.protobuf.Timestamp`. What is no time is not written. */
function writeTimestamp(writer: BinaryWriter, no: number, text: string | undefined): void {
  const ms = text === undefined ? Number.NaN : Date.parse(text)
  if (Number.isNaN(ms)) return
  writeMessage(writer, no, (message) => {
    const seconds = Math.floor(ms / 1_000)
    if (seconds !== 0) message.tag(1, WireType.Varint).int64(seconds)
    const nanos = (ms - seconds * 1_000) * 1_000_000
    if (nanos !== 0) message.tag(2, WireType.Varint).int32(nanos)
  })
}

const sorted = (record: Readonly<Record<string, string>>): [string, string | undefined][] =>
  Object.keys(record)
    .sort()
    .map((key) => [key, own(record, key)])
