// istio.networking.v1alpha3.ServiceEntry inside istio.mcp.v1alpha1.Resource: what peers send each other, and what istiod reads
// from a `configSources` server. Field numbers: istio/api networking/v1alpha3/{service_entry,workload_entry}.proto, mcp/v1alpha1.
import { type BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { contentHash } from '../lib/canonical.ts'
import { fail, ok, problem, type Result } from '../lib/result.ts'
import type { XdsResource } from '../xds/types.ts'
import {
  readEntry,
  readFields,
  writeMap,
  writeMessage,
  writeString,
  writeStrings,
  writeUint32,
} from './protobuf-fields.ts'

export interface EntryPort {
  readonly name: string
  readonly number: number
  /** `HTTP`, `TCP`, …: upper case, as Istio writes it. */
  readonly protocol: string
}
export interface EntryEndpoint {
  readonly address: string
  /** port name → number at the address. */
  readonly ports: Readonly<Record<string, number>>
  readonly labels: Readonly<Record<string, string>>
  readonly network: string
  readonly locality: string
  readonly weight: number
}
/** A ServiceEntry as Isthmus writes and exchanges it. */
export interface EntryConfig {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly hosts: readonly string[]
  readonly location: 'MESH_EXTERNAL' | 'MESH_INTERNAL'
  readonly resolution: 'NONE' | 'STATIC' | 'DNS'
  readonly ports: readonly EntryPort[]
  readonly endpoints: readonly EntryEndpoint[]
  readonly exportTo: readonly string[]
  readonly subjectAltNames: readonly string[]
}

export const MCP_RESOURCE_TYPE = 'type.googleapis.com/istio.mcp.v1alpha1.Resource'
const BODY_TYPE = 'type.googleapis.com/istio.networking.v1alpha3.ServiceEntry'
const LOCATIONS = ['MESH_EXTERNAL', 'MESH_INTERNAL'] as const
const RESOLUTIONS = ['NONE', 'STATIC', 'DNS'] as const

/** The MCP resource `namespace/name`, its version the hash of its content. */
export function encodeEntry(entry: EntryConfig): XdsResource {
  const name = `${entry.namespace}/${entry.name}`
  const spec = encodeSpec(entry)
  const version = contentHash(
    contentHash(spec) + JSON.stringify([name, sorted(entry.labels), sorted(entry.annotations)]),
  )
  const writer = new BinaryWriter()
  writeMessage(writer, 1, (metadata) => {
    writeString(metadata, 1, name)
    writeString(metadata, 3, version)
    writeMap(metadata, 4, entry.labels, writeString)
    writeMap(metadata, 5, entry.annotations, writeString)
  })
  writeMessage(writer, 2, (any) => {
    writeString(any, 1, BODY_TYPE)
    any.tag(2, WireType.LengthDelimited).bytes(spec)
  })
  return { name, version, anyTypeUrl: MCP_RESOURCE_TYPE, body: writer.finish() }
}

/** The inverse; unknown fields are skipped, a body that is no ServiceEntry or no protobuf is a Problem. */
export function decodeEntry(resource: XdsResource): Result<EntryConfig> {
  const object = `ServiceEntry/${resource.name}`
  if (resource.anyTypeUrl !== MCP_RESOURCE_TYPE) {
    return fail(problem(object, '@type', `is "${resource.anyTypeUrl}", expected ${MCP_RESOURCE_TYPE}`))
  }
  try {
    return decodeResource(resource.body, object)
  } catch (error) {
    return fail(
      problem(
        object,
        '',
        `is not a valid protobuf message (${error instanceof Error ? error.message : error})`,
      ),
    )
  }
}

function decodeResource(bytes: Uint8Array, object: string): Result<EntryConfig> {
  let name = ''
  const labels: Record<string, string> = {}
  const annotations: Record<string, string> = {}
  let bodyType = ''
  let body: Uint8Array = new Uint8Array()
  readFields(bytes, (no, reader) => {
    if (no !== 1 && no !== 2) return false
    readFields(reader.bytes(), (inner, field) => {
      if (no === 1 && inner === 1) name = field.string()
      else if (no === 1 && (inner === 4 || inner === 5))
        put(inner === 4 ? labels : annotations, field, '', readText)
      else if (no === 2 && inner === 1) bodyType = field.string()
      else if (no === 2 && inner === 2) body = field.bytes()
      else return false
      return true
    })
    return true
  })
  const [namespace = '', short = '', ...more] = name.split('/')
  if (namespace === '' || short === '' || more.length > 0) {
    return fail(problem(object, 'metadata.name', `is "${name}", expected namespace/name`))
  }
  if (bodyType !== BODY_TYPE) return fail(problem(object, 'body', `is "${bodyType}", expected ${BODY_TYPE}`))
  return decodeSpec(body, object, { namespace, name: short, labels, annotations })
}

function encodeSpec(entry: EntryConfig): Uint8Array {
  const writer = new BinaryWriter()
  writeStrings(writer, 1, entry.hosts)
  for (const port of entry.ports) {
    writeMessage(writer, 3, (message) => {
      writeUint32(message, 1, port.number)
      writeString(message, 2, port.protocol)
      writeString(message, 3, port.name)
    })
  }
  writeUint32(writer, 4, LOCATIONS.indexOf(entry.location))
  writeUint32(writer, 5, RESOLUTIONS.indexOf(entry.resolution))
  for (const endpoint of entry.endpoints) {
    writeMessage(writer, 6, (message) => {
      writeString(message, 1, endpoint.address)
      writeMap(message, 2, endpoint.ports, writeUint32)
      writeMap(message, 3, endpoint.labels, writeString)
      writeString(message, 4, endpoint.network)
      writeString(message, 5, endpoint.locality)
      writeUint32(message, 6, endpoint.weight)
    })
  }
  writeStrings(writer, 7, entry.exportTo)
  writeStrings(writer, 8, entry.subjectAltNames)
  return writer.finish()
}

type Meta = Pick<EntryConfig, 'namespace' | 'name' | 'labels' | 'annotations'>

function decodeSpec(bytes: Uint8Array, object: string, meta: Meta): Result<EntryConfig> {
  const hosts: string[] = []
  const ports: EntryPort[] = []
  const endpoints: EntryEndpoint[] = []
  const exportTo: string[] = []
  const subjectAltNames: string[] = []
  let location = 0
  let resolution = 0
  readFields(bytes, (no, reader) => {
    if (no === 1) hosts.push(reader.string())
    else if (no === 3) ports.push(decodePort(reader.bytes()))
    else if (no === 4) location = reader.uint32()
    else if (no === 5) resolution = reader.uint32()
    else if (no === 6) endpoints.push(decodeEndpoint(reader.bytes()))
    else if (no === 7) exportTo.push(reader.string())
    else if (no === 8) subjectAltNames.push(reader.string())
    else return false
    return true
  })
  const where = LOCATIONS[location]
  const how = RESOLUTIONS[resolution]
  if (where === undefined)
    return fail(problem(object, 'spec.location', `is ${location}, expected ${LOCATIONS.join(' or ')}`))
  if (how === undefined)
    return fail(problem(object, 'spec.resolution', `is ${resolution}, expected ${RESOLUTIONS.join(', ')}`))
  return ok({ ...meta, hosts, location: where, resolution: how, ports, endpoints, exportTo, subjectAltNames })
}

function decodePort(bytes: Uint8Array): EntryPort {
  let port: EntryPort = { name: '', number: 0, protocol: '' }
  readFields(bytes, (no, reader) => {
    if (no === 1) port = { ...port, number: reader.uint32() }
    else if (no === 2) port = { ...port, protocol: reader.string() }
    else if (no === 3) port = { ...port, name: reader.string() }
    else return false
    return true
  })
  return port
}

function decodeEndpoint(bytes: Uint8Array): EntryEndpoint {
  const ports: Record<string, number> = {}
  const labels: Record<string, string> = {}
  const rest = { address: '', network: '', locality: '', weight: 0 }
  readFields(bytes, (no, reader) => {
    if (no === 1) rest.address = reader.string()
    else if (no === 2) put(ports, reader, 0, (value) => value.uint32())
    else if (no === 3) put(labels, reader, '', readText)
    else if (no === 4) rest.network = reader.string()
    else if (no === 5) rest.locality = reader.string()
    else if (no === 6) rest.weight = reader.uint32()
    else return false
    return true
  })
  return { ...rest, ports, labels }
}

const readText = (reader: BinaryReader): string => reader.string()

/** Reads one map entry into `record`. `__proto__` as a key would not arrive as a member, so it is dropped knowingly. */
function put<V>(
  record: Record<string, V>,
  reader: BinaryReader,
  absent: V,
  read: (reader: BinaryReader) => V,
): void {
  const [key, value] = readEntry(reader.bytes(), absent, read)
  if (key !== '__proto__') record[key] = value
}

const sorted = (record: Readonly<Record<string, string>>): [string, string][] =>
  Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1))
