// What makes a link, as objects: a Secret with the other cluster's bundle and address, a Cluster with its network and place, and for
// the time between a Secret with the hash of a token.

import { DISCOVERY_NAMESPACE } from '../identity/spiffe-id.ts'
import { TrustBundle } from '../identity/trust-bundle.ts'
import { canonicalJson } from '../lib/canonical.ts'
import { fail, ok, type Problem, type Result } from '../lib/result.ts'
import { isPeerSecret, PEER_LABEL } from '../model/clusters.ts'
import { issuesLeaves } from '../model/origins.ts'
import type { ObjectStore } from '../objects/store.ts'
import type { Manifest, Secret } from '../objects/types.ts'
import type { LinkSide } from './link-token.ts'

const TOKEN_LABEL = 'isthmus.io/link-token'
/** On a Cluster object that linking made, and unlinking may delete. */
export const LINKED_LABEL = 'isthmus.io/linked'

/** A token as the cluster that made it remembers it. */
export interface KnownToken {
  readonly id: string
  readonly hash: string
  readonly expiresMs: number
  /** '': any cluster. */
  readonly for: string
  /** The cluster that has spent it; '': none. */
  readonly usedBy: string
  readonly usedAt: string
  readonly secret: Secret
}

export function tokenManifest(token: Omit<KnownToken, 'secret'>): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: `link-token-${token.id}`,
      namespace: DISCOVERY_NAMESPACE,
      labels: { [TOKEN_LABEL]: 'true' },
    },
    stringData: {
      id: token.id,
      hash: token.hash,
      expires: new Date(token.expiresMs).toISOString(),
      ...(token.for === '' ? {} : { for: token.for }),
      ...(token.usedBy === '' ? {} : { usedBy: token.usedBy, usedAt: token.usedAt }),
    },
  }
}

/** The tokens in the store; what is broken is as if it were not there. */
export function knownTokens(secrets: readonly Secret[]): KnownToken[] {
  return secrets.flatMap((secret) => {
    const { id = '', hash = '', expires = '', usedBy = '', usedAt = '', for: whom = '' } = secret.spec.data
    const expiresMs = Date.parse(expires)
    const { labels, namespace } = secret.metadata
    // Whoever may write a Secret in another namespace must not let a cluster in.
    const ours = labels[TOKEN_LABEL] === 'true' && namespace === DISCOVERY_NAMESPACE
    const good = ours && id !== '' && !Number.isNaN(expiresMs)
    return good ? [{ id, hash, expiresMs, for: whom, usedBy, usedAt, secret }] : []
  })
}

/** Why this cluster cannot be linked with another; undefined: it can. Nobody becomes who is here already. */
export function linkConflict(
  store: Pick<ObjectStore, 'list'>,
  side: LinkSide,
  self: Pick<LinkSide, 'cluster' | 'trustDomain' | 'network' | 'bundle'>,
): string | undefined {
  if (side.cluster === self.cluster) return `${side.cluster} cannot be linked with itself`
  if (side.trustDomain === self.trustDomain)
    return `trust domain ${side.trustDomain} is that of ${self.cluster}: clusters that share one are linked by hand (docs/LINKS.md)`
  const peers = store
    .list('Secret')
    .filter(isPeerSecret)
    .map(({ spec: { data } }) => ({
      ...{
        cluster: data['cluster'] ?? '',
        trustDomain: data['trustDomain'] ?? '',
        bundle: data['bundle'] ?? '',
      },
    }))
  for (const { cluster, trustDomain, bundle } of peers) {
    if (cluster !== side.cluster && trustDomain === side.trustDomain)
      return `trust domain ${trustDomain} is that of ${cluster}`
    const same = trustDomain === side.trustDomain && sameBundle(trustDomain, bundle, side.bundle)
    if (cluster === side.cluster && !same)
      return `${cluster} is linked already, with another bundle: "isthmus unlink ${cluster}" first`
  }
  const others = peers.filter(({ cluster }) => cluster !== side.cluster)
  for (const known of [self, ...others])
    if (sharesIssuer(known, side))
      return `its bundle has a CA of ${known.cluster}, whose callers would be nobody`
  const clusters = store.list('Cluster')
  for (const { metadata, spec } of clusters)
    if (metadata.name !== side.cluster && spec.trustDomain === side.trustDomain)
      return `trust domain ${side.trustDomain} is that of ${metadata.name}`
  // An own object says on which network it is; what it says of itself must not be where it may call at once.
  if (side.network === '' || clusters.some(({ metadata }) => metadata.name === side.cluster)) return undefined
  const there = clusters.find(({ spec }) => spec.network === side.network)?.metadata.name
  const at = side.network === self.network ? self.cluster : there
  return at && `network ${side.network} is that of ${at}: apply Cluster/${side.cluster} first if it is on it`
}

