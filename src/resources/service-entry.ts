// istio.networking.v1alpha3.ServiceEntry inside istio.mcp.v1alpha1.Resource: what peers send each other, and what istiod reads
// from a `configSources` server. Field numbers: istio/api networking/v1alpha3/{service_entry,workload_entry}.proto.
import { BinaryWriter } from '@bufbuild/protobuf/wire'
import { fail, ok, problem, type Result } from '../lib/result.ts'
import type { XdsResource } from '../xds/types.ts'
import { decodeMcp, encodeMcp, type McpMetadata } from './mcp.ts'
import {
  readFields,
  readMap,
  readText,
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
export interface EntryConfig extends McpMetadata {
  readonly hosts: readonly string[]
  readonly location: 'MESH_EXTERNAL' | 'MESH_INTERNAL'
  readonly resolution: 'NONE' | 'STATIC' | 'DNS'
  readonly ports: readonly EntryPort[]
  readonly endpoints: readonly EntryEndpoint[]
  readonly exportTo: readonly string[]
  readonly subjectAltNames: readonly string[]
}

const BODY_TYPE = 'type.googleapis.com/istio.networking.v1alpha3.ServiceEntry'
const LOCATIONS = ['MESH_EXTERNAL', 'MESH_INTERNAL'] as const
const RESOLUTIONS = ['NONE', 'STATIC', 'DNS'] as const

/** The MCP resource `namespace/name`, its version the hash of its content. */
export function encodeEntry(entry: EntryConfig): XdsResource {
  return encodeMcp(entry, BODY_TYPE, encodeSpec(entry))
}

/** The inverse; unknown fields are skipped, a body that is no ServiceEntry or no protobuf is a Problem. */
export function decodeEntry(resource: XdsResource): Result<EntryConfig> {
  return decodeMcp(resource, 'ServiceEntry', BODY_TYPE, (spec, metadata) =>
    decodeSpec(spec, `ServiceEntry/${resource.name}`, metadata),
  )
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

function decodeSpec(bytes: Uint8Array, object: string, meta: McpMetadata): Result<EntryConfig> {
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
    else if (no === 2) readMap(ports, reader, 0, (value) => value.uint32())
    else if (no === 3) readMap(labels, reader, '', readText)
    else if (no === 4) rest.network = reader.string()
    else if (no === 5) rest.locality = reader.string()
    else if (no === 6) rest.weight = reader.uint32()
    else return false
    return true
  })
  return { ...rest, ports, labels }
}
