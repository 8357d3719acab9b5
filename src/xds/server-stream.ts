// One xDS stream on the server: HTTP/2 frames in, the state machine, HTTP/2 frames out. What to send is decided only when the
// socket takes it, so a slow client holds one response in memory and then gets the latest, not a history.
import type { ServerHttp2Stream } from 'node:http2'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Result } from '../lib/result.ts'
import { AdsStream, type TypeStatus } from './ads-stream.ts'
import type { ClientConfig } from './client-status.ts'
import { clientTraits } from './client-traits.ts'
import { decodeRequest } from './codec-request.ts'
import { nonceTail, sharedFrame } from './frames.ts'
import { closeSoon, GRPC, MessageReader, type Refusal, trailersOf } from './grpc.ts'
import type { Variant, XdsRequest } from './messages.ts'
import { RequestGate, type RequestLimits } from './request-gate.ts'
import { SlicedWriter } from './sliced-writer.ts'
import type { Changes, ViewSource } from './snapshot-cache.ts'
import type { View } from './subscription-rules.ts'
import type { NodeInfo, StreamPeer } from './types.ts'

export interface StreamLimits extends RequestLimits {
  /** Largest request, bytes. */
  readonly maxMessageBytes: number
  /** Names that one stream may want, all types together. */
  readonly maxNames: number
  /** What they may be long together, UTF-16 units. */
  readonly maxNamesLength: number
  /** How long an unanswered response holds back the next, milliseconds. */
  readonly ackTimeoutMs: number
  /** Where a response that can be split is split, bytes. */
  readonly maxResponseBytes: number
}

export interface StreamHost {
  authorize(peer: StreamPeer, node: NodeInfo, typeUrl: string): Result<ViewSource, Refusal>
  /** Asked again where a response is built: false ends the stream before a byte of it leaves. Default: true. */
  mayServe?(peer: StreamPeer, source: ViewSource, typeUrl: string): boolean
  /** A stream was ended, or a message refused. */
  refused(why: Refusal): void
  /** All that the stream is to be told is sent and answered. */
  settled(stream: ServerStream): void
  readonly logger: Logger
  readonly clock: Clock
  readonly limits: StreamLimits
}

/** What `clients()` tells about one stream. */
export interface ClientStatus {
  readonly nodeId: string
  readonly userAgent: string
  readonly address: string
  readonly variant: Variant
  readonly connectedSinceMs: number
  readonly bytesSent: number
  readonly pushes: number
  /** The socket does not take more for now. */
  readonly blocked: boolean
  /** What it is answered from, as `ViewSource.scope` has it; of several the first. */
  readonly view: string
  readonly types: Readonly<Record<string, TypeStatus>>
}

const EMPTY: View = new Map()
/** What gRPC clients receive unless they are told otherwise. */
const GRPC_CLIENT_BYTES = 4 * 1024 * 1024

export class ServerStream {
  readonly #stream: ServerHttp2Stream
  readonly #writer: SlicedWriter
  readonly #variant: Variant
  readonly #gate: RequestGate
  readonly #peer: StreamPeer
  readonly #host: StreamHost
  readonly #state: AdsStream
  readonly #reader: MessageReader
  readonly #sources = new Map<string, ViewSource>()
  readonly #watches = new Map<ViewSource, () => void>()
  readonly #since: number
  #ending: Refusal = { code: GRPC.ok, message: '' }
  readonly #oversized = new Set<string>()
  #ended = false
  #blocked = false
  #scheduled: NodeJS.Immediate | undefined
  #cancelTimer: (() => void) | undefined
  #bytesSent = 0
  #pushes = 0