type Trusted = Pick<LinkSide, 'trustDomain' | 'bundle'>

/** Whether a CA that signs the leaves of the one is in the bundle of the other too: then it tells neither. */
function sharesIssuer(one: Trusted, other: Trusted): boolean {
  const [a, b] = [one, other].map(({ trustDomain, bundle }) => TrustBundle.parse(trustDomain, bundle, ''))
  if (!a?.ok || !b?.ok) return false
  const hashes = new Set(b.value.certificates.map(({ publicKeyHash }) => publicKeyHash))
  return a.value.certificates.some(
    ({ publicKeyHash }) => hashes.has(publicKeyHash) && issuesLeaves(a.value, publicKeyHash),
  )
}

function sameBundle(trustDomain: string, a: string, b: string): boolean {
  const prints = [a, b].map((pem) => {
    const parsed = TrustBundle.parse(trustDomain, pem, '')
    return parsed.ok ? parsed.value.certificates.map(({ fingerprint }) => fingerprint).sort() : undefined
  })
  return prints[0] !== undefined && canonicalJson(prints[0]) === canonicalJson(prints[1])
}

/** The objects by which a cluster knows another; a Cluster object that is there already counts as it is. */
function linkManifests(store: Pick<ObjectStore, 'list'>, side: LinkSide): Manifest[] {
  const { cluster, trustDomain, bundle, adsAddress, network, region, zone } = side
  const known = store
    .list('Secret')
    .find((secret) => isPeerSecret(secret) && secret.spec.data['cluster'] === cluster)
  const { name = `peer-${cluster}`, namespace = DISCOVERY_NAMESPACE } = known?.metadata ?? {}
  const secret: Manifest = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace, labels: { [PEER_LABEL]: 'true' } },
    stringData: { cluster, trustDomain, bundle, ...(adsAddress === '' ? {} : { adsAddress }) },
  }
  if (store.list('Cluster').some(({ metadata }) => metadata.name === cluster)) return [secret]
  const organization = organizationOf(store)
  const place = { ...(region === '' ? {} : { region }), ...(zone === '' ? {} : { zone }) }
  return [
    {
      apiVersion: 'api.tsb.tetrate.io/v2',
      kind: 'Cluster',
      metadata: { name: cluster, organization, labels: { [LINKED_LABEL]: 'true' } },
      spec: { trustDomain, ...(network === '' ? {} : { network }), locality: place },
    },
    secret,
  ]
}

function organizationOf(store: Pick<ObjectStore, 'list'>): string {
  const [first] = [...store.list('Cluster'), ...store.list('OrganizationSetting')]
  return first?.metadata.organization ?? 'default'
}

/** Writes what links this cluster with another. All or the first problem. */
export async function writeLink(
  store: ObjectStore,
  side: LinkSide,
): Promise<Result<readonly Manifest[], Problem>> {
  const manifests = linkManifests(store, side)
  for (const manifest of manifests) {
    const applied = await store.apply(manifest)
    if (!applied.ok) return fail(applied.error)
  }
  return ok(manifests)
}
