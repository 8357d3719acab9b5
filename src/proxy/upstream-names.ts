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
  readonly #byAlias = new Map<string, Set<string>>()

  /** Adds an upstream, or gives it other aliases. */
  set({ name, aliases }: Named): void {
    this.delete(name)
    const all = aliases.length === 0 ? NONE : [name, ...aliases]
    this.#own.set(name, all)
    for (const alias of aliases) {
      const claimants = this.#byAlias.get(alias)
      if (claimants === undefined) this.#byAlias.set(alias, new Set([name]))
      else claimants.add(name)
    }
  }

  delete(name: string): void {
    for (const alias of this.#own.get(name) ?? NONE) {
      const claimants = this.#byAlias.get(alias)
      claimants?.delete(name)
      if (claimants?.size === 0) this.#byAlias.delete(alias)
    }
    this.#own.delete(name)
  }

  /** The upstream's own name; undefined where the server name means none. */
  find(serverName: string): string | undefined {
    if (this.#own.has(serverName)) return serverName
    const claimants = this.#byAlias.get(serverName)
    if (claimants?.size !== 1) return undefined
    const [name] = claimants
    return name
  }

  /** Every name of an upstream, its own first; empty where it has no aliases. */
  namesOf(name: string): readonly string[] {
    return this.#own.get(name) ?? NONE
  }
}

const NONE: readonly string[] = []
