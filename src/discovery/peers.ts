import type { ServerHttp2Stream } from 'node:http2'
import type { Credential } from '../identity/credential.ts'
import { DISCOVERY_ACCOUNT, DISCOVERY_NAMESPACE } from '../identity/spiffe-id.ts'
import { canonicalJson } from '../lib/canonical.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { formatProblem, type Problem } from '../lib/result.ts'
import { VERSION } from '../lib/version.ts'
import { disagreement } from '../model/export-of.ts'
import { ENTRY_NAMESPACE } from '../model/managed.ts'
import type { Decision, Model, Peer } from '../model/types.ts'
import type { EntryConfig } from '../resources/service-entry.ts'
import type { Offerer } from '../resources/service-entry-accept.ts'
import { entryNames } from '../resources/service-entry-export.ts'
import { mergeOffers, type Offers, offersOf, staleSinceOf } from '../resources/service-entry-merge.ts'
import type { ViewSource } from '../xds/snapshot-cache.ts'
import type { NodeInfo } from '../xds/types.ts'
import { PeerLink } from './peer-link.ts'
import { type LossPolicy, PeerOffers } from './peer-offers.ts'

/** Node metadata in which a peer tells the other what its own copy of the objects says. */
export const REACHABLE_CLAIM = 'ISTHMUS_REACHABLE'
export const REASON_CLAIM = 'ISTHMUS_REACHABLE_REASON'
/** And its release. */
const VERSION_CLAIM = 'ISTHMUS_VERSION'
/** How long a peer is away before its entries are marked in the store, milliseconds: most are back at once. */
const MARK_AFTER_MS = 10_000

export interface PeersOptions {
  readonly cluster: string
  readonly credential: () => Credential | undefined
  /** Entries that earlier runs wrote, in the store. */
  readonly written: () => readonly EntryConfig[]
  /** What becomes of a peer's exports when it is gone. */
  readonly policy: (cluster: string) => LossPolicy
  /** What that cluster may have of ours. */
  readonly exports: (cluster: string) => ViewSource | undefined
  /** The certificate that a peer's server answered with, DER. */
  readonly onCertificate: (cluster: string, der: Uint8Array) => void
  readonly onChange: () => void
  readonly logger: Logger
  readonly clock: Clock
}

/** One peer in `/status`. */
export interface PeerStatus {
  readonly cluster: string
  readonly trustDomain: string
  readonly adsAddress: string
  readonly connected: boolean
  /** How many hosts it offers us. */
  readonly entries: number
  /** Whether it is heard on a connection that it has opened. */
  readonly reversed: boolean
  /** Offers are in force although it cannot be heard, or does not offer them any more. */
  readonly stale: boolean
  /** RFC 3339; empty where nothing is stale. */
  readonly staleSince: string
  /** Offers that are kept because most of them went missing at once. */
  readonly frozen: number
  /** Counts the peer's changes since it began. */
  readonly generation: number
  /** May we call it? Both copies must say so. */
  readonly allowed: boolean
  readonly reason: string
  readonly error: string
}

/** The subscriptions to all peers, and what follows from them: the ServiceEntries this cluster should have. */
export class Peers {
  readonly #options: PeersOptions
  readonly #links = new Map<string, PeerLink>()
  readonly #problems = new Map<string, Problem>()
  /** What each link's node said when it was opened, to notice when that changes. */
  readonly #told = new Map<string, string>()
  #model: Model | undefined
  #cancelMark: () => void = () => {}

  constructor(options: PeersOptions) {
    this.#options = options
  }

