import { ok, type Result } from '../lib/result.ts'
import { fingerprintOf, openX509 } from './ca-certificate.ts'
import { parseCertificate } from './certificate.ts'
import { checkLeaf, refuse, type SvidRefusal } from './leaf-rules.ts'
import type { SpiffeId } from './spiffe-id.ts'
import { NOT_BEFORE_SKEW_MS, type TrustBundles } from './trust-bundle.ts'

/** A peer whose certificate is really its trust domain's. */
export interface VerifiedSvid {
  readonly id: SpiffeId
  /** When the leaf or a CA above it ends, whichever is first: no connection may outlive it. Milliseconds since the epoch. */
  readonly notAfterMs: number
  /** SHA-256 of the leaf's DER, hexadecimal. */
  readonly fingerprint: string
  /** Hexadecimal. */
  readonly serial: string
  /** SHA-256 of the issuing CA's DER, hexadecimal: tells apart clusters that share a trust domain. */
  readonly issuer: string
}

/**
 * Whether a peer's leaf is an SVID of a trust domain we know, at `nowMs`. The TLS layer has shown that the peer holds the
 * key and has checked a chain against all bundles pooled; this decides the rest, from the DER: the leaf's own rules,
 * its dates, and that **its own trust domain's** bundle vouches for it. `usage` is what the peer does: `client` (default)
 * when we are the server.
 */
export function verifySvid(
  leafDer: Uint8Array,
  bundles: TrustBundles,
  nowMs: number,
  usage: 'client' | 'server' = 'client',
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
  const anchor = bundle.anchor(leaf, x509, usage, nowMs)
  if (!anchor.ok) return anchor
  return ok({
    id: id.value,
    notAfterMs: Math.min(leaf.notAfterMs, anchor.value.notAfterMs),
    fingerprint: fingerprintOf(leafDer),
    serial: leaf.serial,
    issuer: anchor.value.issuer.fingerprint,
  })
}

const isoTime = (ms: number): string => new Date(ms).toISOString()

/**
 * `verifySvid` with memory: a peer that connects a thousand times is examined once. Only good verdicts are kept (nobody
 * can fill the memory without valid SVIDs), each for its usage, its epoch of bundles and until it ends.
 */
export class SvidVerifier {
  readonly #capacity: number
  readonly #verdicts = new Map<string, { readonly svid: VerifiedSvid; readonly fromMs: number }>()

  /** `capacity`: how many verdicts are remembered; default 10,000. The one unused for longest goes first. */
  constructor(options: { readonly capacity?: number } = {}) {
    this.#capacity = options.capacity ?? 10_000
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
      if (nowMs >= known.fromMs && nowMs <= known.svid.notAfterMs) {
        this.#verdicts.set(key, known)
        return ok(known.svid)
      }
    }
    const verdict = verifySvid(leafDer, bundles, nowMs, usage)
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
