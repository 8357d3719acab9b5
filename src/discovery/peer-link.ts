import type { Credential } from '../identity/credential.ts'
import { discoveryId } from '../identity/spiffe-id.ts'
import { discoveryTls } from '../identity/tls.ts'
import { TrustBundles } from '../identity/trust-bundle.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { ENTRY_NAMESPACE } from '../model/managed.ts'
import type { Decision, Peer } from '../model/types.ts'
import { decodeEntry, type EntryConfig } from '../resources/service-entry.ts'
import { acceptEntry, OFFERS_MAX, type Offerer } from '../resources/service-entry-accept.ts'
import { entryNames } from '../resources/service-entry-export.ts'
import { type ClientState, XdsClient, type XdsUpdate } from '../xds/client.ts'
import { type NodeInfo, TYPE, type XdsResource } from '../xds/types.ts'
import { parsePeerBundle } from './trust.ts'
import type { ExportsIdentifier } from './views.ts'

/** How many refused entries of a peer are remembered for the status. */
const REFUSED_MAX = 100

export interface PeerLinkOptions {
  readonly peer: Peer
  readonly credential: () => Credential | undefined
  readonly node: () => NodeInfo
  /** The CAs that alone speak for the peer; undefined: its trust domain says enough. */
  readonly issuers: () => readonly string[] | undefined
  /** What it offered in an earlier run; in force until it is heard. By host. */
  readonly seed: ReadonlyMap<string, EntryConfig>
  readonly onChange: () => void
  readonly logger: Logger
  readonly clock: Clock
}

/**
 * Our end of the subscription to one peer's exports. What it sent stays in force when it goes away; only what it deletes (a
 * tombstone, or the difference it tells at the reconnect) goes.
 */
export class PeerLink {
  readonly peer: Peer
  readonly #options: PeerLinkOptions
  readonly #client: XdsClient
  readonly #bundles: TrustBundles
  /** By resource name, as sent. */
  readonly #entries = new Map<string, EntryConfig>()
  /** What is refused of what it sent last, by resource name. */
  readonly #refused = new Map<string, Problem>()
  #state: ClientState
  #heard = false
  #says: Decision | undefined

  static open(options: PeerLinkOptions): Result<PeerLink> {
    const parsed = parsePeerBundle(options.peer)
    return parsed.ok ? ok(new PeerLink(options, new TrustBundles([parsed.value]))) : fail(parsed.error)
  }

  private constructor(options: PeerLinkOptions, bundles: TrustBundles) {
    this.peer = options.peer
    this.#options = options
    this.#bundles = bundles
    const names = entryNames([...options.seed.keys()])
    for (const [host, entry] of options.seed)
      this.#entries.set(`${ENTRY_NAMESPACE}/${names.get(host)}`, entry)
    // Claimed with no version: the peer sends them all again, and says which of them are gone.
    const versions = new Map([...this.#entries.keys()].map((name) => [name, '']))
    this.#client = new XdsClient({
      target: { address: options.peer.adsAddress, tls: () => this.#tls() },
      node: options.node,
      initialVersions: new Map([[TYPE.serviceEntry, versions]]),
      onUpdate: (_typeUrl, update) => this.#update(update),
      onState: (state) => {
        const changed = this.#state.phase !== state.phase
        this.#state = state
        if (changed) options.onChange()
      },
      logger: options.logger,
      clock: options.clock,
    })
    this.#state = this.#client.state
    this.#client.subscribe(TYPE.serviceEntry, '*')
  }

  start(): void {
    this.#client.start()
  }

  stop(): void {
    this.#client.stop()
  }

  /** Opens the stream anew: with a new certificate, or because what our node says has changed. */
  reconnect(): void {
    this.#client.reconnect()
  }

  get connected(): boolean {
    return this.#state.phase === 'connected'
  }

  /** What it offered is in force although it cannot be heard now. */
  get stale(): boolean {
    return this.#entries.size > 0 && !(this.connected && this.#heard)
  }

  get lastError(): string {
    return this.#state.lastError
  }

  /** Whether the peer lets our network call; undefined before it spoke. */
  get says(): Decision | undefined {
    return this.#says
  }

  /** Entries of it that are not taken, and why. */
  get refused(): readonly Problem[] {
    return [...this.#refused.values()]
  }

  /** What is in force, by host, as our own objects place it. */
  offers(place: Pick<Offerer, 'network' | 'locality'>): Map<string, EntryConfig> {
    const offers = new Map<string, EntryConfig>()
    for (const entry of this.#entries.values()) {
      const accepted = acceptEntry(entry, { ...this.peer, ...place })
      const host = accepted.ok ? accepted.value.hosts[0] : undefined
      if (accepted.ok && host !== undefined && !offers.has(host)) offers.set(host, accepted.value)
    }
    return offers
  }

  #update({ upserted, removed, identifier }: XdsUpdate): readonly Problem[] {
    const problems: Problem[] = []
    for (const name of removed) {
      this.#entries.delete(name)
      this.#refused.delete(name)
    }
    for (const resource of upserted) {
      const taken = this.#take(resource)
      if (taken.ok) this.#refused.delete(resource.name)
      else {
        this.#refuse(resource.name, taken.error)
        problems.push(problem(resource.name, taken.error.field, taken.error.message))
      }
    }
    this.#heard = true
    this.#says = readIdentifier(identifier) ?? this.#says
    this.#options.onChange()
    return problems
  }

  #take(resource: XdsResource): Result<void> {
    if (this.#entries.size >= OFFERS_MAX && !this.#entries.has(resource.name))
      return fail(problem(`peer ${this.peer.cluster}`, '', `offers more than ${OFFERS_MAX} entries`))
    const decoded = decodeEntry(resource)
    if (!decoded.ok) return decoded
    const accepted = acceptEntry(decoded.value, { ...this.peer, network: '' })
    if (!accepted.ok) return accepted
    this.#entries.set(resource.name, decoded.value)
    return ok(undefined)
  }

  #refuse(name: string, why: Problem): void {
    // Whoever sends a million bad ones gets no million lines.
    if (this.#refused.size < REFUSED_MAX || this.#refused.has(name)) this.#refused.set(name, why)
  }

  #tls() {
    const credential = this.#options.credential()
    if (credential === undefined) return undefined
    const { clock, issuers } = this.#options
    return discoveryTls(credential, this.#bundles, clock, [discoveryId(this.peer.trustDomain)], issuers)
  }
}

function readIdentifier(text: string): Decision | undefined {
  try {
    const value = JSON.parse(text) as Partial<ExportsIdentifier> | null
    if (typeof value?.allowed !== 'boolean') return undefined
    return { allowed: value.allowed, reason: String(value.reason ?? '') }
  } catch {
    // Another product, or an older version: it says nothing of this.
    return undefined
  }
}
