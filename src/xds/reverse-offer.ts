import type { Client, ClientDuplexStream } from '@grpc/grpc-js'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { AdsStream } from './ads-stream.ts'
import { decodeRequest } from './codec-request.ts'
import { encodeContent, encodeNonce } from './codec-response.ts'
import { GRPC } from './grpc.ts'
import { REVERSE_PATH } from './methods.ts'
import type { ViewSource } from './snapshot-cache.ts'
import type { View } from './subscription-rules.ts'

const EMPTY: View = new Map()
/** Names in one request. */
const NAMES_MAX = 20_000

export interface ReverseOfferOptions {
  /** What is offered, and nothing else: whoever is at the other end was verified when the connection was opened. */
  readonly source: ViewSource
  /** The one type that is. */
  readonly typeUrl: string
  /** The other side, or the connection, ended it; `later`: it may be taken when it is offered again soon. */
  onEnd(later: boolean): void
  readonly logger: Logger
  readonly clock: Clock
}

/**
 * The serving end of Delta xDS on a connection that this side has opened (`REVERSE_PATH`): a server that cannot be dialled dials whom
 * it serves. The other side sends `DeltaDiscoveryRequest` down the stream and gets `DeltaDiscoveryResponse` up it. One that
 * knows no such method ends the stream, which ends this alone.
 */
export class ReverseOffer {
  readonly #options: ReverseOfferOptions
  readonly #call: ClientDuplexStream<Buffer, Buffer>
  readonly #state: AdsStream
  readonly #unwatch: () => void
  #scheduled: NodeJS.Immediate | undefined
  #cancelTimer: (() => void) | undefined
  #blocked = false
  #ended = false

  constructor(client: Client, options: ReverseOfferOptions) {
    this.#options = options
    const { source, typeUrl, logger } = options
    this.#state = new AdsStream({ variant: 'delta', view: () => source.current().get(typeUrl) ?? EMPTY })
    this.#unwatch = source.watch((changes) => {
      const names = changes.get(typeUrl)
      if (names !== undefined) this.#state.changed(typeUrl, names)
      this.#schedule()
    })
    const bytes = (message: Buffer): Buffer => message
    this.#call = client.makeBidiStreamRequest(REVERSE_PATH, bytes, bytes)
    this.#call.on('data', (message: Buffer) => this.#onRequest(message))
    this.#call.on('drain', () => {
      this.#blocked = false
      this.#flush()
    })
    this.#call.on('error', (error) => {
      logger.debug({ reason: error.message }, 'what is offered in reverse is not taken any more')
      this.#lost((error as { code?: number }).code === GRPC.unavailable)
    })
    this.#call.on('end', () => this.#lost(true))
  }

  stop(): void {
    if (this.#ended) return
    this.#ended = true
    this.#cancelTimer?.()
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled)
    this.#unwatch()
    this.#call.cancel()
  }

  #lost(later: boolean): void {
    if (this.#ended) return
    this.stop()
    this.#options.onEnd(later)
  }

  #onRequest(message: Buffer): void {
    const request = decodeRequest('delta', message, { maxNames: NAMES_MAX })
    const { typeUrl, clock, logger } = this.#options
    if (this.#ended) return
    if (!request.ok || request.value.typeUrl !== typeUrl) {
      const reason = request.ok ? `asked for ${request.value.typeUrl}, ${typeUrl} is offered` : request.error
      logger.warn({ reason }, 'a request in reverse is refused')
      this.#lost(false)
      return
    }
    this.#state.request(request.value, clock.now())
    this.#schedule()
  }

  #schedule(): void {
    if (this.#ended || this.#scheduled !== undefined) return
    this.#scheduled = setImmediate(() => {
      this.#scheduled = undefined
      this.#flush()
    })
  }

  #flush(): void {
    const { source, clock } = this.#options
    while (!this.#ended && !this.#blocked) {
      const push = this.#state.pull(clock.now())
      if (push === undefined) break
      const content = encodeContent('delta', push, source.identifier?.() ?? '')
      this.#blocked = !this.#call.write(Buffer.concat([...content, encodeNonce(push.nonce)]))
    }
    this.#armTimer()
  }

  #armTimer(): void {
    if (this.#ended || this.#cancelTimer !== undefined) return
    const { clock } = this.#options
    const at = this.#state.expire(clock.now())
    if (at === undefined) return
    this.#cancelTimer = clock.after(at - clock.now(), () => {
      this.#cancelTimer = undefined
      this.#state.expire(clock.now())
      this.#flush()
    })
  }
}
