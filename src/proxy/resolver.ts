import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'

/** All addresses of a host name, IPv4 first. */
export type Resolve = (host: string) => Promise<readonly string[]>

/** As the system does it, hosts file included. */
export const systemResolve: Resolve = async (host) => {
  const found = await lookup(host, { all: true, order: 'ipv4first' })
  return found.map(({ address }) => address)
}

interface Entry {
  addresses: readonly string[]
  cancel: (() => void) | undefined
  error: string
}

/**
 * Keeps the addresses of the host names that are watched. The last good answer stays in force while a name does not resolve:
 * a DNS server that is gone must not take an upstream down. IP addresses are their own answer.
 */
export class NameResolver {
  readonly #entries = new Map<string, Entry>()
  readonly #resolve: Resolve
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #onChange: () => void
  #refreshMs = 5_000

  constructor(options: { resolve: Resolve; clock: Clock; logger: Logger; onChange: () => void }) {
    this.#resolve = options.resolve
    this.#clock = options.clock
    this.#logger = options.logger
    this.#onChange = options.onChange
  }

  /** Says which names are needed from now on; others are forgotten. */
  watch(hosts: ReadonlySet<string>, refreshMs: number): void {
    this.#refreshMs = refreshMs
    for (const [host, entry] of this.#entries) {
      if (hosts.has(host)) continue
      entry.cancel?.()
      this.#entries.delete(host)
    }
    for (const host of hosts) {
      if (isIP(host) !== 0 || this.#entries.has(host)) continue
      const entry: Entry = { addresses: [], cancel: undefined, error: 'is not resolved yet' }
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

  close(): void {
    this.watch(new Set(), this.#refreshMs)
  }

  async #refresh(host: string, entry: Entry): Promise<void> {
    const before = entry.addresses
    try {
      const answer = await this.#resolve(host)
      if (answer.length > 0) entry.addresses = [...answer].sort()
      else entry.error = 'has no address'
    } catch (error) {
      entry.error = `does not resolve: ${error instanceof Error ? error.message : String(error)}`
      this.#logger.warn({ host, err: error, kept: entry.addresses }, 'a host name does not resolve')
    }
    if (this.#entries.get(host) !== entry) return
    entry.cancel = this.#clock.after(this.#refreshMs, () => void this.#refresh(host, entry))
    if (before.join() !== entry.addresses.join()) this.#onChange()
  }
}
