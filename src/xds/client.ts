// The xDS client on grpc-js: one ADS stream, Delta or SotW, that keeps what it has when the server goes away and asks only for
// the difference when it is back.

import type { Client } from '@grpc/grpc-js'
import { connectivityState } from '@grpc/grpc-js'
import { Backoff } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { type Logger, silentLogger } from '../lib/log.ts'
import { formatProblem, type Problem, problem } from '../lib/result.ts'
import { type Call, type Keepalive, openCall, type XdsTarget } from './client-channel.ts'
import { ClientType, type Update, type Wanted } from './client-state.ts'
import { encodeRequest } from './codec-request.ts'
import { decodeResponse } from './codec-response.ts'
import { Lanes } from './lanes.ts'
import type { Variant, XdsResponse } from './messages.ts'
import { ADS_PATH, SDS_PATH } from './methods.ts'
import { byMakeOrder, isWholeState } from './type-rules.ts'
import type { NodeInfo, XdsResource } from './types.ts'

export interface XdsUpdate {
  readonly upserted: XdsResource[]
  readonly removed: string[]
  readonly systemVersion: string
  /** The server's `control_plane.identifier`. */
  readonly identifier: string
}

export interface ClientState {
  /** `waiting`: the stream was lost, the next attempt is due; what was received stays in force. */
  readonly phase: 'idle' | 'connecting' | 'connected' | 'waiting' | 'stopped'
  readonly sinceMs: number
  /** Why the last stream ended; empty while none has. */
  readonly lastError: string
}

export type InitialVersions = ReadonlyMap<string, ReadonlyMap<string, string>>

export interface XdsClientOptions {
  readonly target: XdsTarget
  node(): NodeInfo
  /** Default `delta`. */
  readonly mode?: Variant
  /** Which service is called: ADS (default), or SDS, which knows Secrets only. */
  readonly service?: 'ads' | 'sds'
  /**
   * Takes a response. Every problem it returns refuses the resource that `object` names (or, if it names none, the whole
   * response); the others are kept. It may call `subscribe`: that is told to the server before the answer. A promise holds back the
   * answer, and with it the server's next response of the type: what comes meanwhile waits, so that updates stay in order (`order`).
   */
  onUpdate(typeUrl: string, update: XdsUpdate): readonly Problem[] | Promise<readonly Problem[]>
  onState?(state: ClientState): void
  /** Updates come one after the other: those of the whole stream (default), or of each type by itself. */
  readonly order?: 'stream' | 'type'
  readonly logger?: Logger
  readonly clock?: Clock
  /** What an earlier run left, from disk: type URL → name → version. */
  readonly initialVersions?: InitialVersions
  /** HTTP/2 pings: how often, and how long a server may take to answer. Default 20 s and 5 s. */
  readonly keepalive?: Keepalive
  /** How long a connection may take to come up, milliseconds. Default 10,000. */
  readonly connectTimeoutMs?: number
  /** Largest response that is taken, bytes; a larger one ends the stream. Default 32 MiB. */
  readonly maxMessageBytes?: number
  /** Called with the channel of each stream that came up, for further streams on its connection; they end with it. */
  onConnected?(channel: Client): void
  /** Called with what the server sent that is no response, before the stream is left. */
  onGarbage?(error: string): void
  /** Pause between attempts. */
  readonly backoff?: Backoff
}

const PATHS = { ads: ADS_PATH, sds: SDS_PATH }

/** One attempt: its own channel, so that every stream is opened with the credential of the day. */
interface Attempt {
  readonly client: Client
  readonly call: Call
  readonly cancelTimeout: () => void
  nodeSent: boolean
}

export class XdsClient {
  readonly #options: XdsClientOptions
  readonly #variant: Variant
  readonly #types = new Map<string, ClientType>()
  /** What was refused last and said so, by type. */
  readonly #told = new Map<string, string>()
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #backoff: Backoff
  #state: ClientState
  #attempt: Attempt | undefined
  readonly #lanes = new Lanes()
  #cancelRetry: (() => void) | undefined

