import type { LoadConnection } from '../connection.ts'
import { type LoadError, loadError } from '../load-error.ts'
import type { HeldFlow as HeldPlan } from '../plan.ts'
import { Flow, type FlowContext } from './flow.ts'

/** Connections that are opened before the load and are only there: idle, or stalled in one direction. */
export class HeldFlow extends Flow {
  readonly #plan: HeldPlan
  readonly #held = new Set<LoadConnection>()
  /** Uploads of which something is still taken, with how much was at the last look. */
  readonly #filling = new Map<LoadConnection, number>()
  #full: (() => void) | undefined
  #releasing = false

  constructor(plan: HeldPlan, context: FlowContext) {
    super(plan, context)
    this.#plan = plan
  }

  /** An upload is stalled once nothing more is taken of it from one look to the next. */
  async prepare(): Promise<void> {
    await this.openAll(this.#plan.connections)
    if (this.#filling.size > 0) await new Promise<void>((full) => (this.#full = full))
  }

  tick(): void {}

  get unfinished(): boolean {
    return false
  }

  override release(): Promise<void> {
    this.#releasing = true
    return super.release()
  }

  override opened(connection: LoadConnection, nowMs: number): void {
    super.opened(connection, nowMs)
    connection.send(this.request, nowMs, nowMs)
    if (this.#plan.kind !== 'stalled-upload') return
    this.#filling.set(connection, 0)
    this.prepared(connection)
  }

  override sweep(nowMs: number): void {
    super.sweep(nowMs)
    for (const [connection, before] of this.#filling) {
      const { bytesWritten } = connection
      this.#filling.set(connection, bytesWritten)
      if (bytesWritten === before) this.#hold(connection)
    }
  }

  override received(connection: LoadConnection, bytes: number, nowMs: number): void {
    super.received(connection, bytes, nowMs)
    if (this.#plan.kind !== 'stalled-download' || this.#held.has(connection)) return
    connection.stall()
    this.#hold(connection)
  }

  override answered(connection: LoadConnection, nowMs: number): void {
    super.answered(connection, nowMs)
    if (this.#plan.kind === 'idle') return void this.#hold(connection)
    const what = this.#plan.kind === 'stalled-download' ? 'a whole answer came' : 'the service took the body'
    connection.destroy(loadError('not stalled', `${what}: nothing stalls`))
  }

  override ended(connection: LoadConnection, error: LoadError | undefined, nowMs: number): void {
    const lost = this.#held.delete(connection) && error === undefined && !this.#releasing
    const why = lost ? loadError('closed', 'the target closed a connection that is held') : error
    super.ended(connection, why, nowMs)
    this.#filled(connection)
    this.prepared(connection)
  }

  #filled(connection: LoadConnection): void {
    if (this.#filling.delete(connection) && this.#filling.size === 0) this.#full?.()
  }

  #hold(connection: LoadConnection): void {
    connection.deadlineMs = Number.POSITIVE_INFINITY
    this.#held.add(connection)
    this.#filled(connection)
    this.prepared(connection)
  }
}
