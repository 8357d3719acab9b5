import type { ServerHttp2Stream } from 'node:http2'
import type { Clock } from '../lib/clock.ts'
import { formatProblem, type Problem } from '../lib/result.ts'
import type { XdsUpdate } from './client.ts'
import { ClientType } from './client-state.ts'
import { encodeRequest } from './codec-request.ts'
import { decodeResponse } from './codec-response.ts'
import { closeSoon, GRPC, MessageReader, messagePrefix, type Refusal, trailersOf } from './grpc.ts'
import type { NodeInfo } from './types.ts'

export interface ReverseSubscriptionOptions {
  /** The one type that is asked for, all of it. */
  readonly typeUrl: string
  readonly node: NodeInfo
  /** What is had already, by name. */
  readonly versions: ReadonlyMap<string, string>
  /** Largest response, bytes. */
  readonly maxMessageBytes: number
  /** Takes a response; a problem refuses the resource that it names by `object`, or all of it. */
  onUpdate(update: XdsUpdate): readonly Problem[]
  /** `garbage`: the other side sent what is no response. */
  onEnd(reason: string, garbage: boolean): void
  readonly clock: Clock
}

/** The asking end of Delta xDS on a connection that the serving side has opened (`ReverseOffer` has the other end). */
export class ReverseSubscription {
  readonly #stream: ServerHttp2Stream
  readonly #options: ReverseSubscriptionOptions
  readonly #type: ClientType
  readonly #reader: MessageReader
  #ending: Refusal = { code: GRPC.ok, message: '' }
  #ended = false

  constructor(stream: ServerHttp2Stream, options: ReverseSubscriptionOptions) {
    this.#stream = stream
    this.#options = options
    this.#type = new ClientType(options.typeUrl, 'delta', false, options.versions)
    this.#reader = new MessageReader(options.maxMessageBytes)
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers(trailersOf(this.#ending)))
    stream.on('data', (chunk: Buffer) => this.#onData(chunk))
    stream.on('close', () => this.#lost('the peer ended the stream', false))
    stream.on('end', () => this.end({ code: GRPC.ok, message: '' }))
    this.#type.want('*')
    this.#type.opened()
    const request = this.#type.request(options.node)
    if (request !== undefined) this.#write(encodeRequest('delta', request))
  }

  /** Ends the stream with a gRPC status. */
  end(why: Refusal, garbage = false): void {
    if (this.#ended) return
    this.#ending = why
    if (!this.#stream.destroyed) this.#stream.end()
    closeSoon(this.#stream, this.#options.clock)
    this.#lost(why.message === '' ? 'the stream has ended' : why.message, garbage)
  }

  #onData(chunk: Buffer): void {
    if (this.#ended) return
    const messages = this.#reader.push(chunk)
    if (!messages.ok) this.end(messages.error, true)
    for (const message of messages.ok ? messages.value : []) {
      const response = decodeResponse('delta', message)
      if (!response.ok || response.value.typeUrl !== this.#options.typeUrl) {
        const what = response.ok ? `a response of ${response.value.typeUrl}` : response.error
        this.end({ code: GRPC.invalidArgument, message: what }, true)
        return
      }
      const { version: systemVersion, identifier } = response.value
      const update = this.#type.update(response.value)
      const problems = this.#options.onUpdate({
        upserted: [...update.upserted],
        removed: [...update.removed],
        systemVersion,
        identifier,
      })
      if (this.#ended) return
      const refused = new Set(problems.map(({ object }) => object))
      const whole = problems.some(({ object }) => !update.upserted.some(({ name }) => name === object))
      this.#type.accept(update, (name) => whole || refused.has(name))
      const detail = problems.length === 0 ? undefined : problems.map(formatProblem).join('; ')
      this.#write(encodeRequest('delta', this.#type.answer(response.value, detail)))
    }
  }

  #write(message: Uint8Array): void {
    if (this.#stream.destroyed || this.#stream.writableEnded) return
    this.#stream.write(Buffer.concat([messagePrefix(message.length), message]))
  }

  #lost(reason: string, garbage: boolean): void {
    if (this.#ended) return
    this.#ended = true
    this.#options.onEnd(reason, garbage)
  }
}
