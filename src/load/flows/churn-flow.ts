import { Arrivals } from '../arrivals.ts'
import type { LoadConnection } from '../connection.ts'
import type { LoadError } from '../load-error.ts'
import type { ChurnFlow as ChurnPlan } from '../plan.ts'
import { Flow, type FlowContext } from './flow.ts'

/** Of the connections, those that end after one request. */
const SHORT = 0.5
/** Of the connections, those that end without a word. */
const KILLED = 0.1

interface Life {
  readonly endsMs: number
  readonly killed: boolean
  /** When it asks again. */
  nextMs: number
}

/** Connections that come at a constant rate, with lives as connections have them. */
export class ChurnFlow extends Flow {
  readonly #plan: ChurnPlan
  readonly #lives = new Map<LoadConnection, Life>()
  readonly #random: () => number
  #arrivals: Arrivals | undefined

  constructor(plan: ChurnPlan, context: FlowContext) {
    super(plan, context)
    this.#plan = plan
    // The same lives in each run.
    this.#random = randomOf(context.index + 1)
  }

  async prepare(): Promise<void> {}

  override begin(fromMs: number, untilMs: number): void {
    super.begin(fromMs, untilMs)
    this.#arrivals = new Arrivals(this.#plan.rate, fromMs, untilMs, this.#plan.offset ?? 0)
  }

  tick(nowMs: number): void {
    const arrivals = this.#arrivals
    if (arrivals === undefined) return
    while (arrivals.nextMs <= nowMs) {
      const intendedMs = arrivals.nextMs
      arrivals.take()
      this.recorder.sent(intendedMs, intendedMs, nowMs)
      const connection = this.dial()
      connection.intendedMs = intendedMs
      this.#lives.set(connection, this.#life(nowMs))
    }
    this.context.arm(arrivals.nextMs)
  }

  /** When the time is up whoever lives is ended; answers that are under way are waited for. */
  get unfinished(): boolean {
    return this.connections.size > 0
  }

  override finish(): Promise<void> {
    for (const [connection, life] of this.#lives)
      if (!connection.busy && connection.open) this.#end(connection, life)
    return super.finish()
  }

  override giveUp(nowMs: number): void {
    for (const { busy, intendedMs } of this.connections) if (busy) this.recorder.unfinished(intendedMs, nowMs)
  }

  override sweep(nowMs: number): void {
    super.sweep(nowMs)
    for (const [connection, life] of this.#lives) {
      if (connection.busy || !connection.open) continue
      if (nowMs >= life.endsMs) this.#end(connection, life)
      else if (nowMs >= life.nextMs) connection.send(this.request, nowMs, nowMs)
    }
  }

  override opened(connection: LoadConnection, nowMs: number): void {
    super.opened(connection, nowMs)
    connection.send(this.request, connection.intendedMs, nowMs)
  }

  override answered(connection: LoadConnection, nowMs: number): void {
    super.answered(connection, nowMs)
    const life = this.#lives.get(connection)
    if (life === undefined) return
    life.nextMs = nowMs + this.#plan.thinkSeconds * 1_000
    if (!this.running || nowMs >= life.endsMs || !connection.reusable) this.#end(connection, life)
  }

  override ended(connection: LoadConnection, error: LoadError | undefined, nowMs: number): void {
    this.#lives.delete(connection)
    super.ended(connection, error, nowMs)
    this.settle()
  }

  #end(connection: LoadConnection, life: Life): void {
    this.#lives.delete(connection)
    if (life.killed) connection.destroy()
    else connection.end()
  }

  #life(nowMs: number): Life {
    const long = this.#random() >= SHORT
    const lifeMs = long ? -Math.log(1 - this.#random()) * this.#plan.lifeSeconds * 1_000 : 0
    return { endsMs: nowMs + lifeMs, killed: this.#random() < KILLED, nextMs: 0 }
  }
}

/** mulberry32: numbers from 0 to 1, the same for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
