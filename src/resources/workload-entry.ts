// istio.networking.v1alpha3.WorkloadEntry as an MCP resource: a remote gateway as one more endpoint of a Service of this cluster.
// Field numbers: istio/api networking/v1alpha3/workload_entry.proto.
import { BinaryWriter } from '@bufbuild/protobuf/wire'
import type { XdsResource } from '../xds/types.ts'
import { encodeMcp, type McpMetadata } from './mcp.ts'
import { writeMap, writeString, writeUint32 } from './protobuf-fields.ts'

export interface WorkloadEntryConfig extends McpMetadata {
  readonly address: string
  /** Port name of the Service → number at the address. */
  readonly ports: Readonly<Record<string, number>>
  /** Of the endpoint; with the Service's selector among them it is one of the Service's endpoints. */
  readonly endpointLabels: Readonly<Record<string, string>>
  readonly locality: string
  readonly weight: number
}

const BODY_TYPE = 'type.googleapis.com/istio.networking.v1alpha3.WorkloadEntry'

export function encodeWorkloadEntry(entry: WorkloadEntryConfig): XdsResource {
  const writer = new BinaryWriter()
  writeString(writer, 1, entry.address)
  writeMap(writer, 2, entry.ports, writeUint32)
  writeMap(writer, 3, entry.endpointLabels, writeString)
  writeString(writer, 5, entry.locality)
  writeUint32(writer, 6, entry.weight)
  return encodeMcp(entry, BODY_TYPE, writer.finish())
}
