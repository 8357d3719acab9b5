import type { Socket } from 'node:net'
import type { CircuitBreaker } from './circuit-breaker.ts'
import type { ConnectFailure } from './connector.ts'
import type { Endpoint } from './endpoint.ts'
import type { PumpEnd } from './pump.ts'

export interface AttemptOwner {
  readonly breaker: CircuitBreaker
  onSuccess(endpoint: Endpoint): void
  onFailure(endpoint: Endpoint, failure: ConnectFailure): void
  /** A throw is a bug of ours, and must not keep the socket's other listeners from hearing of its end. */
  onFault(error: unknown): void
}

/** The connection that a socket is, for the listener that all sockets share. */
const HELD = Symbol('connection to an endpoint')

/** One connect that is going on, counted against its endpoint and its upstream's limits; ends one way or the other. */
export class ConnectAttempt {
  readonly owner: AttemptOwner
  readonly #endpoint: Endpoint
  readonly #retrying: boolean
  #end: PumpEnd | undefined

  constructor(owner: AttemptOwner, endpoint: Endpoint, retrying: boolean) {
    this.owner = owner
    this.#endpoint = endpoint
    this.#retrying = retrying
    endpoint.active += 1
    endpoint.cxTotal += 1
    owner.breaker.connections += 1
    owner.breaker.pending += 1
    if (retrying) owner.breaker.retries += 1
  }

  /** It is a connection from now on, and counts as long as its socket is there. */
  succeeded(end: PumpEnd): void {
    this.#settled()
    this.#end = end
    this.#endpoint.hold(end)
    ;(end.raw as Held)[HELD] = this
    end.raw.on('close', closed)
    this.owner.onSuccess(this.#endpoint)
  }

  failed(failure: ConnectFailure): void {
    this.#settled()
    this.#over()
    this.owner.onFailure(this.#endpoint, failure)
  }

  closed(): void {
    this.#over()
    if (this.#end !== undefined) this.#endpoint.release(this.#end)
  }

  #settled(): void {
    this.owner.breaker.pending -= 1
    if (this.#retrying) this.owner.breaker.retries -= 1
  }

  #over(): void {
    this.#endpoint.active -= 1
    this.owner.breaker.connections -= 1
  }
}

interface Held extends Socket {
  [HELD]?: ConnectAttempt
}

/** A socket closes once. */
function closed(this: Held): void {
  const attempt = this[HELD]
  try {
    attempt?.closed()
  } catch (error) {
    attempt?.owner.onFault(error)
  }
}
