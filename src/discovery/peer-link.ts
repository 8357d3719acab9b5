import type { ServerHttp2Stream } from 'node:http2'
import type { Client } from '@grpc/grpc-js'
import { parseCertificate } from '../identity/certificate.ts'
import type { Credential } from '../identity/credential.ts'
import { discoveryId } from '../identity/spiffe-id.ts'
import { discoveryTls } from '../identity/tls.ts'
import { TrustBundles } from '../identity/trust-bundle.ts'
import { Backoff } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, ok, type Problem, type Result } from '../lib/result.ts'
import { discoveryServerName } from '../model/discovery-name.ts'
import type { Decision, Peer } from '../model/types.ts'
import type { EntryConfig } from '../resources/service-entry.ts'
import type { Offerer } from '../resources/service-entry-accept.ts'
import { type ClientState, XdsClient, type XdsUpdate } from '../xds/client.ts'
import { GRPC } from '../xds/grpc.ts'
import { ReverseOffer } from '../xds/reverse-offer.ts'
import { ReverseSubscription } from '../xds/reverse-subscription.ts'
import type { ViewSource } from '../xds/snapshot-cache.ts'
import { type NodeInfo, TYPE } from '../xds/types.ts'
import { readExportsIdentifier } from './exports-identifier.ts'
import type { LossPolicy, PeerOffers, Taken } from './peer-offers.ts'
import { parsePeerBundle } from './trust.ts'

/** Ours are split at 3 MB; 4 MiB is what gRPC clients take by default. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024
/** How long a peer that sent what is refused whole is left alone, milliseconds. */
const PENALTY = { baseMs: 1_000, maxMs: 60_000 }
/** The part of its certificate's life after which the peer's server is asked for the next: renewed at half of it, it has one. */
const LOOK_AGAIN = 0.75
/** How long what the peer does not want is not offered again, milliseconds: its objects may be others by then. */
const OFFER_AGAIN_MS = 60_000

export interface PeerLinkOptions {
  readonly peer: Peer
  readonly credential: () => Credential | undefined
  readonly node: () => NodeInfo
  /** The CAs that alone speak for the peer; undefined: its trust domain says enough. */
  readonly issuers: () => readonly string[] | undefined
  /** What it offers, with what it offered before this link; in force until it is heard. */
  readonly offers: PeerOffers
  readonly policy: () => LossPolicy
  /** What we offer it, for a peer that cannot dial us. */
  readonly exports: () => ViewSource | undefined
  /** The DER of the certificate that its server answered with. */
  readonly onCertificate: (der: Uint8Array) => void
  readonly onChange: () => void
  readonly logger: Logger
  readonly clock: Clock
}

/**
 * Our end of the exchange with one peer: we dial it, subscribe to its exports, and offer it ours on the same connection; or, where we
 * have no address of it, we subscribe on the connection that it has opened to us. What it sent stays in force when it goes away.
 */
export class PeerLink {
  readonly peer: Peer
  readonly offers: PeerOffers
  readonly #options: PeerLinkOptions
  readonly #bundles: TrustBundles
  readonly #penalty: Backoff
  readonly #client: XdsClient | undefined
  #reverse: ReverseSubscription | undefined
  #offered: ReverseOffer | undefined
  #cancelOffer: () => void = () => {}
  readonly #offerBackoff = new Backoff()
  #state: ClientState
  #attempts = 0
  #heard = false
  #says: Decision | undefined
  #cancelLease: () => void = () => {}
  #cancelLook: () => void = () => {}
  #cancelPenalty: (() => void) | undefined
  #stopped = false

  static open(options: PeerLinkOptions): Result<PeerLink> {
    const parsed = parsePeerBundle(options.peer)
    return parsed.ok ? ok(new PeerLink(options, new TrustBundles([parsed.value]))) : fail(parsed.error)
  }

  private constructor(options: PeerLinkOptions, bundles: TrustBundles) {
    this.peer = options.peer
    this.offers = options.offers
    this.#options = options
    this.#bundles = bundles
    this.#penalty = new Backoff(PENALTY)
    this.#client = options.peer.adsAddress === '' ? undefined : this.#dialler()
    const sinceMs = options.clock.now()
    this.#state = this.#client?.state ?? { phase: 'waiting', sinceMs, lastError: 'it has not dialled us' }
    this.#armLease()
  }

