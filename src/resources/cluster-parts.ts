// Thousands of Clusters differ in their names and in what has names in it. The rest of each, byte for byte the same, is read once.
import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import {
  type Cluster,
  Cluster_EdsClusterConfigSchema,
  Cluster_TransportSocketMatchSchema,
  ClusterSchema,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { MetadataSchema } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import { type Allowed, unsupportedFields } from './accept-fields.ts'
import { type Known, KnownMessages } from './known-messages.ts'

/** Fields that have names in them. */
const OWN = { name: 1, edsClusterConfig: 3, metadata: 25, transportSocketMatches: 43 } as const

const rests = new KnownMessages<typeof ClusterSchema>()

/** Rules for the fields of `OWN` that are not allowed whole. */
export interface OwnAllowed {
  readonly name: true
  readonly metadata: true
  readonly eds_cluster_config: Allowed
  readonly transport_socket_matches: Allowed
}

/**
 * A Cluster of which everything is supported; undefined where it has to be looked at as a whole: something is not, or it cannot be read or is written in another way,
 * or a field of which there is one stands there twice. `allowed` must be the same object at each call. What comes back is for reading its
 * fields by name: those that many have are inherited from one that they share, which nobody may change.
 */
export function knownCluster(
  body: Uint8Array,
  allowed: OwnAllowed & Exclude<Allowed, true>,
): Cluster | undefined {
  try {
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
    const own: Partial<Cluster> & Pick<Cluster, 'name' | 'transportSocketMatches'> = {
      name: '',
      transportSocketMatches: [],
    }
    const reader = new BinaryReader(body)
    let [rest, from] = ['', 0]
    const seen = new Set<number>()
    while (reader.pos < reader.len) {
      const at = reader.pos
      const [field, wire] = reader.tag()
      if (wire !== WireType.LengthDelimited || !isOwn(field)) {
        reader.skip(wire, field)
        continue
      }
      rest += bytes.toString('latin1', from, at)
      // Text that is no UTF-8 is refused, as everywhere.
      if (field === OWN.name) own.name = reader.string(true)
      else if (field === OWN.metadata) own.metadata = fromBinary(MetadataSchema, reader.bytes())
      else if (field === OWN.edsClusterConfig)
        own.edsClusterConfig = supported(
          Cluster_EdsClusterConfigSchema,
          reader.bytes(),
          allowed.eds_cluster_config,
        )
      else
        own.transportSocketMatches.push(
          supported(Cluster_TransportSocketMatchSchema, reader.bytes(), allowed.transport_socket_matches),
        )
      // Protobuf merges what stands there twice.
      if (field !== OWN.transportSocketMatches && seen.has(field)) return undefined
      seen.add(field)
      from = reader.pos
    }
    rest += bytes.toString('latin1', from, bytes.length)
    const known = rests.get(rest, () => readRest(Buffer.from(rest, 'latin1'), allowed))
    return known.unsupported.length > 0 ? undefined : Object.assign(Object.create(known.message), own)
  } catch {
    return undefined
  }
}

/**
 * The decoder follows lengths, not the ends of what they are in, and takes no notice of wire types: what is taken out of a message that is
 * not well-formed changes what the rest of it means. What is written again as it was read is well-formed.
 */
function readRest(bytes: Uint8Array, allowed: Allowed): Known<Cluster> {
  const message = fromBinary(ClusterSchema, bytes)
  const isSame = Buffer.compare(toBinary(ClusterSchema, message), bytes) === 0
  return {
    message,
    unsupported: isSame ? unsupportedFields(ClusterSchema, message, allowed, '') : ['encoding'],
  }
}

function isOwn(field: number): boolean {
  return (
    field === OWN.name ||
    field === OWN.edsClusterConfig ||
    field === OWN.metadata ||
    field === OWN.transportSocketMatches
  )
}

/** Throws where something in it is not. */
function supported<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
  allowed: Allowed,
): MessageShape<Desc> {
  const message = fromBinary(schema, bytes)
  const [found] = unsupportedFields(schema, message, allowed, '')
  if (found !== undefined) throw new Error(`${found} is not supported`)
  return message
}
