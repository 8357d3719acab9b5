import type { Identity } from '../identity/credential-files.ts'
import { TrustBundle, TrustBundles } from '../identity/trust-bundle.ts'
import type { Problem } from '../lib/result.ts'
import type { Peer } from '../model/types.ts'

/** The bundles in force, and what was wrong with those of peers. */
export interface Trust {
  readonly bundles: TrustBundles
  readonly problems: readonly Problem[]
}

/** Keeps the trust bundles of this cluster and its peers; a peer's bundle that no longer parses stays as it last was. */
export class TrustKeeper {
  readonly #parsed = new Map<
    string,
    { readonly pem: string; readonly trustDomain: string; readonly bundle: TrustBundle }
  >()

  /** Of a peer, as it is in force; undefined as long as none of it was good. */
  bundleOf(peer: Peer): TrustBundle | undefined {
    this.#parse(peer)
    return this.#parsed.get(peer.cluster)?.bundle
  }

  /** Our own bundle comes first: a peer cannot widen it. */
  collect(own: Identity, peers: readonly Peer[]): Trust {
    const problems: Problem[] = []
    const bundles = [own.bundle]
    const known = new Set(peers.map(({ cluster }) => cluster))
    for (const cluster of this.#parsed.keys()) if (!known.has(cluster)) this.#parsed.delete(cluster)
    for (const peer of peers) {
      const problem = this.#parse(peer)
      if (problem !== undefined) problems.push(problem)
      const bundle = this.#parsed.get(peer.cluster)?.bundle
      if (bundle !== undefined) bundles.push(bundle)
    }
    const all = new TrustBundles(bundles)
    return { bundles: all, problems: [...problems, ...all.problems] }
  }

  #parse({ cluster, trustDomain, bundle: pem, source }: Peer): Problem | undefined {
    const last = this.#parsed.get(cluster)
    if (last?.pem === pem && last.trustDomain === trustDomain) return undefined
    const parsed = TrustBundle.parse(trustDomain, pem, source)
    if (!parsed.ok) return parsed.error
    this.#parsed.set(cluster, { pem, trustDomain, bundle: parsed.value })
    return undefined
  }
}
