import { constants, type ServerHttp2Stream } from 'node:http2'
import type { Result } from '../lib/result.ts'
import { GRPC, type Refusal } from '../xds/grpc.ts'
import type { StreamPeer } from '../xds/types.ts'

export interface ReverseStreamsOptions {
  /** Which peer's discovery server has opened a stream, by its certificate, now. */
  identify(peer: StreamPeer): Result<string, Refusal>
  /** Subscribes to that cluster's exports on the stream; why not. */
  take(cluster: string, stream: ServerHttp2Stream): string | undefined
}

/** The streams on which peers that cannot be dialled offer their exports: judged as any other, when they are opened and again. */
export class ReverseStreams {
  readonly #options: ReverseStreamsOptions
  readonly #open = new Map<ServerHttp2Stream, { readonly peer: StreamPeer; readonly cluster: string }>()

  constructor(options: ReverseStreamsOptions) {
    this.#options = options
  }

  accept(stream: ServerHttp2Stream, peer: StreamPeer): Refusal | undefined {
    const cluster = this.#options.identify(peer)
    if (!cluster.ok) return cluster.error
    const refused = this.#options.take(cluster.value, stream)
    if (refused !== undefined) return { code: GRPC.permissionDenied, message: refused }
    this.#open.set(stream, { peer, cluster: cluster.value })
    stream.once('close', () => this.#open.delete(stream))
    return undefined
  }

  /** Cuts those whose peer is another now, or nobody any more. */
  judgeAgain(): void {
    for (const [stream, { peer, cluster }] of [...this.#open]) {
      const now = this.#options.identify(peer)
      if (!now.ok || now.value !== cluster) stream.close(constants.NGHTTP2_CANCEL)
    }
  }
}
