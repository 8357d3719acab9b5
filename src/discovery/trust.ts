import { withOwnCrls } from '../identity/attach-crls.ts'
import type { Identity } from '../identity/identity.ts'
import { TrustBundle, TrustBundles } from '../identity/trust-bundle.ts'
import { fail, type Problem, problem, type Result } from '../lib/result.ts'
import type { Model, Peer } from '../model/types.ts'
import { type DomainBundle, domainBundle } from '../resources/envoy.ts'

/** The bundles in force, and what was wrong with those of peers. */
export interface Trust {
  readonly bundles: TrustBundles
  readonly problems: readonly Problem[]
}

/** Keeps the trust bundles of this cluster and its peers; a peer's bundle that no longer parses stays as it last was. */
export class TrustKeeper {
  readonly #parsed = new Map<string, { readonly peer: Peer; readonly bundle: TrustBundle }>()

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

  /** Whose CAs are trusted: of this cluster and of each peer, as they are in force. */
  clusters(self: string, own: Identity, peers: readonly Peer[]): { cluster: string; bundle: TrustBundle }[] {
    const others = peers.flatMap(({ cluster }) => {
      const bundle = this.#parsed.get(cluster)?.bundle
      return bundle === undefined ? [] : [{ cluster, bundle }]
    })
    return [{ cluster: self, bundle: own.bundle }, ...others]
  }

  /** Of each peer that shares its trust domain or a CA, the bundle that alone vouches for its gateways. */
  clusterBundles({ origins, peers }: Model): ReadonlyMap<string, DomainBundle> {
    const bundles = peers.flatMap(({ cluster }): [string, DomainBundle][] => {
      const bundle = this.#parsed.get(cluster)?.bundle
      const { issuers = [] } = origins.get(cluster) ?? {}
      return bundle === undefined || issuers.length === 0 ? [] : [[cluster, domainBundle(bundle)]]
    })
    return new Map(bundles)
  }

  #parse(peer: Peer): Problem | undefined {
    const { peer: last } = this.#parsed.get(peer.cluster) ?? {}
    const { trustDomain, bundle, crl } = peer
    if (last?.bundle === bundle && last.crl === crl && last.trustDomain === trustDomain) return undefined
    const parsed = parsePeerBundle(peer)
    if (!parsed.ok) return parsed.error
    this.#parsed.set(peer.cluster, { peer, bundle: parsed.value })
    return undefined
  }
}

/** The bundle of a peer's Secret with its CRLs. All or nothing: a list that does not count is a mistake of somebody. */
export function parsePeerBundle({ trustDomain, bundle, crl, source }: Peer): Result<TrustBundle> {
  const parsed = TrustBundle.parse(trustDomain, bundle, source)
  if (!parsed.ok) return parsed
  const revoking = withOwnCrls(parsed.value, crl)
  return revoking.ok ? revoking : fail(problem(source, 'data.crl', revoking.error))
}
