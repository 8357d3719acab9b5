import { fail, ok, type Result } from '../lib/result.ts'

/** Views that one identity may have open at one time. All clients in clear, which are on this machine, count as one. */
export const VIEWS_PER_IDENTITY = 16

/**
 * What a client says of itself (its bind address, where its certificate lies) tells views apart, and every view costs memory and is
 * computed again at every change: nobody may make as many as he can think of.
 */
export class ViewQuota {
  readonly #max: number
  readonly #open = new Map<string, Set<string>>()

  constructor(max: number = VIEWS_PER_IDENTITY) {
    this.#max = max
  }

  /** `inUse` tells whether somebody watches a view: those of clients that have gone do not count. */
  admit(identity: string, view: string, inUse: (view: string) => boolean): Result<void, string> {
    const open = this.#open.get(identity) ?? new Set<string>()
    if (open.has(view)) return ok(undefined)
    if (open.size >= this.#max) for (const one of open) if (!inUse(one)) open.delete(one)
    if (open.size >= this.#max) {
      return fail(
        `${identity} has ${open.size} different views open already: node.metadata and node.user_agent_name tell views apart, an identity gets ${this.#max}`,
      )
    }
    if (open.size === 0) this.#sweep(inUse)
    this.#open.set(identity, open.add(view))
    return ok(undefined)
  }

  get identities(): number {
    return this.#open.size
  }

  /** Identities whose clients have all gone are forgotten, looked for each time that their number has doubled. */
  #sweep(inUse: (view: string) => boolean): void {
    if (this.#open.size < this.#sweepAt) return
    for (const [identity, views] of this.#open) if (![...views].some(inUse)) this.#open.delete(identity)
    this.#sweepAt = Math.max(64, this.#open.size * 2)
  }

  #sweepAt = 64
}
