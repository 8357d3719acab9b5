import * as grpc from '@grpc/grpc-js'
import { silentLogger } from '../../src/lib/log.ts'
import { ok } from '../../src/lib/result.ts'
import { encodeRequest } from '../../src/xds/codec-request.ts'
import { decodeResponse } from '../../src/xds/codec-response.ts'
import type { Variant, XdsRequest, XdsResponse } from '../../src/xds/messages.ts'
import { ADS_PATH } from '../../src/xds/methods.ts'
import { XdsServer, type XdsServerOptions } from '../../src/xds/server.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import type { StreamPeer } from '../../src/xds/types.ts'
import { NODE, request } from './fixtures.ts'

/** A server with one view for everybody. */
export function serve(options: Partial<XdsServerOptions> = {}) {
  const cache = new SnapshotCache({ identifier: 'test' })
  const peers: StreamPeer[] = []
  const server = new XdsServer({
    authorize(peer) {
      peers.push(peer)
      return ok(cache)
    },
    ready: () => true,
    logger: silentLogger,
    ...options,
  })
  return { server, cache, peers }
}

/** A bare gRPC client that says what the test says, message by message. */
export class RawStream {
  readonly client: grpc.Client
  readonly call: grpc.ClientDuplexStream<Buffer, Buffer>
  readonly #variant: Variant
  readonly #received: XdsResponse[] = []
  readonly #waiting: ((response: XdsResponse) => void)[] = []
  readonly status: Promise<grpc.StatusObject>
  #first = true

  constructor(target: string, variant: Variant = 'delta', path: string = ADS_PATH[variant]) {
    this.#variant = variant
    this.client = new grpc.Client(target, grpc.credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    })
    this.call = this.client.makeBidiStreamRequest(
      path,
      (b: Buffer) => b,
      (b: Buffer) => b,
    )
    this.call.on('data', (bytes: Buffer) => {
      const response = decodeResponse(variant, bytes)
      if (!response.ok) throw new Error(response.error)
      const waiter = this.#waiting.shift()
      if (waiter === undefined) this.#received.push(response.value)
      else waiter(response.value)
    })
    this.call.on('error', () => {})
    this.status = new Promise((resolve) => this.call.on('status', resolve))
  }

  send(fields: Partial<XdsRequest> & { typeUrl: string }): void {
    const node = this.#first ? NODE : undefined
    this.#first = false
    this.call.write(Buffer.from(encodeRequest(this.#variant, request({ node, ...fields }))))
  }

  ack(response: XdsResponse, fields: Partial<XdsRequest> = {}): void {
    this.send({
      typeUrl: response.typeUrl,
      responseNonce: response.nonce,
      versionInfo: response.version,
      ...fields,
    })
  }

  next(): Promise<XdsResponse> {
    const response = this.#received.shift()
    if (response !== undefined) return Promise.resolve(response)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Responses that came and were not asked for by `next`. */
  get unread(): readonly XdsResponse[] {
    return this.#received
  }

  close(): void {
    this.call.cancel()
    this.client.close()
  }
}
