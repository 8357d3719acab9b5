import { Backoff } from '../../lib/backoff.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { type Authority, formatAuthority } from '../names/authority.ts'

export interface KeepListeningOptions {
  /** For the log and the readiness list: `dns`, `socks`, … */
  readonly name: string
  readonly at: Authority
  readonly listen: (host: string, port: number) => Promise<Authority>
  readonly logger: Logger
  readonly clock?: Clock
}

/**
 * Listens, and tries again while the address cannot be had: one taken port must not keep the other servers of a process from
 * their work. Says so once, not at each attempt.
 */
export class KeepListening {
  readonly name: string
  readonly #options: KeepListeningOptions
  readonly #backoff = new Backoff({ baseMs: 100, maxMs: 2_000 })
  #address: Authority | undefined
  #problem = 'is not listening yet'
  #cancel: (() => void) | undefined
  #stopped = false
  readonly #waiters: ((address: Authority) => void)[] = []

  constructor(options: KeepListeningOptions) {
    this.name = options.name
    this.#options = options
    void this.#try()
  }

  /** The real address once it listens. */
  get address(): Authority | undefined {
    return this.#address
  }

  /** Resolves once it listens. */
  whenListening(): Promise<Authority> {
    const address = this.#address
    return address === undefined
      ? new Promise((resolve) => this.#waiters.push(resolve))
      : Promise.resolve(address)
  }

  /** What is wrong, for the readiness list; undefined when it listens. */
  get pending(): string | undefined {
    return this.#address === undefined ? `${this.name}: ${this.#problem}` : undefined
  }

  stop(): void {
    this.#stopped = true
    this.#cancel?.()
  }

  async #try(): Promise<void> {
    const { at, listen, logger, clock = systemClock } = this.#options
    try {
      const address = await listen(at.host, at.port)
      this.#address = address
      for (const resolve of this.#waiters) resolve(address)
    } catch (error) {
      const problem = `cannot listen on ${formatAuthority(at)}: ${(error as Error).message}`
      if (problem !== this.#problem) logger.error(`${this.name} ${problem}`)
      this.#problem = problem
      if (!this.#stopped) this.#cancel = clock.after(this.#backoff.next(), () => void this.#try())
    }
  }
}
