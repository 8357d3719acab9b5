import { fail, ok, type Result } from '../lib/result.ts'
import type { CaCertificate } from './ca-certificate.ts'
import { type Crl, parseCrlsPem } from './crl.ts'
import type { TrustBundle, TrustBundles } from './trust-bundle.ts'

/**
 * Gives each CRL to the bundles whose CA signed it. One that bears the name of a CA here and that none of that name signed is an
 * error: it may be all that is left of the list that revokes somebody. `strangers` are those of CAs that are in no bundle (any
 * more), by their index: they decide about nobody here.
 */
export function attachCrls(
  bundles: readonly TrustBundle[],
  crls: readonly Crl[],
): Result<{ readonly bundles: readonly TrustBundle[]; readonly strangers: readonly number[] }, string> {
  const signed = new Set<Crl>()
  const forged = new Set<Crl>()
  const attached = bundles.map((bundle) => {
    const result = bundle.withCrls(crls)
    for (const crl of result.signed) signed.add(crl)
    for (const crl of result.forged) forged.add(crl)
    return result.bundle
  })
  const bad = crls.findIndex((crl) => forged.has(crl) && !signed.has(crl))
  if (bad >= 0)
    return fail(`CRL ${bad + 1} bears the name of a CA that did not sign it, or may not sign CRLs`)
  const strangers = crls.flatMap((crl, index) => (signed.has(crl) ? [] : [index]))
  return ok({ bundles: attached, strangers })
}

/**
 * A bundle with the CRLs of a PEM text that is meant for it alone, '' for none: a list of a CA that is not in the bundle is as wrong
 * here as a forged one.
 */
export function withOwnCrls(bundle: TrustBundle, pem: string): Result<TrustBundle, string> {
  if (pem.trim() === '') return ok(bundle)
  const crls = parseCrlsPem(pem)
  if (!crls.ok) return crls
  const attached = attachCrls([bundle], crls.value)
  if (!attached.ok) return attached
  const [stranger] = attached.value.strangers
  if (stranger !== undefined)
    return fail(`CRL ${stranger + 1} is of no CA of the trust domain ${bundle.trustDomain}`)
  return ok(attached.value.bundles[0] ?? bundle)
}

/** A CRL in force, for status and metrics. */
export interface CrlStatus {
  readonly trustDomain: string
  /** The CA's name, as OpenSSL writes it. */
  readonly issuer: string
  /** ISO 8601. */
  readonly thisUpdate: string
  readonly nextUpdate: string
  readonly expired: boolean
  /** How many certificates it revokes. */
  readonly revoked: number
}

export function crlStatus(bundles: TrustBundles, nowMs: number): CrlStatus[] {
  return bundles.trustDomains.flatMap((trustDomain) =>
    (bundles.get(trustDomain)?.crls ?? []).map(({ crl, issuer }) => ({
      trustDomain,
      issuer: nameOf(issuer),
      thisUpdate: new Date(crl.thisUpdateMs).toISOString(),
      nextUpdate: new Date(crl.nextUpdateMs).toISOString(),
      expired: nowMs > crl.nextUpdateMs,
      revoked: crl.revoked.size,
    })),
  )
}

/** `O=c1.example, CN=Isthmus issuing CA`. */
export function nameOf({ x509 }: Pick<CaCertificate, 'x509'>): string {
  return x509.subject.split('\n').join(', ')
}
