import { isIP } from 'node:net'
import { Backoff } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { DnsConfig } from '../resources/upstream-types.ts'
import type { Resolve } from './resolve.ts'

/** So many answers in a row must say that there is nothing before an upstream loses its addresses. */
const EMPTY_ANSWERS = 3
/** No name is asked for more often than this, whatever its TTL. */
const LEAST_MS = 1_000

interface Entry {
  addresses: readonly string[]
  /** When they were last confirmed; -1 = never. */
  resolvedMs: number
  empty: number
  backoff: Backoff
  cancel: (() => void) | undefined
  error: string
}

export interface NameStatus {
  readonly host: string
  readonly addresses: readonly string[]
  /** Since the answer that is in force; -1 = there was none. */
  readonly ageMs: number
  /** Why the last attempt gave nothing new; empty where it did. */
  readonly error: string
}

export interface NameResolverOptions {
  readonly resolve: Resolve
  readonly clock: Clock
  readonly logger: Logger
  readonly random: () => number
  readonly onChange: () => void
}

/**
 * Keeps the addresses of the host names that are watched. The last good answer stays in force while a name does not resolve: a DNS
 * server that is gone must not take an upstream down, nor may one wrong answer. IP addresses are their own answer.
 */
export class NameResolver {
  readonly #entries = new Map<string, Entry>()
  readonly #options: NameResolverOptions
  #config: DnsConfig | undefined

  constructor(options: NameResolverOptions) {
    this.#options = options
  }

  /** Says which names are needed from now on; others are forgotten. */
  watch(hosts: ReadonlySet<string>, config: DnsConfig): void {
    // Another family is another question.
    if (this.#config !== undefined && this.#config.family !== config.family) this.#forget(new Set())
    this.#config = config
    this.#forget(hosts)
    for (const host of hosts) {
      if (isIP(host) !== 0 || this.#entries.has(host)) continue
      const { failureBaseMs, failureMaxMs } = config
      const backoff = new Backoff({
        baseMs: failureBaseMs,
        maxMs: failureMaxMs,
        random: this.#options.random,
      })
      const entry: Entry = {
        addresses: [],
        resolvedMs: -1,
        empty: 0,
        backoff,
        cancel: undefined,
        error: 'is not resolved yet',
      }
      this.#entries.set(host, entry)
      void this.#refresh(host, entry)
    }
  }

  addresses(host: string): readonly string[] {
    return isIP(host) === 0 ? (this.#entries.get(host)?.addresses ?? []) : [host]
  }

  /** Why a name has no address; empty where it has. */
  error(host: string): string {
    const entry = this.#entries.get(host)
    return entry === undefined || entry.addresses.length > 0 ? '' : `${host} ${entry.error}`
  }

  status(): NameStatus[] {
    const now = this.#options.clock.now()
    return [...this.#entries].map(([host, { addresses, resolvedMs, error }]) => ({
      host,
      addresses,
      ageMs: resolvedMs < 0 ? -1 : now - resolvedMs,
      error,
    }))
  }

  close(): void {
    this.#forget(new Set())
  }

  #forget(except: ReadonlySet<string>): void {
    for (const [host, entry] of this.#entries) {
      if (except.has(host)) continue
      entry.cancel?.()
      this.#entries.delete(host)
    }
  }

  async #refresh(host: string, entry: Entry): Promise<void> {
    const before = entry.addresses
    const config = this.#config
    if (config === undefined) return
    const { clock, logger, resolve, onChange } = this.#options
    let delayMs: number
    try {
      const { addresses, ttlMs } = await resolve(host, config.family)
      if (addresses.length > 0) {
        entry.addresses = [...new Set(addresses)].sort()
        entry.resolvedMs = clock.now()
        entry.empty = 0
        entry.error = ''
      } else {
        entry.empty += 1
        entry.error = 'has no address'
        if (entry.empty >= EMPTY_ANSWERS) entry.addresses = []
      }
      entry.backoff.reset()
      delayMs = config.respectTtl && ttlMs ? Math.max(LEAST_MS, ttlMs) : config.refreshMs
    } catch (error) {
      entry.error = `does not resolve: ${error instanceof Error ? error.message : String(error)}`
      logger.warn({ host, err: error, kept: entry.addresses }, 'a host name does not resolve')
      delayMs = entry.backoff.next()
    }
    if (this.#entries.get(host) !== entry) return
    entry.cancel = clock.after(delayMs, () => void this.#refresh(host, entry))
    if (before.join() !== entry.addresses.join()) onChange()
  }
}
