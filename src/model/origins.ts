import type { CaCertificate } from '../identity/ca-certificate.ts'
import type { TrustBundle } from '../identity/trust-bundle.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { Cluster } from '../objects/types.ts'
import type { Conditions } from './conditions.ts'
import { byText } from './labels.ts'
import type { ClusterInfo, Model, Origin, SharedCa } from './types.ts'

interface Claim {
  readonly ca: CaCertificate
  /** Ids of the clusters whose bundle holds it. */
  readonly clusters: string[]
}

/**
 * How the callers of each cluster are known. A trust domain that one cluster has, with CAs that no other cluster has, is enough.
 * Where clusters share a trust domain (Istio's usual `cluster.local`) or a CA, only a CA that is a cluster's alone speaks for it; a
 * CA, by its public key, that two clusters claim speaks for neither. `bundles` are those of this cluster and its peers, by id.
 */
export function collectOrigins(
  clusters: ReadonlyMap<string, ClusterInfo>,
  bundles: ReadonlyMap<string, TrustBundle>,
): { readonly origins: ReadonlyMap<string, Origin>; readonly sharedCas: readonly SharedCa[] } {
  const claims = new Map<string, Claim>()
  for (const [cluster, { certificates }] of bundles) {
    for (const [hash, ca] of new Map(certificates.map((one) => [one.publicKeyHash, one])))
      claims.set(hash, { ca, clusters: [...(claims.get(hash)?.clusters ?? []), cluster] })
  }
  const members = Map.groupBy(clusters.values(), ({ trustDomain }) => trustDomain)
  members.delete('')
  const origins = new Map<string, Origin>()
  for (const group of members.values()) {
    // A cluster without a bundle may be under any root, but has no other cluster's intermediate.
    const known = group.every(({ id }) => bundles.has(id))
    for (const cluster of group) {
      const issuers = issuersOf(bundles.get(cluster.id), claims, group.length > 1, known)
      origins.set(cluster.id, { cluster, issuers })
    }
  }
  const sharedCas = [...claims]
    .filter(([, claim]) => claim.clusters.length > 1)
    .map(([publicKeyHash, { ca, clusters }]) => ({
      publicKeyHash,
      name: nameOf(ca),
      clusters: clusters.sort(byText),
    }))
    .sort((a, b) => byText(a.publicKeyHash, b.publicKeyHash))
  return { origins, sharedCas }
}

function issuersOf(
  bundle: TrustBundle | undefined,
  claims: ReadonlyMap<string, Claim>,
  sharesDomain: boolean,
  allKnown: boolean,
): Origin['issuers'] {
  if (bundle === undefined) return sharesDomain ? [] : undefined
  const alone = bundle.certificates.filter(
    ({ publicKeyHash }) => claims.get(publicKeyHash)?.clusters.length === 1,
  )
  if (!sharesDomain && alone.length === bundle.certificates.length) return undefined
  const own = alone.filter(({ root }) => !root || !sharesDomain || allKnown)
  return [...new Set(own.map(({ publicKeyHash }) => publicKeyHash))].sort(byText)
}

/** Which cluster a caller is of, by his trust domain and the public key of the CA that signed his certificate. */
export function originOf(
  { origins, sharedCas }: Pick<Model, 'origins' | 'sharedCas'>,
  trustDomain: string,
  issuer: string,
): Result<ClusterInfo, string> {
  const candidates = [...origins.values()].filter(({ cluster }) => cluster.trustDomain === trustDomain)
  if (candidates.length === 0) return fail(`no cluster has the trust domain ${trustDomain}`)
  const found = candidates.find(({ issuers }) => issuers === undefined || issuers.includes(issuer))
  if (found !== undefined) return ok(found.cluster)
  const shared = sharedCas.find(({ publicKeyHash }) => publicKeyHash === issuer)
  if (shared !== undefined) return fail(`its issuer is ambiguous: ${ambiguity(shared)}`)
  const names = candidates.map(({ cluster }) => cluster.id).join(', ')
  return fail(`several clusters have the trust domain ${trustDomain}, they cannot be told apart (${names})`)
}

/** `CN=root is a CA of cluster-1 and cluster-2`. */
export function ambiguity({ name, clusters }: SharedCa): string {
  return `${name} is a CA of ${clusters.join(' and ')}`
}

/** Tells each Cluster object whose callers, or some of them, are nobody's, and why. */
export function reportOrigins(
  { origins, sharedCas }: Pick<Model, 'origins' | 'sharedCas'>,
  bundles: ReadonlyMap<string, TrustBundle>,
  objects: ReadonlyMap<string, Cluster>,
  conditions: Conditions,
): void {
  for (const [id, { cluster, issuers }] of origins) {
    const object = objects.get(id)
    if (object === undefined || issuers === undefined) continue
    const bundle = bundles.get(id)
    const ambiguous = sharedCas.filter(
      ({ publicKeyHash, clusters }) =>
        clusters.includes(id) && (issuers.length === 0 || issuesLeaves(bundle, publicKeyHash)),
    )
    if (ambiguous.length > 0) {
      const message = `${ambiguous.map(ambiguity).join(', ')}; callers whom it signed cannot be told apart and are refused`
      conditions.fails(object, 'ResolvedRefs', 'AmbiguousIssuer', message)
    } else if (issuers.length === 0) {
      const names = [...origins.values()].filter((one) => one.cluster.trustDomain === cluster.trustDomain)
      const message = `spec.trustDomain: "${cluster.trustDomain}" belongs to ${names.map((one) => one.cluster.id).join(', ')}; callers from it cannot be told apart and are refused`
      conditions.fails(object, 'ResolvedRefs', 'AmbiguousTrustDomain', message)
    }
  }
}

/** Whether a CA has no other CA of the bundle below it: what is signed by one that has is an intermediate, as a rule. */
export function issuesLeaves(bundle: TrustBundle | undefined, publicKeyHash: string): boolean {
  const all = bundle?.certificates ?? []
  const own = all.filter((ca) => ca.publicKeyHash === publicKeyHash)
  return !all.some(
    (below) =>
      below.publicKeyHash !== publicKeyHash &&
      own.some(({ certificate }) => Buffer.compare(below.certificate.issuer, certificate.subject) === 0),
  )
}

function nameOf({ x509 }: CaCertificate): string {
  return x509.subject.split('\n').join(', ')
}
