/**
 * The names this sidecar answers for, each with the loopback addresses its listeners stand on. It holds what discovery sent
 * last; the DNS server, SOCKS5 and CONNECT all ask here first.
 */
export class NameTable {
  #names: ReadonlyMap<string, readonly string[]> = new Map()

  /** Replaces the whole table. */
  set(table: ReadonlyMap<string, readonly string[]>): void {
    this.#names = new Map([...table].map(([name, addresses]) => [normalName(name), addresses]))
  }

  /** The addresses of a name, whatever its case and with or without a trailing dot; undefined when it is not ours. */
  lookup(name: string): readonly string[] | undefined {
    return this.#names.get(normalName(name))
  }

  /** How many names it holds. */
  get size(): number {
    return this.#names.size
  }
}

function normalName(name: string): string {
  return (name.endsWith('.') ? name.slice(0, -1) : name).toLowerCase()
}
