/** What can go wrong with a connection of the load, by kind, so that it can be counted. */
export interface LoadError {
  /** `ECONNREFUSED`, `timeout`, `closed`, `identity`, `HTTP 503`, `TLS alert unrecognized_name`, … */
  readonly kind: string
  readonly message: string
}

/** Characters of a message, at most. */
const MAX_MESSAGE = 200

/** A message may quote the target, who may send what a terminal obeys, and as much of it as it likes. */
export function loadError(kind: string, message: string): LoadError {
  return { kind, message: message.slice(0, MAX_MESSAGE).replaceAll(/\p{C}/gu, '\ufffd') }
}

/** Of an error that a socket ended with. */
export function socketError(error: NodeJS.ErrnoException): LoadError {
  const text = error.message.replaceAll(/\s+/g, ' ').trim()
  const alert = alertOf(text)
  if (alert === undefined) return loadError(error.code ?? error.name, text)
  return loadError(`TLS alert ${alert}`, `the target ended the TLS handshake with the alert ${alert}`)
}

/** The alert that an error of TLS is about, in the words of RFC 8446 section 6; undefined where it is about none. */
function alertOf(text: string): string | undefined {
  // Node: "…:error:0A000458:SSL routines:ssl3_read_bytes:tlsv1 unrecognized name:…:SSL alert number 112".
  // Bun: "error:10000458:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNRECOGNIZED_NAME".
  const said =
    /:(?:tls|ssl)v\d+ (?:alert )?([a-z ]+):.*alert number/.exec(text) ??
    /:(?:TLS|SSL)V\d+_ALERT_([A-Z_]+)/.exec(text)
  return said?.[1]?.toLowerCase().replaceAll(' ', '_')
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
