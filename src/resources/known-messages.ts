import type { DescMessage, MessageShape } from '@bufbuild/protobuf'

/** So many for each kind of message, of so many bytes at most. Those of thousands of resources are a few. */
const MOST = 256
const LARGEST = 2_048

/** What was found out about bytes. */
export interface Known<T> {
  readonly message: T
  /** Paths that are not supported, from the message on. */
  readonly unsupported: readonly string[]
}

/**
 * Remembers what came of reading bytes: thousands of resources have the same parts, byte for byte. What is remembered is shared, so nobody may
 * change it. When it is full it begins anew.
 */
export class KnownMessages<Desc extends DescMessage> {
  readonly #known = new Map<string, Known<MessageShape<Desc>>>()

  /** `key` is the bytes, as Latin-1. `read` throws where they cannot be read; that is not remembered. */
  get(key: string, read: () => Known<MessageShape<Desc>>): Known<MessageShape<Desc>> {
    if (key.length > LARGEST) return read()
    let known = this.#known.get(key)
    if (known === undefined) {
      known = read()
      if (this.#known.size >= MOST) this.#known.clear()
      this.#known.set(key, known)
    }
    return known
  }
}
