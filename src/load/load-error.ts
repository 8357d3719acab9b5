/** What can go wrong with a connection of the load, by kind, so that it can be counted. */
export interface LoadError {
  /** `ECONNREFUSED`, `timeout`, `closed`, `identity`, `HTTP 503`, `TLS alert 112`, … */
  readonly kind: string
  readonly message: string
}

export function loadError(kind: string, message: string): LoadError {
  return { kind, message }
}

/** Of an error that a socket ended with. */
export function socketError(error: NodeJS.ErrnoException): LoadError {
  const message = error.message.replaceAll(/\s+/g, ' ').trim().slice(0, 200)
  // Bun's BoringSSL and Node's OpenSSL name alerts differently: "… alert number 112", "TLSV1_ALERT_UNRECOGNIZED_NAME".
  const alert = /alert number (\d+)/.exec(message)?.[1]
  if (alert !== undefined) return { kind: `TLS alert ${alert}`, message }
  return { kind: error.code ?? error.name, message }
}

/** How many of each kind, with the first message of each. */
export interface ErrorCount {
  readonly kind: string
  readonly first: string
  count: number
}

export class ErrorCounts {
  readonly #kinds = new Map<string, ErrorCount>()

  add({ kind, message }: LoadError): void {
    const known = this.#kinds.get(kind)
    if (known === undefined) this.#kinds.set(kind, { kind, first: message, count: 1 })
    else known.count++
  }

  /** Those of another process. */
  addCounts(counts: readonly ErrorCount[]): this {
    for (const { kind, first, count } of counts) {
      const known = this.#kinds.get(kind)
      if (known === undefined) this.#kinds.set(kind, { kind, first, count })
      else known.count += count
    }
    return this
  }

  get total(): number {
    return this.list().reduce((sum, { count }) => sum + count, 0)
  }

  /** The most frequent first. */
  list(): ErrorCount[] {
    return [...this.#kinds.values()].map((each) => ({ ...each })).sort((a, b) => b.count - a.count)
  }
}