  start(): void {
    this.#client?.start()
  }

  stop(): void {
    this.#stopped = true
    this.#cancelLease()
    this.#cancelLook()
    this.#cancelPenalty?.()
    this.#withdrawOurs()
    this.#client?.stop()
    this.#reverse?.end({ code: GRPC.unavailable, message: 'the link is closed' })
  }

  /** Opens the stream anew: with a new certificate, or because what our node says has changed. */
  reconnect(): void {
    if (this.#cancelPenalty === undefined) this.#client?.reconnect()
    this.#reverse?.end({ code: GRPC.unavailable, message: 'to be opened anew' })
  }

  /** Subscribes on a stream that the peer has opened; why not, where we dial it ourselves. The last one opened counts. */
  take(stream: ServerHttp2Stream): string | undefined {
    if (this.#client !== undefined) return `${this.#options.node().cluster} dials ${this.peer.cluster} itself`
    if (this.#cancelPenalty !== undefined) return this.offers.fault?.message ?? 'refused for now'
    this.#reverse?.end({ code: GRPC.unavailable, message: 'another stream has been opened' })
    this.#heard = false
    const reverse: ReverseSubscription = new ReverseSubscription(stream, {
      typeUrl: TYPE.serviceEntry,
      node: this.#options.node(),
      versions: this.#versions(),
      maxMessageBytes: MAX_MESSAGE_BYTES,
      onUpdate: (update) => this.#update(update),
      onEnd: (reason, garbage) => {
        if (this.#reverse !== reverse) return
        this.#reverse = undefined
        if (garbage) this.#suspend(this.offers.refuseAll('Garbage', `Garbage: ${reason}`, this.#now()))
        this.#enter({ phase: 'waiting', sinceMs: this.#now(), lastError: reason })
      },
      clock: this.#options.clock,
    })
    this.#reverse = reverse
    this.#enter({ phase: 'connected', sinceMs: this.#now(), lastError: '' })
    return undefined
  }

  /** Whether the peer opened the stream that we subscribe on. */
  get reversed(): boolean {
    return this.#client === undefined
  }

  get connected(): boolean {
    return this.#state.phase === 'connected'
  }

  /** What it offered is in force although it cannot be heard now, or does not offer it any more. */
  get stale(): boolean {
    return this.offers.size > 0 && (!(this.connected && this.#heard) || this.offers.frozen > 0)
  }

  get lastError(): string {
    return this.offers.fault?.message ?? this.#state.lastError
  }

  /** Whether the peer lets our network call; undefined before it spoke. */
  get says(): Decision | undefined {
    return this.#says
  }

  /** Entries of it that are not taken, and why. */
  get refused(): readonly Problem[] {
    return this.offers.refused
  }

  /** What is in force, by host, as our own objects place it. */
  inForce(place: Pick<Offerer, 'network' | 'locality'>): ReadonlyMap<string, EntryConfig> {
    return this.offers.inForce(place)
  }

  #dialler(): XdsClient {
    const { peer, node, logger, clock } = this.#options
    const addresses = peer.adsAddress.split(',').map((address) => address.trim())
    const target = {
      /** The next at each attempt. */
      get address(): string {
        return next()
      },
      tls: () => this.#tls(),
      serverName: discoveryServerName(peer.cluster),
    }
    const next = (): string => addresses[this.#attempts % addresses.length] ?? ''
    const client = new XdsClient({
      target,
      node,
      // Claimed with no version: the peer sends them all again, and says which of them are gone.
      initialVersions: new Map([[TYPE.serviceEntry, this.#versions()]]),
      maxMessageBytes: MAX_MESSAGE_BYTES,
      onUpdate: (_typeUrl, update) => this.#update(update),
      onState: (state) => this.#enter(state),
      onConnected: (channel) => this.#offerOurs(channel),
      onGarbage: (error) => this.#suspend(this.offers.refuseAll('Garbage', `Garbage: ${error}`, this.#now())),
      logger,
      clock,
    })
    client.subscribe(TYPE.serviceEntry, '*')
    return client
  }

  #versions(): Map<string, string> {
    return new Map(this.offers.names.map((name) => [name, '']))
  }

  /** Whether it wants them is for the peer to say: one that dials us asks for nothing here. */
  #offerOurs(channel: Client): void {
    this.#withdrawOurs()
    const source = this.#options.exports()
    if (source === undefined) return
    const { logger, clock } = this.#options
    const onEnd = (later: boolean) => {
      const delayMs = later ? this.#offerBackoff.next() : OFFER_AGAIN_MS
      this.#cancelOffer = clock.after(delayMs, () => this.#offerOurs(channel))
    }
    this.#offered = new ReverseOffer(channel, { source, typeUrl: TYPE.serviceEntry, onEnd, logger, clock })
  }

  #withdrawOurs(): void {
    this.#cancelOffer()
    this.#offered?.stop()
    this.#offered = undefined
  }

  #enter(state: ClientState): void {
    const before = this.#state
    this.#state = state
    if (state.phase === 'waiting') this.#attempts++
    if (state.phase !== 'connected') {
      this.#withdrawOurs()
      this.#heard = false
      this.offers.silent(this.#now())
      this.#armLease()
    }
    if (before.phase !== state.phase || before.lastError !== state.lastError) this.#options.onChange()
  }

  #update({ upserted, removed, identifier }: XdsUpdate): readonly Problem[] {
    const heard = readExportsIdentifier(identifier)
    const taken = this.offers.take({ upserted, removed, identifier: heard }, this.#now())
    if (taken.fault === undefined) {
      this.#heard = true
      this.#penalty.reset()
      if (heard.allowed !== undefined) this.#says = { allowed: heard.allowed, reason: heard.reason ?? '' }
    } else this.#suspend(taken)
    this.#armLease()
    this.#options.onChange()
    return taken.problems
  }

  /** Leaves a peer alone whose words cannot be used: what it said before stays in force for its lease. */
  #suspend({ problems }: Taken): void {
    const { logger, clock } = this.#options
    const delayMs = this.#penalty.next()
    logger.warn({ problems, delayMs: Math.round(delayMs) }, 'the peer is refused for now')
    // Not in the middle of the update: its refusal is to reach the peer first.
    const cancelStop = clock.after(0, () => {
      this.#client?.stop()
      this.#reverse?.end({ code: GRPC.invalidArgument, message: problems[0]?.message ?? 'refused' })
    })
    const cancelStart = clock.after(delayMs, () => {
      this.#cancelPenalty = undefined
      if (!this.#stopped) this.#client?.start()
    })
    this.#cancelPenalty?.()
    this.#cancelPenalty = () => {
      cancelStop()
      cancelStart()
    }
    this.#armLease()
  }

  #armLease(): void {
    this.#cancelLease()
    const since = this.offers.staleSinceMs
    if (since === undefined || this.#stopped) return
    const policy = this.#options.policy()
    if (policy.onPeerLoss === 'keep') return
    this.#cancelLease = this.#options.clock.after(Math.max(0, since + policy.leaseMs - this.#now()), () => {
      const expired = this.offers.expire(this.#now(), this.#options.policy())
      if (expired) this.#options.logger.warn({ cluster: this.peer.cluster }, 'the lease of exports has ended')
      if (expired) this.#options.onChange()
      this.#armLease()
    })
  }

  /** The policy may be another now. */
  policyChanged(): void {
    this.#armLease()
  }

  /** No connection outlives its server's certificate; late in its life is looked whether there is a newer one. */
  #lookAgain(der: Uint8Array): void {
    this.#cancelLook()
    const certificate = parseCertificate(der)
    if (!certificate.ok) return
    const { notBeforeMs, notAfterMs } = certificate.value
    const lateMs = notBeforeMs + LOOK_AGAIN * (notAfterMs - notBeforeMs)
    const atMs = this.#now() < lateMs ? lateMs : notAfterMs
    this.#cancelLook = this.#options.clock.after(Math.max(0, atMs - this.#now()) + 1, () => this.reconnect())
  }

  #now(): number {
    return this.#options.clock.now()
  }

  #tls() {
    const credential = this.#options.credential()
    if (credential === undefined) return undefined
    const { clock, issuers, onCertificate } = this.#options
    const tls = discoveryTls(credential, this.#bundles, clock, [discoveryId(this.peer.trustDomain)], issuers)
    return {
      ...tls,
      verifyPeer: (der: Uint8Array) => {
        const error = tls.verifyPeer(der)
        if (error === undefined) {
          onCertificate(der)
          this.#lookAgain(der)
        }
        return error
      },
    }
  }
}
