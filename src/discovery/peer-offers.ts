import { ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { Peer } from '../model/types.ts'
import { decodeEntry, type EntryConfig } from '../resources/service-entry.ts'
import { acceptEntry, OFFERS_MAX, type Offerer } from '../resources/service-entry-accept.ts'
import type { XdsResource } from '../xds/types.ts'
import type { HeardIdentifier } from './exports-identifier.ts'
import { versionSkew } from './version-skew.ts'

/** How many refused entries of a peer are remembered, and named in one NACK. */
const REFUSED_MAX = 100

/** Of all that one peer offers, as it came: what is kept of it is ten times as much. */
const OFFERS_BYTES_MAX = 32 * 1024 * 1024

/** What becomes of the exports of a peer that is gone, or that lost them. */
export interface LossPolicy {
  readonly onPeerLoss: 'keep' | 'withdraw'
  /** How long they stay in force without a word of it, milliseconds. */
  readonly leaseMs: number
}

export interface OffersUpdate {
  readonly upserted: readonly XdsResource[]
  readonly removed: readonly string[]
  readonly identifier: HeardIdentifier
}

/** What was made of an update. */
export interface Taken {
  readonly problems: readonly Problem[]
  /** Named where the whole of it is refused and the peer is not to be asked again at once. */
  readonly fault?: PeerFault
}

/** Why a peer is not listened to: the label of a metric, the reason of a condition. */
export type PeerFault = 'OverLimit' | 'VersionSkew' | 'Garbage'

interface Offer {
  readonly entry: EntryConfig
  /** As it came; 0: from an earlier run. */
  readonly bytes: number
  /** When it went missing without a word; it stays in force until its lease ends. */
  readonly lostAtMs: number | undefined
}

/**
 * What one peer offers, and what of it is in force; time is told, not asked for. A name that the peer says is gone is a tombstone
 * where it saw it go (on a stream whose epoch we know) or says that it may not be called, with a store that it calls whole: it goes at once. What is merely
 * missing (the peer began anew, or its store came back empty) goes as well, unless it is most of what there was: that is
 * kept as it is, frozen, and ends with its lease.
 */
export class PeerOffers {
  #peer: Peer
  readonly #self: string
  readonly #offers = new Map<string, Offer>()
  readonly #refused = new Map<string, Problem>()
  /** The peer cannot be heard since; undefined while it can. */
  #silentSinceMs: number | undefined
  /** The epoch whose exports we have had all of. */
  #epoch: string | undefined
  #generation = 0
  /** While an epoch is new: how many there were, and how many of them went missing. */
  #catchingUp: { readonly epoch: string; readonly before: number; missing: number } | undefined
  #fault: { readonly fault: PeerFault; readonly message: string } | undefined
  #refusals = new Map<string, number>()
  #accepted: { readonly place: string; readonly byHost: ReadonlyMap<string, EntryConfig> } | undefined

  /** `seed`: by name, what an earlier run has left, silent since then. */
  constructor(peer: Peer, self: string, seed: ReadonlyMap<string, EntryConfig>, silentSinceMs: number) {
    this.#peer = peer
    this.#self = self
    this.#silentSinceMs = silentSinceMs
    for (const [name, entry] of seed) this.#offers.set(name, { entry, bytes: 0, lostAtMs: undefined })
  }

  /** The peer's object is another now; what no longer fits it is not in force. */
  belongTo(peer: Peer): void {
    this.#peer = peer
    this.#accepted = undefined
  }

  get names(): readonly string[] {
    return [...this.#offers.keys()]
  }

  get size(): number {
    return this.#offers.size
  }

  get generation(): number {
    return this.#generation
  }

  /** How many are kept although the peer does not offer them any more. */
  get frozen(): number {
    return [...this.#offers.values()].filter(({ lostAtMs }) => lostAtMs !== undefined).length
  }

  /** Since when the first of them is in force without the peer's word, milliseconds; undefined: none. */
  get staleSinceMs(): number | undefined {
    if (this.#offers.size === 0) return undefined
    const lost = [...this.#offers.values()].flatMap(({ lostAtMs }) => lostAtMs ?? [])
    const since = Math.min(this.#silentSinceMs ?? Number.POSITIVE_INFINITY, ...lost)
    return Number.isFinite(since) ? since : undefined
  }

  /** Why the last update was refused whole. */
  get fault(): { readonly fault: PeerFault; readonly message: string } | undefined {
    return this.#fault
  }

  /** Entries that are not taken, and why. */
  get refused(): readonly Problem[] {
    return [...this.#refused.values()]
  }

  /** How often something was refused, by reason. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#refusals
  }

  /** The stream is gone; what is in force ages from now on. */
  silent(nowMs: number): void {
    this.#silentSinceMs ??= nowMs
  }

  /** What the peer sent is refused as a whole: what is in force stays so. */
  refuseAll(fault: PeerFault, message: string, nowMs: number): Taken {
    this.#fault = { fault, message }
    this.#count(fault)
    this.silent(nowMs)
    return { problems: [problem(`peer ${this.#peer.cluster}`, '', message)], fault }
  }

  take({ upserted, removed, identifier }: OffersUpdate, nowMs: number): Taken {
    const skew = versionSkew(identifier.version)
    if (skew !== undefined) return this.refuseAll('VersionSkew', skew, nowMs)
    // Counted before anything is decoded: who sends a million gets one answer.
    const limit = this.#overLimit(upserted)
    if (limit !== undefined) return this.refuseAll('OverLimit', `OverLimit: offers more than ${limit}`, nowMs)
    this.#fault = undefined
    this.#silentSinceMs = undefined
    this.#accepted = undefined
    this.#remove(removed, identifier, nowMs)
    const problems: Problem[] = []
    for (const resource of upserted) {
      const taken = this.#takeOne(resource)
      if (taken.ok) this.#refused.delete(resource.name)
      else {
        this.#refuse(resource.name, taken.error)
        if (problems.length < REFUSED_MAX)
          problems.push(problem(resource.name, taken.error.field, taken.error.message))
      }
    }
    this.#caughtUp(identifier)
    return { problems }
  }

  /** Ends what has outlived its lease. Whether anything went. */
  expire(nowMs: number, { onPeerLoss, leaseMs }: LossPolicy): boolean {
    if (onPeerLoss === 'keep') return false
    const before = this.#offers.size
    for (const [name, { lostAtMs }] of this.#offers) {
      const since = Math.min(
        lostAtMs ?? Number.POSITIVE_INFINITY,
        this.#silentSinceMs ?? Number.POSITIVE_INFINITY,
      )
      if (nowMs >= since + leaseMs) this.#delete(name)
    }
    return this.#offers.size < before
  }

  /** What is in force, by host, as our own objects place it. */
  inForce(place: Pick<Offerer, 'network' | 'locality'>): ReadonlyMap<string, EntryConfig> {
    const key = JSON.stringify([place.network, place.locality])
    if (this.#accepted?.place === key) return this.#accepted.byHost
    const byHost = new Map<string, EntryConfig>()
    for (const { entry } of this.#offers.values()) {
      const accepted = acceptEntry(entry, { ...this.#peer, ...place, self: this.#self })
      const host = accepted.ok ? accepted.value.hosts[0] : undefined
      if (accepted.ok && host !== undefined && !byHost.has(host)) byHost.set(host, accepted.value)
    }
    this.#accepted = { place: key, byHost }
    return byHost
  }

  #overLimit(upserted: readonly XdsResource[]): string | undefined {
    let count = this.#offers.size
    let bytes = 0
    for (const offer of this.#offers.values()) bytes += offer.bytes
    for (const resource of upserted) {
      const known = this.#offers.get(resource.name)
      count += Number(known === undefined)
      bytes += sizeOf(resource) - (known?.bytes ?? 0)
    }
    if (count > OFFERS_MAX) return `${OFFERS_MAX} entries`
    return bytes > OFFERS_BYTES_MAX ? `${OFFERS_BYTES_MAX} bytes` : undefined
  }

  #remove(removed: readonly string[], identifier: HeardIdentifier, nowMs: number): void {
    const { epoch, complete, allowed } = identifier
    if (epoch !== undefined && epoch !== this.#epoch && epoch !== this.#catchingUp?.epoch)
      this.#catchingUp = { epoch, before: this.#offers.size, missing: 0 }
    for (const name of removed) this.#refused.delete(name)
    const gone = removed.filter((name) => this.#offers.has(name))
    if (gone.length === 0) return
    const decided = allowed === false || (epoch !== undefined && epoch === this.#epoch)
    const tombstones = complete === true && decided
    const { before, missing } = this.#catchingUp ?? { before: this.#offers.size, missing: 0 }
    if (this.#catchingUp !== undefined) this.#catchingUp.missing += gone.length
    const mass = (missing + gone.length) * 2 > before
    const freeze = !tombstones && (complete === false || mass)
    for (const name of gone) {
      const offer = this.#offers.get(name)
      if (!freeze || offer === undefined) this.#delete(name)
      else this.#offers.set(name, { ...offer, lostAtMs: offer.lostAtMs ?? nowMs })
    }
    if (freeze) this.#count('MassLoss')
  }

  /** From here on what the peer says is gone was there in its own eyes. */
  #caughtUp({ epoch, entries, generation = 0 }: HeardIdentifier): void {
    this.#generation = generation
    if (epoch === undefined || epoch === this.#epoch) return
    if (this.#offers.size - this.frozen + this.#refused.size < (entries ?? 0)) return
    this.#epoch = epoch
    this.#catchingUp = undefined
  }

  #takeOne(resource: XdsResource): Result<void> {
    const decoded = decodeEntry(resource)
    if (!decoded.ok) return decoded
    const accepted = acceptEntry(decoded.value, { ...this.#peer, network: '', self: this.#self })
    if (!accepted.ok) return accepted
    // Was it in force in another form, that one stays until this is good: a refused form takes nothing away.
    this.#offers.set(resource.name, {
      entry: decoded.value,
      bytes: sizeOf(resource),
      lostAtMs: undefined,
    })
    return ok(undefined)
  }

  #delete(name: string): void {
    this.#offers.delete(name)
    this.#accepted = undefined
  }

  #refuse(name: string, why: Problem): void {
    this.#count(/^([A-Z][A-Za-z]+): /.exec(why.message)?.[1] ?? 'InvalidEntry')
    // Whoever sends a million bad ones gets no million lines.
    if (this.#refused.size < REFUSED_MAX || this.#refused.has(name)) this.#refused.set(name, why)
  }

  #count(reason: string): void {
    this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1)
  }
}

const sizeOf = ({ name, body }: XdsResource): number => name.length + body.length
