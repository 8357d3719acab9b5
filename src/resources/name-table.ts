import { BinaryWriter } from '@bufbuild/protobuf/wire'
import { contentHash } from '../lib/canonical.ts'
import { TYPE, type XdsResource } from '../xds/types.ts'
import { readEntry, readFields, writeMap, writeString, writeStrings } from './protobuf-fields.ts'

/** One name of the table: `istio.networking.nds.v1.NameTable.NameInfo`. */
export interface NameInfo {
  readonly ips: readonly string[]
  /** The Service's name and namespace, empty for a host that is no Kubernetes service. */
  readonly shortname: string
  readonly namespace: string
}

/** NDS has one resource; its name is ours (istiod gives it none). */
export const NAME_TABLE = 'nametable'

/** Encodes the table as istiod's NDS does (istio/istio pkg/dns/proto/nds.proto), names sorted. */
export function encodeNameTable(table: Readonly<Record<string, NameInfo>>): XdsResource {
  const writer = new BinaryWriter()
  writeMap(writer, 1, table, (entry, no, info) => {
    entry.tag(no, 2).fork()
    writeStrings(entry, 1, info.ips)
    writeString(entry, 2, info.shortname === '' ? 'External' : 'Kubernetes')
    writeString(entry, 3, info.shortname)
    writeString(entry, 4, info.namespace)
    entry.join()
  })
  const body = writer.finish()
  return { name: NAME_TABLE, version: contentHash(body), anyTypeUrl: TYPE.nameTable, body }
}

/** Name → addresses. Throws on bytes that are no protobuf; unknown fields are skipped. */
export function decodeNameTable(bytes: Uint8Array): Map<string, string[]> {
  const table = new Map<string, string[]>()
  readFields(bytes, (no, reader) => {
    if (no !== 1) return false
    const [name, ips] = readEntry(reader.bytes(), [] as string[], (value) => readIps(value.bytes()))
    table.set(name, ips)
    return true
  })
  return table
}

function readIps(bytes: Uint8Array): string[] {
  const ips: string[] = []
  readFields(bytes, (no, reader) => {
    if (no !== 1) return false
    ips.push(reader.string())
    return true
  })
  return ips
}
