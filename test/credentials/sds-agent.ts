// An SDS agent as Istio's and SPIRE's are, on grpc-js and a real unix socket: StreamSecrets, no DeltaSecrets.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { AnySchema } from '@bufbuild/protobuf/wkt'
import { Server, ServerCredentials, type ServerDuplexStream, status } from '@grpc/grpc-js'
import { SecretSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import {
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from '../../src/xds/gen/envoy/service/discovery/v3/discovery_pb.js'
import { encodeResource } from '../../src/xds/resource.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'

type Stream = ServerDuplexStream<Buffer, Buffer>
const raw = (bytes: Buffer): Buffer => bytes

export class SdsAgent {
  readonly path: string
  /** `error_detail` of each NACK. */
  readonly nacks: string[] = []
  /** Names that streams asked for. */
  readonly asked: string[][] = []
  /** User agents that streams came with. */
  readonly nodes: string[] = []
  /** False: requests are taken and never answered. */
  answers = true
  readonly #secrets = new Map<string, XdsResource>()
  readonly #streams = new Map<Stream, string[]>()
  #server: Server | undefined
  #version = 0

  constructor(path: string) {
    this.path = path
  }

  async start(): Promise<void> {
    const server = new Server()
    const method = (path: string) => ({
      path,
      requestStream: true,
      responseStream: true,
      requestSerialize: raw,
      requestDeserialize: raw,
      responseSerialize: raw,
      responseDeserialize: raw,
    })
    const service = '/envoy.service.secret.v3.SecretDiscoveryService'
    server.addService(
      {
        StreamSecrets: method(`${service}/StreamSecrets`),
        DeltaSecrets: method(`${service}/DeltaSecrets`),
      },
      {
        StreamSecrets: (stream: Stream) => this.#serve(stream),
        DeltaSecrets: (stream: Stream) => void stream.emit('error', { code: status.UNIMPLEMENTED }),
      },
    )
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${this.path}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      )
    })
    this.#server = server
  }

  /** Everybody is cut off; what it has it has still when it starts again. */
  stop(): void {
    this.#server?.forceShutdown()
    this.#streams.clear()
  }

  /** What it has from now on; whoever asked for it is told. */
  put(...secrets: XdsResource[]): void {
    for (const secret of secrets) this.#secrets.set(secret.name, secret)
    for (const [stream, names] of this.#streams)
      if (secrets.some(({ name }) => names.includes(name))) this.#push(stream, names)
  }

  #serve(stream: Stream): void {
    stream.on('error', () => {})
    stream.on('close', () => this.#streams.delete(stream))
    stream.on('data', (bytes: Buffer) => {
      const request = fromBinary(DiscoveryRequestSchema, bytes)
      if (request.errorDetail !== undefined) this.nacks.push(request.errorDetail.message)
      if (request.node !== undefined) this.nodes.push(request.node.userAgentName)
      if (this.#streams.has(stream)) return
      this.asked.push([...request.resourceNames])
      this.#streams.set(stream, [...request.resourceNames])
      this.#push(stream, request.resourceNames)
    })
  }

  #push(stream: Stream, names: readonly string[]): void {
    const resources = names.flatMap((name) => this.#secrets.get(name) ?? [])
    if (!this.answers || resources.length === 0) return
    this.#version += 1
    const response = create(DiscoveryResponseSchema, {
      versionInfo: String(this.#version),
      nonce: String(this.#version),
      typeUrl: TYPE.secret,
      resources: resources.map(({ anyTypeUrl, body }) =>
        create(AnySchema, { typeUrl: anyTypeUrl, value: body }),
      ),
    })
    stream.write(Buffer.from(toBinary(DiscoveryResponseSchema, response)))
  }
}

/** `ROOTCA` as Istio's agent has it: one pool. */
export function rootSecret(trustedCa: string, crl = '', name = 'ROOTCA'): XdsResource {
  const bytes = (text: string) => ({ specifier: { case: 'inlineBytes' as const, value: Buffer.from(text) } })
  const value = { trustedCa: bytes(trustedCa), ...(crl !== '' && { crl: bytes(crl) }) }
  return encodeResource(SecretSchema, { name, type: { case: 'validationContext', value } }, name)
}
