import type { Clock } from '../lib/clock.ts'
import type { Connection } from './connection.ts'

/** How long one look at all connections takes, milliseconds, and in how many steps it is done, so that no step is long. */
export const ROUND_MS = 2_000
const STEPS = 20

/** Looks at all connections again and again, in the place of timers for each. */
export class Rounds {
  readonly #clock: Clock
  readonly #connections: ReadonlySet<Connection>
  readonly #look: (connection: Connection) => void
  /** Iterators of a Set survive its changes, and go on to what comes meanwhile. */
  #round: Iterator<Connection> | undefined
  #stepsLeft = 0
  #perStep = 0
  #cancel: (() => void) | undefined

  constructor(clock: Clock, connections: ReadonlySet<Connection>, look: (connection: Connection) => void) {
    this.#clock = clock
    this.#connections = connections
    this.#look = look
  }

  /** To be called when there is a connection; rests by itself when there is none. */
  wake(): void {
    this.#cancel ??= this.#clock.after(ROUND_MS / STEPS, () => this.#step())
  }

  #step(): void {
    this.#cancel = undefined
    if (this.#connections.size === 0) {
      this.#stepsLeft = 0
      return
    }
    if (this.#stepsLeft === 0) this.#begin()
    this.#stepsLeft -= 1
    for (let left = this.#perStep; left > 0 && this.#round !== undefined; left -= 1) {
      const { done, value } = this.#round.next()
      if (done === true) this.#round = undefined
      else this.#look(value)
    }
    this.wake()
  }

  /**
   * A round is for those that are there when it begins, and as long as every other. One that ended with the last connection would never end
   * while new ones come faster than it goes on, and nobody would look at the old ones again.
   */
  #begin(): void {
    this.#round = this.#connections.values()
    this.#stepsLeft = STEPS
    this.#perStep = Math.ceil(this.#connections.size / STEPS)
  }
}
