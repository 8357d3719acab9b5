import type { Clock } from '../lib/clock.ts'
import type { FailbackConfig } from '../resources/upstream-types.ts'
import type { Connection } from './connection.ts'
import type { Endpoint } from './endpoint.ts'

/** How often connections that are to move are looked at. */
const TICK_MS = 250

export interface FailbackOptions {
  readonly clock: Clock
  readonly upstream: string
  /** Endpoints that get nothing now, since a better priority takes everything. */
  readonly passedOver: () => readonly Endpoint[]
}

/** A connection that is to move, in ticks: how long it has had to, and how long it has rested. */
interface Leaving {
  ticks: number
  quietTicks: number
  moved: number
}

/**
 * Moves connections back to a better priority once that is well again. Nobody can hand a TCP connection over, so each ends in order as
 * soon as it rests (the server had the last word, and nothing came after it), where a client opens another for his next call; one that
 * never rests is cut at the deadline. An Envoy lets them stay for as long as they like.
 */
export class Failback {
  readonly #options: FailbackOptions
  readonly #watched = new Map<Connection, Endpoint>()
  readonly #leaving = new Map<Connection, Leaving>()
  #config: FailbackConfig | undefined
  #cancel: (() => void) | undefined

  constructor(options: FailbackOptions) {
    this.#options = options
  }

  configure(config: FailbackConfig | undefined): void {
    this.#config = config
    this.changed()
  }

  /** From now until it ends. */
  watch(connection: Connection, endpoint: Endpoint): void {
    if (this.#config === undefined) return
    this.#watched.set(connection, endpoint)
    connection.onEnd(() => {
      this.#watched.delete(connection)
      this.#leaving.delete(connection)
    })
  }

  /** Endpoints or their health are others now. */
  changed(): void {
    if (this.#watched.size > 0) this.#cancel ??= this.#options.clock.after(TICK_MS, () => this.#look())
  }

  close(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#config = undefined
    this.#watched.clear()
    this.#leaving.clear()
  }

  #look(): void {
    this.#cancel = undefined
    const config = this.#config
    const passedOver = new Set(config === undefined ? [] : this.#options.passedOver())
    if (config === undefined || passedOver.size === 0) {
      this.#leaving.clear()
      return
    }
    for (const [connection, endpoint] of [...this.#watched]) {
      if (passedOver.has(endpoint)) this.#judge(connection, config)
      else this.#leaving.delete(connection)
    }
    if (this.#leaving.size > 0) this.changed()
  }

  #judge(connection: Connection, { quietMs, deadlineMs }: FailbackConfig): void {
    const { state } = connection
    if (state.phase !== 'open') return
    const moved = state.pump.bytesIn + state.pump.bytesOut
    const known = this.#leaving.get(connection)
    if (known === undefined) {
      this.#leaving.set(connection, { ticks: 0, quietTicks: 0, moved })
      return
    }
    // An answer that is still owed is no rest, however long it takes.
    const rests = known.moved === moved && state.pump.upstreamSpokeLast
    known.moved = moved
    known.ticks += 1
    known.quietTicks = rests ? known.quietTicks + 1 : 0
    const better = `a better priority of ${this.#options.upstream} is well again`
    if (known.quietTicks * TICK_MS >= quietMs)
      connection.end({ flag: 'DRAIN', reason: `moved back: ${better}, and nothing was under way` }, 'close')
    else if (known.ticks * TICK_MS >= deadlineMs)
      connection.end({ flag: 'DRAIN', reason: `moved back: ${better} for ${deadlineMs} ms` }, 'reset')
  }
}