  constructor(options: XdsClientOptions) {
    this.#options = options
    this.#variant = options.mode ?? 'delta'
    this.#logger = options.logger ?? silentLogger
    this.#clock = options.clock ?? systemClock
    this.#backoff = options.backoff ?? new Backoff()
    this.#state = { phase: 'idle', sinceMs: this.#clock.now(), lastError: '' }
  }

  get state(): ClientState {
    return this.#state
  }

  /** What is in force now, by type and name: for the snapshot from which the next run starts. */
  get initialVersions(): InitialVersions {
    return new Map([...this.#types].map(([typeUrl, type]) => [typeUrl, new Map(type.versions)]))
  }

  /** Replaces what is wanted of a type; at any time, also before `start`. Only the difference is sent. */
  subscribe(typeUrl: string, names: Wanted): void {
    let type = this.#types.get(typeUrl)
    if (type === undefined) {
      const versions = this.#options.initialVersions?.get(typeUrl) ?? new Map()
      type = new ClientType(typeUrl, this.#variant, isWholeState(typeUrl), versions)
      this.#types.set(typeUrl, type)
    }
    type.want(names)
    if (this.#attempt !== undefined) this.#request(type, this.#attempt)
  }

  start(): void {
    if (this.#state.phase === 'idle' || this.#state.phase === 'stopped') this.#connect()
  }

  /** Ends the stream for good; what was received stays with its receiver. */
  stop(): void {
    this.#drop()
    this.#enter('stopped', this.#state.lastError)
  }

  /** Leaves the stream and opens a new one now, with the credential of now. */
  reconnect(): void {
    if (this.#state.phase === 'idle' || this.#state.phase === 'stopped') return
    this.#drop()
    this.#backoff.reset()
    this.#connect()
  }

  #connect(): void {
    this.#enter('connecting', this.#state.lastError)
    let opened: { client: Client; call: Call }
    try {
      const { target, service = 'ads', keepalive, maxMessageBytes } = this.#options
      opened = openCall(target, PATHS[service][this.#variant], keepalive, maxMessageBytes)
    } catch (error) {
      this.#retry((error as Error).message)
      return
    }
    const { client, call } = opened
    const timeoutMs = this.#options.connectTimeoutMs ?? 10_000
    const lost = (reason: string) => {
      if (this.#attempt === attempt) this.#retry(reason)
    }
    // Not `waitForReady`: its timer outlives the channel and keeps the process alive.
    const cancelTimeout = this.#clock.after(timeoutMs, () => {
      if (client.getChannel().getConnectivityState(false) === connectivityState.READY)
        this.#connected(attempt)
      else lost(`no connection within ${timeoutMs} ms`)
    })
    const attempt: Attempt = { client, call, cancelTimeout, nodeSent: false }
    this.#attempt = attempt
    // The response headers: a server that sends none before its first response is up all the same when the time is over.
    call.on('metadata', () => {
      if (this.#attempt === attempt) this.#connected(attempt)
    })
    call.on('data', (message: Buffer) => {
      if (this.#attempt === attempt) this.#onMessage(message, attempt)
    })
    call.on('error', (error) => lost(error.message))
    call.on('end', () => lost('the server ended the stream'))
    for (const type of [...this.#types.values()].sort((a, b) => byMakeOrder(a.typeUrl, b.typeUrl))) {
      type.opened()
      this.#request(type, attempt)
    }
  }

  #connected(attempt: Attempt): void {
    attempt.cancelTimeout()
    if (this.#state.phase !== 'connecting') return
    this.#enter('connected', '')
    if (this.#attempt === attempt) this.#options.onConnected?.(attempt.client)
  }

  #request(type: ClientType, attempt: Attempt): void {
    const request = type.request(attempt.nodeSent ? undefined : this.#options.node())
    if (request === undefined) return
    attempt.nodeSent = true
    attempt.call.write(Buffer.from(encodeRequest(this.#variant, request)))
  }

  #onMessage(message: Buffer, attempt: Attempt): void {
    this.#connected(attempt)
    const response = decodeResponse(this.#variant, message)
    if (!response.ok) {
      this.#options.onGarbage?.(response.error)
      if (this.#attempt === attempt) this.#retry(response.error)
      return
    }
    this.#backoff.reset()
    const type = this.#types.get(response.value.typeUrl)
    // Nobody asked for it; there is nothing to acknowledge.
    if (type === undefined) return
    const lane = this.#options.order === 'type' ? type.typeUrl : ''
    this.#lanes.push(lane, () => this.#take(type, response.value, attempt))
  }

  #take(type: ClientType, response: XdsResponse, attempt: Attempt): Promise<void> | undefined {
    // The server of a new stream sends again what the old one had no answer to.
    if (this.#attempt !== attempt) return undefined
    const update = type.update(response)
    const answer = (problems: readonly Problem[]) => this.#answer(type, response, attempt, update, problems)
    try {
      const judged = this.#judge(response, update)
      if (!(judged instanceof Promise)) {
        answer(judged)
        return undefined
      }
      return judged.then(answer, (error: Error) => answer(this.#failed(response.typeUrl, error)))
    } catch (error) {
      answer(this.#failed(response.typeUrl, error as Error))
      return undefined
    }
  }

  #answer(
    type: ClientType,
    response: XdsResponse,
    attempt: Attempt,
    update: Update,
    problems: readonly Problem[],
  ): void {
    type.accept(update, refusedBy(problems, update))
    // The receiver may have stopped the client, or the stream may be lost.
    if (this.#attempt !== attempt) return
    const error = problems.length === 0 ? undefined : problems.map(formatProblem).join('; ')
    this.#tell(type.typeUrl, error)
    attempt.call.write(Buffer.from(encodeRequest(this.#variant, type.answer(response, error))))
  }

  /** A server that sends the same again and again is not to fill the log with it. */
  #tell(typeUrl: string, error: string | undefined): void {
    if (error === undefined) this.#told.delete(typeUrl)
    else if (this.#told.get(typeUrl) !== error) {
      this.#told.set(typeUrl, error)
      this.#logger.warn({ typeUrl, error }, 'xds resources refused')
    }
  }

  #judge(response: XdsResponse, update: Update): readonly Problem[] | Promise<readonly Problem[]> {
    const { typeUrl, version: systemVersion, identifier } = response
    const [upserted, removed] = [[...update.upserted], [...update.removed]]
    return this.#options.onUpdate(typeUrl, { upserted, removed, systemVersion, identifier })
  }

  #failed(typeUrl: string, error: Error): readonly Problem[] {
    this.#logger.error({ err: error, typeUrl }, 'the receiver of xds resources failed')
    return [problem('', '', `the receiver failed: ${error.message}`)]
  }

  #retry(reason: string): void {
    this.#drop()
    const delayMs = this.#backoff.next()
    this.#logger.info({ reason, delayMs: Math.round(delayMs) }, 'xds stream lost')
    this.#cancelRetry = this.#clock.after(delayMs, () => this.#connect())
    this.#enter('waiting', reason)
  }

  #drop(): void {
    this.#cancelRetry?.()
    this.#cancelRetry = undefined
    const attempt = this.#attempt
    this.#attempt = undefined
    if (attempt === undefined) return
    attempt.cancelTimeout()
    attempt.call.cancel()
    attempt.client.close()
  }

  #enter(phase: ClientState['phase'], lastError: string): void {
    this.#state = { phase, sinceMs: this.#clock.now(), lastError }
    this.#options.onState?.(this.#state)
  }
}

/**
 * Which resources of an update the problems are about; one that names none of it is about all of them. Each problem is looked at
 * once, for a server may send a hundred thousand resources.
 */
function refusedBy(problems: readonly Problem[], update: Update): (name: string) => boolean {
  const names = new Set(update.upserted.map(({ name }) => name).filter((name) => name !== ''))
  const refused = new Set<string>()
  for (const { object } of problems) {
    const about = names.has(object) ? [object] : [...names].filter((name) => object.includes(name))
    if (about.length === 0) return () => true
    for (const name of about) refused.add(name)
  }
  return (name) => refused.has(name)
}
