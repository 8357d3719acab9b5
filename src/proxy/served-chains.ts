import { ok, type Problem, type Result } from '../lib/result.ts'
import type { FilterChainConfig } from '../resources/accept-types.ts'
import type { ClientHello } from './client-hello.ts'
import { FilterChainIndex } from './filter-chain-match.ts'
import { compileRbac, type Policy } from './rbac.ts'
import type { SecretStore } from './secrets.ts'
import { TlsEdge, type TlsEdgeEvents } from './tls-edge.ts'

/** A filter chain in force. */
export interface ServedChain {
  /** What connections remember of it; a chain whose mode changes is another one, although its name stays. */
  readonly key: string
  readonly config: FilterChainConfig
  /** Set where it terminates TLS. */
  readonly edge: TlsEdge | undefined
  readonly policy: Policy
}

/** The filter chains of one listener. */
export class ServedChains {
  readonly #secrets: SecretStore
  readonly #events: TlsEdgeEvents
  readonly #byKey = new Map<string, ServedChain>()
  readonly #index = new FilterChainIndex<ServedChain>()

  constructor(secrets: SecretStore, events: TlsEdgeEvents) {
    this.#secrets = secrets
    this.#events = events
  }

  /** The only one, where they are of plain TCP. */
  get first(): ServedChain | undefined {
    const [first] = this.#byKey.values()
    return first
  }

  all(): readonly ServedChain[] {
    return [...this.#byKey.values()]
  }

  has(key: string): boolean {
    return this.#byKey.has(key)
  }

  get(key: string): ServedChain | undefined {
    return this.#byKey.get(key)
  }

  /** The chain for what a client asks for; undefined when none matches. */
  find(hello: ClientHello): ServedChain | undefined {
    return this.#index.find(hello)
  }

  /** Puts these in force, or leaves what was; the keys of those that are gone. A chain that stays keeps its TLS context. */
  replace(configs: readonly FilterChainConfig[]): Result<ReadonlySet<string>, Problem> {
    const chains: ServedChain[] = []
    for (const config of configs) {
      const key = `${config.mode} ${config.name}`
      const edge = this.#edge(key, config)
      if (!edge.ok) return edge
      chains.push({ key, config, edge: edge.value, policy: compileRbac(config.rbac) })
    }
    const gone = new Set(this.#byKey.keys())
    this.#byKey.clear()
    this.#index.clear()
    for (const chain of chains) {
      gone.delete(chain.key)
      this.#byKey.set(chain.key, chain)
      this.#index.set(chain.config.match, chain)
    }
    return ok(gone)
  }

  #edge(key: string, { tls }: FilterChainConfig): Result<TlsEdge | undefined, Problem> {
    if (tls === undefined) return ok(undefined)
    const material = this.#secrets.material(tls)
    if (!material.ok) return material
    const edge = this.#byKey.get(key)?.edge ?? new TlsEdge(tls, material.value, this.#events)
    edge.configure(tls, material.value)
    return ok(edge)
  }
}
