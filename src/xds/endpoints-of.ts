import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import type { XdsResource } from './types.ts'

/** `Cluster.DiscoveryType.EDS`. */
const EDS = 3

const known = new WeakMap<XdsResource, string | undefined>()

/**
 * The ClusterLoadAssignment that an EDS Cluster waits for: `eds_cluster_config.service_name`, or the Cluster's name. Undefined
 * for a Cluster of another discovery type. Reads three fields only, once per resource.
 */
export function endpointsOf(cluster: XdsResource): string | undefined {
  if (!known.has(cluster)) known.set(cluster, read(cluster))
  return known.get(cluster)
}

function read(cluster: XdsResource): string | undefined {
  let type = 0
  let service = ''
  try {
    const reader = new BinaryReader(cluster.body)
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag()
      if (field === 2 && wire === WireType.Varint) type = reader.int32()
      else if (field === 3 && wire === WireType.LengthDelimited)
        service = serviceName(reader.bytes()) || service
      else reader.skip(wire, field)
    }
  } catch {
    return undefined
  }
  return type === EDS ? service || cluster.name : undefined
}

function serviceName(edsClusterConfig: Uint8Array): string {
  let name = ''
  const reader = new BinaryReader(edsClusterConfig)
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag()
    if (field === 2 && wire === WireType.LengthDelimited) name = reader.string()
    else reader.skip(wire, field)
  }
  return name
}
