// What is asked of every request before it reaches the state of the stream. Pure: time comes in as an argument.
import { GRPC, type Refusal } from './grpc.ts'
import type { XdsRequest } from './messages.ts'
import { NEVER_ANSWERED } from './type-rules.ts'
import type { NodeInfo } from './types.ts'

export interface RequestLimits {
  /** Types that one stream may ask for. */
  readonly maxTypes: number
  /** Requests that a stream may send each second for long. */
  readonly maxRequestsPerSecond: number
  /** Requests that it may send at once: an Envoy asks for the endpoints of each of its clusters in a request of its own. */
  readonly requestBurst: number
}

export type GateAnswer =
  | { readonly kind: 'refuse'; readonly refusal: Refusal }
  /** Nothing is said to it, now or later. */
  | { readonly kind: 'ignore' }
  | {
      readonly kind: 'request'
      readonly request: XdsRequest
      readonly node: NodeInfo
      /** No request of this stream named the type before: who may see it has to be asked. */
      readonly firstOfType: boolean
    }

const IGNORE: GateAnswer = { kind: 'ignore' }

export class RequestGate {
  readonly #onlyType: string | undefined
  readonly #limits: RequestLimits
  readonly #types = new Set<string>()
  #node: NodeInfo | undefined
  #tokens: number
  #refilledMs: number | undefined

  /** `onlyType`: the type of a per-type method; undefined for ADS. */
  constructor(onlyType: string | undefined, limits: RequestLimits) {
    this.#onlyType = onlyType
    this.#limits = limits
    this.#tokens = limits.requestBurst
  }

  /** Of the first request that had one: who a client is does not change on an open stream. */
  get node(): NodeInfo | undefined {
    return this.#node
  }

  pass(request: XdsRequest, nowMs: number): GateAnswer {
    const { maxTypes, maxRequestsPerSecond } = this.#limits
    if (!this.#takeToken(nowMs))
      return refuse(
        'too-many-requests',
        GRPC.resourceExhausted,
        `more than ${maxRequestsPerSecond} requests/s`,
      )
    this.#node ??= request.node
    const node = this.#node
    if (node === undefined || node.id === '')
      return refuse('no-node', GRPC.invalidArgument, 'the first request of a stream must carry node.id')
    const only = this.#onlyType
    if (only !== undefined && request.typeUrl !== '' && request.typeUrl !== only)
      return refuse('wrong-type', GRPC.invalidArgument, `type_url ${request.typeUrl} on a stream of ${only}`)
    const typeUrl = request.typeUrl === '' ? (only ?? '') : request.typeUrl
    if (typeUrl === '') return refuse('wrong-type', GRPC.invalidArgument, 'type_url is required')
    if (typeUrl === NEVER_ANSWERED) return IGNORE
    const firstOfType = !this.#types.has(typeUrl)
    if (firstOfType && this.#types.size >= maxTypes)
      return refuse('too-many-types', GRPC.resourceExhausted, `more than ${maxTypes} types on one stream`)
    this.#types.add(typeUrl)
    return { kind: 'request', request: { ...request, typeUrl }, node, firstOfType }
  }

  /** A bucket that fills at `maxRequestsPerSecond` and holds `requestBurst`. */
  #takeToken(nowMs: number): boolean {
    const { maxRequestsPerSecond, requestBurst } = this.#limits
    const passedMs = Math.max(0, nowMs - (this.#refilledMs ?? nowMs))
    this.#refilledMs = nowMs
    this.#tokens = Math.min(requestBurst, this.#tokens + (passedMs * maxRequestsPerSecond) / 1_000)
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

function refuse(reason: string, code: number, message: string): GateAnswer {
  return { kind: 'refuse', refusal: { code, message, reason } }
}
