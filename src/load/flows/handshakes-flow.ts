import { Arrivals } from '../arrivals.ts'
import type { LoadConnection } from '../connection.ts'
import type { LoadError } from '../load-error.ts'
import type { HandshakesFlow as HandshakesPlan } from '../plan.ts'
import { Flow, type FlowContext } from './flow.ts'

/** How long a lane waits after a failure: a target that is down is not hammered. Milliseconds. */
const RETRY_MS = 50

/** Connections with one request each, in a closed loop of so many lanes or at a constant rate. */
export class HandshakesFlow extends Flow {
  readonly #plan: HandshakesPlan
  #arrivals: Arrivals | undefined
  /** Since when another connection may be there. */
  #freeMs = 0

  constructor(plan: HandshakesPlan, context: FlowContext) {
    super(plan, context)
    this.#plan = plan
  }

  async prepare(): Promise<void> {}

  override begin(fromMs: number, untilMs: number): void {
    super.begin(fromMs, untilMs)
    const { rate } = this.#plan
    this.#freeMs = fromMs
    if (rate !== undefined) this.#arrivals = new Arrivals(rate, fromMs, untilMs, this.#plan.offset ?? 0)
  }

  tick(nowMs: number): void {
    if (this.#arrivals !== undefined) return void this.#dialDue(this.#arrivals, nowMs)
    const inTurn = this.running && nowMs >= this.fromMs && nowMs < this.untilMs
    while (inTurn && this.connections.size < this.#plan.connections) this.#dialAt(nowMs)
  }

  get unfinished(): boolean {
    return this.connections.size > 0 || this.#backlog
  }

  get #backlog(): boolean {
    return this.#arrivals !== undefined && this.#arrivals.nextMs < this.untilMs
  }

  override giveUp(nowMs: number): void {
    for (const { intendedMs, answeredOnce } of this.connections)
      if (!answeredOnce) this.recorder.unfinished(intendedMs, nowMs)
    const arrivals = this.#arrivals
    for (; arrivals !== undefined && arrivals.nextMs < this.untilMs; arrivals.take())
      this.recorder.unfinished(arrivals.nextMs, nowMs)
  }

  override opened(connection: LoadConnection, nowMs: number): void {
    super.opened(connection, nowMs)
    // The connection is the work: what it waited for is in the latency.
    connection.send(this.request, connection.intendedMs, nowMs)
  }

  override answered(connection: LoadConnection, nowMs: number): void {
    super.answered(connection, nowMs)
    connection.end()
  }

  override ended(connection: LoadConnection, error: LoadError | undefined, nowMs: number): void {
    if (this.connections.size === this.#plan.connections) this.#freeMs = nowMs
    super.ended(connection, error, nowMs)
    if (error === undefined || this.#arrivals !== undefined) this.tick(nowMs)
    else setTimeout(() => this.tick(performance.now()), RETRY_MS)
    this.settle()
  }

  #dialDue(arrivals: Arrivals, nowMs: number): void {
    while (arrivals.nextMs <= nowMs && this.connections.size < this.#plan.connections) {
      const intendedMs = arrivals.nextMs
      arrivals.take()
      this.recorder.sent(intendedMs, this.#freeMs, nowMs)
      this.#dialAt(intendedMs)
    }
    if (this.connections.size < this.#plan.connections) this.context.arm(arrivals.nextMs)
  }

  #dialAt(intendedMs: number): void {
    this.dial().intendedMs = intendedMs
  }
}
