import { ok, type Result } from '../lib/result.ts'
import { fingerprintOf, openX509 } from './ca-certificate.ts'
import { parseCertificate } from './certificate.ts'
import { checkLeaf, refuse, type SvidRefusal } from './leaf-rules.ts'
import { NOT_BEFORE_SKEW_MS, type RevocationMode } from './revocation.ts'
import type { SpiffeId } from './spiffe-id.ts'
import type { TrustBundles } from './trust-bundle.ts'

/** A peer whose certificate is really its trust domain's. */
export interface VerifiedSvid {
  readonly id: SpiffeId
  /** The DER of its certificate: one copy for all of its connections. */
  readonly leaf: Uint8Array
  /** When the leaf or a CA above it ends, whichever is first: no connection may outlive it. Milliseconds since the epoch. */
  readonly notAfterMs: number
  /** SHA-256 of the leaf's DER, hexadecimal. */
  readonly fingerprint: string
  /** Hexadecimal. */
  readonly serial: string
  /** SHA-256 of the issuing CA's public key (SPKI), hexadecimal: tells apart clusters that share a trust domain. */
  readonly issuer: string
  /** Until when this verdict may be used again; before `notAfterMs` where CRLs must be fresh. Milliseconds since the epoch. */
  readonly goodUntilMs: number
}

/**
 * Whether a peer's leaf is an SVID of a trust domain we know, at `nowMs`. The TLS layer has shown that the peer holds the
 * key and has checked a chain against all bundles pooled; this decides the rest, from the DER: the leaf's own rules,
 * its dates, and that **its own trust domain's** bundle vouches for it. `usage` is what the peer does: `client` (default)
 * when we are the server; `mode` what a missing or expired CRL means.
 */
export function verifySvid(
  leafDer: Uint8Array,
  bundles: TrustBundles,
  nowMs: number,
  usage: 'client' | 'server' = 'client',
  mode: RevocationMode = 'soft-fail',
): Result<VerifiedSvid, SvidRefusal> {
  const parsed = parseCertificate(leafDer)
  if (!parsed.ok) return refuse('malformed', `it is no X.509 certificate: ${parsed.error}`)
  const leaf = parsed.value
  const id = checkLeaf(leaf, usage)
  if (!id.ok) return id
  if (nowMs > leaf.notAfterMs) return refuse('expired', `it expired at ${isoTime(leaf.notAfterMs)}`)
  if (nowMs < leaf.notBeforeMs - NOT_BEFORE_SKEW_MS) {
    return refuse('not_yet_valid', `it is not valid before ${isoTime(leaf.notBeforeMs)}`)
  }
  const bundle = bundles.get(id.value.trustDomain)
  if (bundle === undefined)
    return refuse('unknown_trust_domain', `no bundle for the trust domain ${id.value.trustDomain}`)
  const x509 = openX509(leafDer)
  if (x509 === undefined) return refuse('malformed', 'it is no X.509 certificate: OpenSSL cannot read it')
  const anchor = bundle.anchor(leaf, x509, usage, nowMs, mode)
  if (!anchor.ok) return anchor
  const notAfterMs = Math.min(leaf.notAfterMs, anchor.value.notAfterMs)
  return ok({
    id: id.value,
    leaf: ownBytes(leafDer),
    notAfterMs,
    goodUntilMs: Math.min(notAfterMs, anchor.value.freshUntilMs),
    fingerprint: fingerprintOf(leafDer),
    serial: leaf.serial,
    issuer: anchor.value.issuer.publicKeyHash,
  })
}

/** Bytes that keep alive nothing but themselves: a runtime may give them as a part of something larger, or in memory of OpenSSL's. */
const ownBytes = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes)

const isoTime = (ms: number): string => new Date(ms).toISOString()

/**
 * `verifySvid` with memory: a peer that connects a thousand times is examined once. Only good verdicts are kept (nobody
 * can fill the memory without valid SVIDs), each for its usage, its epoch of bundles and until it ends.
 */
export class SvidVerifier {
  readonly #capacity: number
  readonly #mode: RevocationMode
  readonly #verdicts = new Map<string, { readonly svid: VerifiedSvid; readonly fromMs: number }>()

  /**
   * `capacity`: how many verdicts are remembered; default 10,000. The one unused for longest goes first. `revocation`: what a
   * missing or expired CRL means; default `soft-fail`.
   */
  constructor(
    options: { readonly capacity?: number; readonly revocation?: RevocationMode | undefined } = {},
  ) {
    this.#capacity = options.capacity ?? 10_000
    this.#mode = options.revocation ?? 'soft-fail'
  }

  verify(
    leafDer: Uint8Array,
    bundles: TrustBundles,
    nowMs: number,
    usage: 'client' | 'server' = 'client',
  ): Result<VerifiedSvid, SvidRefusal> {
    const key = `${fingerprintOf(leafDer)} ${bundles.epoch} ${usage}`
    const known = this.#verdicts.get(key)
    if (known !== undefined) {
      this.#verdicts.delete(key)
      // A clock that was set back makes an old verdict no better than none.
      if (nowMs >= known.fromMs && nowMs <= known.svid.goodUntilMs) {
        this.#verdicts.set(key, known)
        return ok(known.svid)
      }
    }
    const verdict = verifySvid(leafDer, bundles, nowMs, usage, this.#mode)
    if (verdict.ok) this.#remember(key, { svid: verdict.value, fromMs: nowMs })
    return verdict
  }

  get size(): number {
    return this.#verdicts.size
  }

  #remember(key: string, verdict: { readonly svid: VerifiedSvid; readonly fromMs: number }): void {
    this.#verdicts.set(key, verdict)
    if (this.#verdicts.size <= this.#capacity) return
    const [oldest] = this.#verdicts.keys()
    if (oldest !== undefined) this.#verdicts.delete(oldest)
  }
}
