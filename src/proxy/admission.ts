export interface AdmissionLimits {
  /** Handshakes begun and not over. */
  readonly inFlight: number
  /** Handshakes begun in one turn of the event loop: each costs it most of a millisecond, and established connections wait. */
  readonly perTurn: number
  /** Connections that may wait to begin. */
  readonly waiting: number
}

interface Ticket {
  readonly start: () => void
  readonly drop: () => void
}

/**
 * Paces TLS handshakes, so that a storm of them does not starve established connections, and bounds them. The newest goes first
 * and, where there are too many, the oldest is dropped: under overload its client has given up, or is one of those that say
 * hello and then nothing. A plain limit on handshakes in flight would let a few hundred of these lock everybody out.
 */
export class HandshakeAdmission {
  readonly #limits: AdmissionLimits
  /** Oldest first. */
  readonly #inFlight = new Set<Ticket>()
  /** Newest last. */
  readonly #waiting: Ticket[] = []
  #begunThisTurn = 0
  #scheduled = false

  constructor(limits: AdmissionLimits) {
    this.#limits = limits
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /**
   * Calls `start` now or in a later turn; `drop` when newer ones need the place. Returns what must be called when the handshake
   * is over or given up, begun or not; calling it again does nothing.
   */
  enter(start: () => void, drop: () => void): () => void {
    const ticket: Ticket = { start, drop }
    if (this.#begunThisTurn < this.#limits.perTurn && this.#waiting.length === 0) {
      this.#begin(ticket)
    } else {
      this.#waiting.push(ticket)
      if (this.#waiting.length > this.#limits.waiting) this.#waiting.shift()?.drop()
    }
    this.#schedule()
    return () => this.#leave(ticket)
  }

  #begin(ticket: Ticket): void {
    if (this.#inFlight.size >= this.#limits.inFlight) {
      const [oldest] = this.#inFlight
      if (oldest !== undefined) {
        this.#inFlight.delete(oldest)
        oldest.drop()
      }
    }
    this.#begunThisTurn += 1
    this.#inFlight.add(ticket)
    ticket.start()
  }

  #leave(ticket: Ticket): void {
    if (this.#inFlight.delete(ticket)) return
    const at = this.#waiting.indexOf(ticket)
    if (at >= 0) this.#waiting.splice(at, 1)
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#begunThisTurn = 0
      while (this.#begunThisTurn < this.#limits.perTurn) {
        const next = this.#waiting.pop()
        if (next === undefined) return
        this.#begin(next)
      }
      this.#schedule()
    })
  }
}
