import { Arrivals } from '../arrivals.ts'
import type { LoadConnection } from '../connection.ts'
import type { LoadError } from '../load-error.ts'
import type { RequestsFlow as RequestsPlan } from '../plan.ts'
import { Flow, type FlowContext } from './flow.ts'

/** How long a connection that was lost waits for its successor: a target that is down is not hammered. Milliseconds. */
const REDIAL_MS = 100

/** Requests on connections that stay, in a closed or an open loop. */
export class RequestsFlow extends Flow {
  readonly #plan: RequestsPlan
  /** Connections with nothing under way, the one that is idle for longest first. */
  readonly #free: LoadConnection[] = []
  #arrivals: Arrivals | undefined
  #busy = 0

  constructor(plan: RequestsPlan, context: FlowContext) {
    super(plan, context)
    this.#plan = plan
  }

  prepare(): Promise<void> {
    return this.openAll(this.#plan.connections)
  }

  override begin(fromMs: number, untilMs: number): void {
    super.begin(fromMs, untilMs)
    const { rate } = this.#plan
    if (rate !== undefined) this.#arrivals = new Arrivals(rate, fromMs, untilMs, this.#plan.offset ?? 0)
    for (let missing = this.#plan.connections - this.connections.size; missing > 0; missing--) this.dial()
  }

  tick(nowMs: number): void {
    if (this.#arrivals === undefined) this.#askAll(nowMs)
    else this.#sendDue(this.#arrivals, nowMs)
  }

  /** A schedule that is behind goes on after its end. */
  get unfinished(): boolean {
    return this.#busy > 0 || this.#backlog
  }

  get #backlog(): boolean {
    return this.#arrivals !== undefined && this.#arrivals.nextMs < this.untilMs
  }

  override giveUp(nowMs: number): void {
    for (const connection of this.connections)
      if (connection.busy) this.recorder.unfinished(connection.intendedMs, nowMs)
    for (
      const arrivals = this.#arrivals;
      arrivals !== undefined && arrivals.nextMs < this.untilMs;
      arrivals.take()
    )
      this.recorder.unfinished(arrivals.nextMs, nowMs)
  }

  override opened(connection: LoadConnection, nowMs: number): void {
    super.opened(connection, nowMs)
    this.#free.push(connection)
    this.prepared(connection)
    if (nowMs >= this.fromMs) this.tick(nowMs)
  }

  override answered(connection: LoadConnection, nowMs: number): void {
    super.answered(connection, nowMs)
    this.#busy--
    if (!connection.reusable) connection.end()
    else if (this.#arrivals === undefined && nowMs < this.untilMs && this.running)
      return void this.#ask(connection, nowMs, nowMs)
    else this.#free.push(connection)
    if (this.#arrivals !== undefined) this.#sendDue(this.#arrivals, nowMs)
    this.settle()
  }

  override ended(connection: LoadConnection, error: LoadError | undefined, nowMs: number): void {
    const at = this.#free.indexOf(connection)
    if (at >= 0) this.#free.splice(at, 1)
    if (connection.busy) this.#busy--
    super.ended(connection, error, nowMs)
    this.prepared(connection)
    if (this.running || this.#backlog) setTimeout(() => this.#redial(), error === undefined ? 0 : REDIAL_MS)
    this.settle()
  }

  #redial(): void {
    if ((this.running || this.#backlog) && this.connections.size < this.#plan.connections) this.dial()
  }

  #ask(connection: LoadConnection, intendedMs: number, nowMs: number): void {
    this.#busy++
    connection.send(this.request, intendedMs, nowMs)
  }

  #askAll(nowMs: number): void {
    if (!this.running || nowMs < this.fromMs || nowMs >= this.untilMs) return
    for (const connection of this.#free.splice(0)) this.#ask(connection, nowMs, nowMs)
  }

  #sendDue(arrivals: Arrivals, nowMs: number): void {
    while (arrivals.nextMs <= nowMs && this.#free.length > 0) {
      const connection = this.#free.shift() as LoadConnection
      if (!connection.reusable) continue
      const intendedMs = arrivals.nextMs
      arrivals.take()
      this.recorder.sent(intendedMs, connection.freeMs, nowMs)
      this.#ask(connection, intendedMs, nowMs)
    }
    // With none free it is the next answer that goes on.
    if (this.#free.length > 0) this.context.arm(arrivals.nextMs)
  }
}