  /** Opens, replaces and closes links as the model's peers say. */
  sync(model: Model): void {
    this.#model = model
    const wanted = new Map(model.peers.map((peer) => [peer.cluster, peer]))
    for (const [cluster, link] of this.#links) {
      if (wanted.has(cluster)) continue
      link.stop()
      this.#links.delete(cluster)
    }
    this.#problems.clear()
    for (const [cluster, peer] of wanted) {
      // All that the node says, not the verdict alone: the peer compares networks too.
      const says = canonicalJson(this.#node(peer.cluster).metadata)
      const link = this.#links.get(cluster)
      if (link === undefined || !samePeer(peer, link.peer)) this.#open(peer, link)
      else if (this.#told.get(cluster) !== says) link.reconnect()
      this.#told.set(cluster, says)
      this.#links.get(cluster)?.policyChanged()
    }
  }

  /** All streams anew, with the credential of now. */
  reconnect(): void {
    for (const link of this.#links.values()) link.reconnect()
  }

  stop(): void {
    this.#cancelMark()
    for (const link of this.#links.values()) link.stop()
    this.#links.clear()
  }

  /** What this cluster should import: the offers of every peer that our own copy of the objects lets us call. */
  desiredEntries(): EntryConfig[] {
    const stale = new Map<string, string>()
    for (const [cluster, link] of this.#links) {
      const since = this.#markedSince(link)
      if (since !== undefined) stale.set(cluster, since)
    }
    return mergeOffers(this.offers(), stale)
  }

  /** The same, by cluster and host. */
  offers(): Offers {
    const offers = new Map<string, ReadonlyMap<string, EntryConfig>>()
    for (const [cluster, link] of this.#links) {
      if (!this.#ownDecision(cluster).allowed) continue
      offers.set(cluster, link.inForce(this.#place(cluster)))
    }
    return offers
  }

  /** A stream that a peer has opened to offer its exports on; why it is not taken. */
  take(cluster: string, stream: ServerHttp2Stream): string | undefined {
    const link = this.#links.get(cluster)
    return link === undefined ? `cluster ${cluster} is no peer of this one` : link.take(stream)
  }

  /** Of each peer, for conditions and metrics. */
  links(): ReadonlyMap<string, PeerLink> {
    return this.#links
  }

  problems(): readonly Problem[] {
    return [...this.#problems.values(), ...[...this.#links.values()].flatMap(({ refused }) => refused)]
  }

  /** What is refused of the offers of each peer that we subscribe to: cluster → entries' problems. */
  refused(): ReadonlyMap<string, readonly Problem[]> {
    return new Map([...this.#links].map(([cluster, { refused }]) => [cluster, refused]))
  }

  /** Where a peer's copy of the objects and ours say different things about us calling it: cluster → one sentence. */
  disagreements(): ReadonlyMap<string, string> {
    const found = new Map<string, string>()
    for (const [cluster, link] of this.#links) {
      const text = disagreement(this.#ownDecision(cluster), link.says)
      if (text !== undefined) found.set(cluster, text)
    }
    return found
  }

  status(): PeerStatus[] {
    return (this.#model?.peers ?? []).map((peer) => {
      const { cluster, trustDomain, adsAddress } = peer
      const link = this.#links.get(cluster)
      const own = this.#ownDecision(cluster)
      const decision = own.allowed && link?.says !== undefined ? link.says : own
      const broken = this.#problems.get(cluster)
      return {
        cluster,
        trustDomain,
        adsAddress,
        connected: link?.connected ?? false,
        entries: link?.inForce(this.#place(cluster)).size ?? 0,
        reversed: link?.reversed ?? false,
        stale: link?.stale ?? false,
        staleSince: isoOf(link?.offers.staleSinceMs),
        frozen: link?.offers.frozen ?? 0,
        generation: link?.offers.generation ?? 0,
        ...decision,
        error:
          broken === undefined ? (link?.connected === false ? link.lastError : '') : formatProblem(broken),
      }
    })
  }

  /** A peer that cannot be opened as it is now (a broken bundle) stays as it was. */
  #open(peer: Peer, before: PeerLink | undefined): void {
    const { cluster } = peer
    const { written, clock } = this.#options
    const offers = before?.offers ?? this.#remembered(peer, written(), clock.now())
    const opened = PeerLink.open({
      peer,
      offers,
      policy: () => this.#options.policy(cluster),
      exports: () => this.#options.exports(cluster),
      onCertificate: (der) => this.#options.onCertificate(cluster, der),
      credential: this.#options.credential,
      node: () => this.#node(peer.cluster),
      issuers: () => this.#model?.origins.get(peer.cluster)?.issuers,
      onChange: this.#options.onChange,
      logger: this.#options.logger.child({ peer: peer.cluster }),
      clock: this.#options.clock,
    })
    if (!opened.ok) {
      this.#problems.set(peer.cluster, opened.error)
      return
    }
    before?.stop()
    offers.belongTo(peer)
    this.#links.set(peer.cluster, opened.value)
    opened.value.start()
  }

  /** What an earlier run wrote of a peer's offers, as old as it was marked. */
  #remembered(peer: Peer, written: readonly EntryConfig[], nowMs: number): PeerOffers {
    const seed = offersOf(written, peer)
    const names = entryNames([...seed.keys()])
    const byName = new Map([...seed].map(([host, entry]) => [`${ENTRY_NAMESPACE}/${names.get(host)}`, entry]))
    const since = staleSinceOf(written, peer.cluster) ?? nowMs
    return new PeerOffers(peer, this.#options.cluster, byName, Math.min(since, nowMs))
  }

  /** Marks what has been stale for a while; looked at again when that is over. */
  #markedSince(link: PeerLink): string | undefined {
    const since = link.offers.staleSinceMs
    if (since === undefined) return undefined
    const { clock, onChange } = this.#options
    const leftMs = since + MARK_AFTER_MS - clock.now()
    if (leftMs <= 0) return isoOf(since)
    this.#cancelMark()
    this.#cancelMark = clock.after(leftMs, onChange)
    return undefined
  }

  /** May we call that cluster, says our own copy of the objects. */
  #ownDecision(cluster: string): Decision {
    const model = this.#model
    const info = model?.clusters.get(cluster)
    if (model === undefined || info === undefined)
      return { allowed: false, reason: `cluster ${cluster} is not known` }
    return model.mayCall(model.self, info)
  }

  /** Where our own objects say that a cluster is. */
  #place(cluster: string): Pick<Offerer, 'network' | 'locality'> {
    const info = this.#model?.clusters.get(cluster)
    return info === undefined ? { network: '' } : { network: info.network, locality: info.locality }
  }

  #node(peer: string): NodeInfo {
    const { allowed, reason } = this.#ownDecision(peer)
    return {
      id: `discovery~~${DISCOVERY_ACCOUNT}.${DISCOVERY_NAMESPACE}~${DISCOVERY_NAMESPACE}.svc.cluster.local`,
      cluster: this.#options.cluster,
      metadata: {
        CLUSTER_ID: this.#options.cluster,
        NETWORK: this.#model?.self.network ?? '',
        [REACHABLE_CLAIM]: String(allowed),
        [REASON_CLAIM]: reason,
        [VERSION_CLAIM]: VERSION,
      },
      locality: this.#model?.self.locality ?? { region: '', zone: '' },
      userAgentName: 'isthmus',
    }
  }
}

const isoOf = (ms: number | undefined): string => (ms === undefined ? '' : new Date(ms).toISOString())

function samePeer(a: Peer, b: Peer): boolean {
  return (
    a.adsAddress === b.adsAddress &&
    a.trustDomain === b.trustDomain &&
    a.bundle === b.bundle &&
    a.crl === b.crl
  )
}