  /** `onlyType`: the type of a per-type method; undefined for ADS. */
  constructor(
    stream: ServerHttp2Stream,
    variant: Variant,
    onlyType: string | undefined,
    peer: StreamPeer,
    host: StreamHost,
  ) {
    this.#stream = stream
    this.#writer = new SlicedWriter(stream, stream.session?.encrypted === true)
    this.#variant = variant
    this.#gate = new RequestGate(onlyType, host.limits)
    this.#peer = peer
    this.#host = host
    this.#since = host.clock.now()
    this.#reader = new MessageReader(host.limits.maxMessageBytes)
    this.#state = new AdsStream({
      variant,
      view: (typeUrl) => this.#sources.get(typeUrl)?.current().get(typeUrl) ?? EMPTY,
      budget: host.limits.maxResponseBytes,
      ackTimeoutMs: host.limits.ackTimeoutMs,
    })
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers(trailersOf(this.#ending)))
    stream.on('data', (chunk: Buffer) => this.#onData(chunk))
    stream.on('end', () => this.end({ code: GRPC.ok, message: '' }))
    stream.on('drain', () => {
      this.#blocked = !this.#writer.resume()
      if (!this.#blocked) this.#flush()
    })
    stream.on('error', (error) =>
      host.logger.debug({ err: error, node: this.#gate.node?.id }, 'xds stream error'),
    )
    stream.on('close', () => this.#stop())
  }

  status(): ClientStatus {
    return {
      nodeId: this.#gate.node?.id ?? '',
      userAgent: this.#gate.node?.userAgentName ?? '',
      address: this.#peer.address,
      variant: this.#variant,
      connectedSinceMs: this.#since,
      bytesSent: this.#bytesSent,
      pushes: this.#pushes,
      blocked: this.#blocked,
      view: [...this.#sources.values()][0]?.scope ?? '',
      types: this.#state.status(this.#host.clock.now()),
    }
  }

  /** For who asks what each client has; undefined before its first request. */
  config(): ClientConfig | undefined {
    const node = this.#gate.node
    return node && { node, resources: () => this.#state.progress() }
  }

  /** Nothing is on its way to the client, and nothing waits to be sent. */
  get settled(): boolean {
    return this.#ended || (this.#scheduled === undefined && !this.#blocked && this.#state.settled)
  }

  /** Ends the stream with a gRPC status. */
  end(why: Refusal): void {
    if (this.#ended) return
    this.#ending = why
    this.#stop()
    if (why.code !== GRPC.ok) this.#host.refused(why)
    if (why.code !== GRPC.ok)
      this.#host.logger.info(
        { node: this.#gate.node?.id, address: this.#peer.address, ...why },
        'xds stream ended',
      )
    if (!this.#stream.destroyed) {
      this.#writer.finish()
      this.#stream.end()
    }
    closeSoon(this.#stream, this.#host.clock)
  }

  /** Asks again who may see what: for when trust or reachability changed under an open stream. */
  reauthorize(): void {
    const node = this.#gate.node
    if (node === undefined) return
    for (const [typeUrl, before] of [...this.#sources]) {
      if (this.#ended) return
      const verdict = this.#host.authorize(this.#peer, node, typeUrl)
      if (!verdict.ok) {
        this.end(verdict.error)
        return
      }
      if (verdict.value === before) continue
      this.#sources.set(typeUrl, verdict.value)
      this.#watch()
      const old = before.current().get(typeUrl) ?? EMPTY
      const now = verdict.value.current().get(typeUrl) ?? EMPTY
      this.#state.changed(typeUrl, new Set([...old.keys(), ...now.keys()]))
      this.#schedule()
    }
  }

  #onData(chunk: Buffer): void {
    if (this.#ended) return
    const messages = this.#reader.push(chunk)
    if (!messages.ok) this.end(messages.error)
    for (const message of messages.ok ? messages.value : []) {
      const { maxNames } = this.#host.limits
      const request = decodeRequest(this.#variant, message, { maxNames })
      const refusal = request.ok
        ? this.#onRequest(request.value)
        : { code: GRPC.invalidArgument, message: request.error, reason: 'malformed' }
      if (refusal === undefined) continue
      this.end(refusal)
      return
    }
  }

  #onRequest(asked: XdsRequest): Refusal | undefined {
    const nowMs = this.#host.clock.now()
    const answer = this.#gate.pass(asked, nowMs)
    if (answer.kind === 'refuse') return answer.refusal
    if (answer.kind === 'ignore') return undefined
    const { request, node } = answer
    const refusal = answer.firstOfType ? this.#admit(node, request.typeUrl) : undefined
    if (refusal !== undefined) return refusal
    this.#sources.get(request.typeUrl)?.asked?.(request.names)
    const verdict = this.#state.request(request, nowMs)
    if (verdict === 'nack') {
      const { typeUrl, responseNonce: nonce, errorDetail: detail } = request
      this.#host.logger.warn(
        { node: node.id, address: this.#peer.address, typeUrl, nonce, detail },
        'xds client refused resources',
      )
    }
    const { maxNames, maxNamesLength } = this.#host.limits
    const { names, nameLength } = this.#state.size()
    if (names > maxNames || nameLength > maxNamesLength) {
      const message = `more than ${maxNames} resource names, or names of more than ${maxNamesLength} characters, on one stream`
      return { code: GRPC.resourceExhausted, message, reason: 'too-many-names' }
    }
    this.#schedule()
    return undefined
  }

  /** May this client see the type, and which view of it? */
  #admit(node: NodeInfo, typeUrl: string): Refusal | undefined {
    const verdict = this.#host.authorize(this.#peer, node, typeUrl)
    if (!verdict.ok) return verdict.error
    if (this.#sources.size === 0) this.#state.serve(clientTraits(node, this.#variant))
    this.#sources.set(typeUrl, verdict.value)
    this.#watch()
    return undefined
  }

  /** Watches each view in use once. */
  #watch(): void {
    const used = new Set(this.#sources.values())
    for (const [source, stop] of this.#watches) {
      if (used.has(source)) continue
      stop()
      this.#watches.delete(source)
    }
    for (const source of used) {
      if (this.#watches.has(source)) continue
      this.#watches.set(
        source,
        source.watch((changes) => this.#changed(source, changes)),
      )
    }
  }

  #changed(source: ViewSource, changes: Changes): void {
    // Two types of one stream may come from different views: only a type's own view speaks for it.
    for (const [typeUrl, names] of changes)
      if (this.#sources.get(typeUrl) === source) this.#state.changed(typeUrl, names)
    this.#schedule()
  }

  /** Coalesces what happens in one turn of the event loop: an Envoy asks for endpoints one request per name. */
  #schedule(): void {
    if (this.#ended || this.#scheduled !== undefined) return
    this.#scheduled = setImmediate(() => {
      this.#scheduled = undefined
      this.#flush()
    })
  }

  #flush(): void {
    while (!this.#ended && !this.#blocked) {
      const push = this.#state.pull(this.#host.clock.now())
      if (push === undefined) break
      const source = this.#sources.get(push.typeUrl)
      if (source === undefined || this.#host.mayServe?.(this.#peer, source, push.typeUrl) === false) {
        this.#host.logger.error(
          { node: this.#gate.node?.id, typeUrl: push.typeUrl },
          'BUG: a view of somebody else',
        )
        this.end({ code: GRPC.internal, message: 'the view is not of this stream' })
        return
      }
      const frame = sharedFrame(this.#variant, push, source.identifier?.() ?? '')
      const tail = nonceTail(push.nonce)
      this.#warnOfSize(push.typeUrl, frame.length)
      this.#blocked = !this.#writer.write(frame, tail)
      this.#bytesSent += frame.length + tail.length
      this.#pushes++
    }
    this.#armTimer()
    if (this.settled) this.#host.settled(this)
  }

  /** A complete state cannot be split, and a gRPC client may have less room than it needs. */
  #warnOfSize(typeUrl: string, bytes: number): void {
    if (bytes <= GRPC_CLIENT_BYTES || this.#oversized.has(typeUrl)) return
    this.#oversized.add(typeUrl)
    this.#host.logger.warn(
      { node: this.#gate.node?.id, address: this.#peer.address, typeUrl, bytes },
      'xds response is larger than what a gRPC client takes by default',
    )
  }

  #armTimer(): void {
    if (this.#ended || this.#cancelTimer !== undefined) return
    const { clock } = this.#host
    const at = this.#state.expire(clock.now())
    if (at === undefined) return
    this.#cancelTimer = clock.after(at - clock.now(), () => {
      this.#cancelTimer = undefined
      this.#state.expire(clock.now())
      this.#flush()
    })
  }

  #stop(): void {
    this.#ended = true
    this.#host.settled(this)
    this.#cancelTimer?.()
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled)
    for (const stop of this.#watches.values()) stop()
    this.#watches.clear()
  }
}
