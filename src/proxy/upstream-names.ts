/** What an upstream is called: its own name, and the aliases that lead to it as well. */
interface Named {
  readonly name: string
  readonly aliases: readonly string[]
}

/**
 * From a server name to the upstream it means, in one look. An upstream's own name counts before any alias, and an alias that two
 * upstreams claim means neither.
 */
export class UpstreamNames {
  /** Upstreams by their own name, with every name of theirs. */
  readonly #own = new Map<string, readonly string[]>()
  /** By alias, who claims it: mostly one, whom a look-up then finds without an iterator. */
  readonly #byAlias = new Map<string, string | Set<string>>()

  /** Adds an upstream, or gives it other aliases. */
  set({ name, aliases }: Named): void {
    this.delete(name)
    const all = aliases.length === 0 ? NONE : [name, ...aliases]
    this.#own.set(name, all)
    for (const alias of aliases) {
      const claimants = this.#byAlias.get(alias)
      if (claimants === undefined) this.#byAlias.set(alias, name)
      else if (typeof claimants !== 'string') claimants.add(name)
      else if (claimants !== name) this.#byAlias.set(alias, new Set([claimants, name]))
    }
  }

  delete(name: string): void {
    for (const alias of this.#own.get(name) ?? NONE) {
      const claimants = this.#byAlias.get(alias)
      if (claimants === name) this.#byAlias.delete(alias)
      if (claimants === undefined || typeof claimants === 'string') continue
      claimants.delete(name)
      const [left] = claimants
      if (claimants.size === 1 && left !== undefined) this.#byAlias.set(alias, left)
    }
    this.#own.delete(name)
  }

  /** The upstream's own name; undefined where the server name means none. Allocates nothing. */
  find(serverName: string): string | undefined {
    if (this.#own.has(serverName)) return serverName
    const claimants = this.#byAlias.get(serverName)
    return typeof claimants === 'string' ? claimants : undefined
  }

  /** The upstreams that claim a name as an alias. */
  claimants(alias: string): Iterable<string> {
    return this.#byAlias.get(alias) ?? NONE
  }

  /** Every name of an upstream, its own first; empty where it has no aliases. */
  namesOf(name: string): readonly string[] {
    return this.#own.get(name) ?? NONE
  }
}

const NONE: readonly string[] = []
