// ClientStatusDiscoveryService: what each client was sent, took, refused and waits for. Source: envoy/service/status/v3/csds.proto.
// Answers are written by hand, resource by resource, from bodies that are encoded already.
import { fromBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { fail, ok, type Result } from '../lib/result.ts'
import { writeNode } from './codec-request.ts'
import { type ClientStatusRequest, ClientStatusRequestSchema } from './gen/envoy/service/status/v3/csds_pb.js'
import { GRPC, type Refusal } from './grpc.ts'
import { matchesAny, UnsupportedMatcher } from './node-matcher.ts'
import type { Progress, ResourceProgress } from './progress.ts'
import { type NodeInfo, TYPE } from './types.ts'

const LEN = WireType.LengthDelimited
const SERVICE = '/envoy.service.status.v3.ClientStatusDiscoveryService'

/** HTTP/2 path → whether more requests may follow on the stream. */
export const STATUS_METHODS: ReadonlyMap<string, { readonly streaming: boolean }> = new Map([
  [`${SERVICE}/StreamClientStatus`, { streaming: true }],
  [`${SERVICE}/FetchClientStatus`, { streaming: false }],
])

export interface ResourceStatus extends Progress {
  readonly typeUrl: string
  /** When the client last refused something of the type, milliseconds; 0 for never. */
  readonly refusedMs: number
}

/** One open stream. */
export interface ClientConfig {
  readonly node: NodeInfo
  resources(): Iterable<ResourceStatus>
}

/** `ConfigStatus`, which servers set, and `ClientResourceStatus`, as far as a server can know it. */
const STATUS: Readonly<Record<ResourceProgress, readonly [config: number, client: number]>> = {
  missing: [2, 2],
  unsent: [2, 1],
  pending: [3, 1],
  acked: [1, 3],
  nacked: [4, 4],
}

export interface StatusLimits {
  /** Largest answer, bytes: beyond it the request has to name fewer clients. */
  readonly maxStatusBytes: number
}

/** The encoded `ClientStatusResponse` to an encoded `ClientStatusRequest`. */
export function answerStatus(
  message: Uint8Array,
  clients: Iterable<ClientConfig>,
  { maxStatusBytes }: StatusLimits,
): Result<Buffer, Refusal> {
  let request: ClientStatusRequest
  try {
    request = fromBinary(ClientStatusRequestSchema, message)
  } catch (error) {
    return invalid(`malformed request: ${(error as Error).message}`)
  }
  const parts: Uint8Array[] = []
  let bytes = 0
  try {
    for (const client of clients) {
      if (!matchesAny(request.nodeMatchers, client.node)) continue
      const part = encodeClient(client, request.excludeResourceContents)
      bytes += part.length
      if (bytes > maxStatusBytes) {
        const message = `more than ${maxStatusBytes} bytes: name fewer clients (node_matchers), or exclude_resource_contents`
        return fail({ code: GRPC.resourceExhausted, message, reason: 'status-too-large' })
      }
      parts.push(part)
    }
  } catch (error) {
    if (error instanceof UnsupportedMatcher) return invalid(`node_matchers: ${error.message}`)
    throw error
  }
  return ok(Buffer.concat(parts))
}

/** `ClientStatusResponse.config`, one entry. */
function encodeClient(client: ClientConfig, withoutContents: boolean): Uint8Array {
  const writer = new BinaryWriter().tag(1, LEN).fork()
  writeNode(writer, 1, client.node)
  for (const one of client.resources()) writeResource(writer, one, withoutContents)
  return writer.join().finish()
}

/** `ClientConfig.GenericXdsConfig`. */
function writeResource(writer: BinaryWriter, one: ResourceStatus, withoutContents: boolean): void {
  const { resource, error, progress } = one
  const [config, client] = STATUS[progress]
  writer.tag(3, LEN).fork()
  writer.tag(1, LEN).string(one.typeUrl).tag(2, LEN).string(one.name)
  if (resource !== undefined) writer.tag(3, LEN).string(resource.version)
  // Private keys among them: who may look at everybody's state need not be able to be everybody.
  if (resource !== undefined && !withoutContents && one.typeUrl !== TYPE.secret) {
    writer.tag(4, LEN).fork()
    writer.tag(1, LEN).string(resource.anyTypeUrl).tag(2, LEN).bytes(resource.body).join()
  }
  writer.tag(6, WireType.Varint).int32(config).tag(7, WireType.Varint).int32(client)
  if (progress === 'nacked') {
    // `UpdateFailureState`: when, why and which version.
    writer.tag(8, LEN).fork()
    writer.tag(2, LEN).fork()
    writer.tag(1, WireType.Varint).int64(Math.floor(one.refusedMs / 1_000))
    writer.tag(2, WireType.Varint).int32((one.refusedMs % 1_000) * 1_000_000)
    writer.join().tag(3, LEN).string(error)
    if (resource !== undefined) writer.tag(4, LEN).string(resource.version)
    writer.join()
  }
  writer.join()
}

function invalid(message: string): Result<never, Refusal> {
  return fail({ code: GRPC.invalidArgument, message, reason: 'malformed' })
}
