import { type ConnectionOwner, LoadConnection } from '../connection.ts'
import type { Dialer } from '../dialer.ts'
import type { FlowRecorder } from '../flow-recorder.ts'
import { type LoadError, loadError } from '../load-error.ts'
import type { FlowPlan } from '../plan.ts'
import { type RequestBytes, requestBytes } from '../request-bytes.ts'

/** Connections that are opened at one time before the load begins: none may wait so long that a handshake deadline cuts it. */
const OPENERS = 16

export interface FlowContext {
  readonly dialer: Dialer
  readonly recorder: FlowRecorder
  readonly timeoutMs: number
  /** Of all processes of the load, which this is. */
  readonly index: number
  /** Says that `tick` has something to do at this moment of `performance.now()`. */
  arm(ms: number): void
}

/** What all kinds of flow share: the connections, their counters, their deadlines. Times are of `performance.now()`, milliseconds. */
export abstract class Flow implements ConnectionOwner {
  readonly recorder: FlowRecorder
  protected readonly context: FlowContext
  protected readonly request: RequestBytes
  protected readonly connections = new Set<LoadConnection>()
  /** From `begin` to `finish`. */
  protected running = false
  protected fromMs = Number.POSITIVE_INFINITY
  protected untilMs = Number.POSITIVE_INFINITY
  /** Of `openAll`. */
  readonly #waiting = new Map<LoadConnection, () => void>()
  #idle: (() => void) | undefined

  constructor(plan: FlowPlan, context: FlowContext) {
    this.context = context
    this.recorder = context.recorder
    this.request = requestBytes(plan.request)
  }

  /** Opens the connections that are there from the begin; resolves when each is there, or has failed. */
  abstract prepare(): Promise<void>

  /** The load begins: this flow has its turn from `fromMs` until `untilMs`. */
  begin(fromMs: number, untilMs: number): void {
    this.fromMs = fromMs
    this.untilMs = untilMs
    this.running = true
  }

  /** Whatever is due by now. */
  abstract tick(nowMs: number): void

  /** Whether something that the load began is under way. */
  abstract get unfinished(): boolean

  /** The time is up: nothing new begins. Resolves when nothing is under way. */
  finish(): Promise<void> {
    this.running = false
    return new Promise((resolve) => {
      this.#idle = resolve
      this.settle()
    })
  }

  /** What is under way now will not be waited for. */
  giveUp(_nowMs: number): void {}

  /** Cuts what waited for too long. */
  sweep(nowMs: number): void {
    for (const connection of this.connections) {
      if (nowMs <= connection.deadlineMs) continue
      connection.destroy(
        loadError(
          'timeout',
          `no ${connection.open ? 'answer' : 'connection'} within ${this.context.timeoutMs} ms`,
        ),
      )
    }
  }

  /** Ends all connections; resolves when they are closed. */
  async release(): Promise<void> {
    this.running = false
    for (const connection of this.connections) connection.destroy()
    while (this.connections.size > 0) await new Promise((later) => setTimeout(later, 5))
  }

  opened(connection: LoadConnection, nowMs: number): void {
    connection.deadlineMs = Number.POSITIVE_INFINITY
    this.recorder.connected(connection.dialledMs, nowMs)
  }

  received(_connection: LoadConnection, bytes: number, nowMs: number): void {
    this.recorder.received(bytes, nowMs)
  }

  answered(connection: LoadConnection, nowMs: number): void {
    connection.deadlineMs = Number.POSITIVE_INFINITY
    const { status } = connection
    if (status >= 400)
      this.recorder.failed(loadError(`HTTP ${status}`, `the service answered ${status}`), nowMs)
    else this.recorder.answered(connection.intendedMs, nowMs, this.request.bodyBytes)
  }

  ended(connection: LoadConnection, error: LoadError | undefined, nowMs: number): void {
    this.connections.delete(connection)
    if (error !== undefined) this.recorder.failed(error, nowMs)
  }

  protected dial(): LoadConnection {
    const connection = new LoadConnection(this, this.context.dialer, this.context.timeoutMs)
    this.connections.add(connection)
    return connection
  }

  /** Dials so many, a few at one time; each must be reported by `prepared` once it is there or has failed. */
  protected async openAll(count: number): Promise<void> {
    let left = count
    const opener = async () => {
      while (left-- > 0) {
        const { promise, resolve } = Promise.withResolvers<void>()
        this.#waiting.set(this.dial(), resolve)
        await promise
      }
    }
    await Promise.all(Array.from({ length: OPENERS }, opener))
  }

  protected prepared(connection: LoadConnection): void {
    this.#waiting.get(connection)?.()
    this.#waiting.delete(connection)
  }

  /** Ends `finish` where nothing is under way. */
  protected settle(): void {
    if (this.#idle === undefined || this.unfinished) return
    this.#idle()
    this.#idle = undefined
  }
}
