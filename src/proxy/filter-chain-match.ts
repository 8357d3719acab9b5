import type { FilterChainMatch } from '../resources/accept-types.ts'
import type { ClientHello } from './client-hello.ts'

/** Stands for "asks for nothing" at each level. */
const ANY = ''

type ByProtocol<T> = Map<string, T>
type ByTransport<T> = Map<string, ByProtocol<T>>

/**
 * Which filter chain serves a TLS connection: by server name, then transport protocol, then application protocol, each time what
 * names the value before what asks for nothing. As in Envoy the first level that matches decides: a chain that asks for less is
 * not tried when a deeper level of the more specific one fits nothing.
 */
export class FilterChainIndex<T> {
  readonly #byServerName = new Map<string, ByTransport<T>>()

  set(match: FilterChainMatch, chain: T): void {
    const { serverNames, transportProtocol, applicationProtocols } = match
    for (const name of serverNames.length === 0 ? [ANY] : serverNames) {
      const byTransport: ByTransport<T> = this.#byServerName.get(name) ?? new Map()
      const byProtocol: ByProtocol<T> = byTransport.get(transportProtocol) ?? new Map()
      this.#byServerName.set(name, byTransport.set(transportProtocol, byProtocol))
      for (const protocol of applicationProtocols.length === 0 ? [ANY] : applicationProtocols)
        byProtocol.set(protocol, chain)
    }
  }

  clear(): void {
    this.#byServerName.clear()
  }

  /** Of several application protocols that are asked for, the first in the client's order. Allocates nothing. */
  find(hello: Pick<ClientHello, 'sni' | 'alpn'>): T | undefined {
    const byTransport = this.#byServerName.get(hello.sni ?? '') ?? this.#byServerName.get(ANY)
    const byProtocol = byTransport?.get('tls') ?? byTransport?.get(ANY)
    if (byProtocol === undefined) return undefined
    for (const name of hello.alpn) {
      const chain = name === ANY ? undefined : byProtocol.get(name)
      if (chain !== undefined) return chain
    }
    return byProtocol.get(ANY)
  }
}
