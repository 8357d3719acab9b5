import { fail, ok, type Result } from '../lib/result.ts'
import { verifySignature } from './algorithms.ts'
import type { CaCertificate } from './ca-certificate.ts'
import { type Certificate, equalBytes } from './certificate.ts'
import type { Crl } from './crl.ts'

/** Clocks differ: certificates and CRLs are taken this long before they begin. A certificate is never taken after it ends. */
export const NOT_BEFORE_SKEW_MS = 5 * 60_000

/**
 * What a CRL that is missing or too old means. `soft-fail`: no more than that nobody new is known to be revoked; what it revoked
 * stays revoked. `hard-fail`: whoever the CA signed is refused until there is a fresh one.
 */
export const REVOCATION_MODES = ['soft-fail', 'hard-fail'] as const
export type RevocationMode = (typeof REVOCATION_MODES)[number]

export interface RevocationRefusal {
  readonly code: 'revoked' | 'revocation_unknown'
  readonly message: string
}

/** A list, and the CA that signed it. */
export interface BoundCrl {
  readonly crl: Crl
  readonly issuer: CaCertificate
}

/** The CA of `cas` that signed a list; or why none did. `forged`: one has the list's name, and did not sign it. */
export function signerOf(crl: Crl, cas: readonly CaCertificate[]): CaCertificate | 'forged' | 'stranger' {
  const named = cas.filter(({ certificate }) => equalBytes(certificate.subject, crl.issuer))
  const signer = named.find(
    ({ certificate: { extensions }, x509 }) =>
      extensions.keyUsage?.crlSign !== false &&
      verifySignature(crl.algorithm, x509.publicKey, crl.signed, crl.signature),
  )
  return signer ?? (named.length > 0 ? 'forged' : 'stranger')
}

/** The lists of one bundle: of each CA the newest. A CA is its name and its key, however many certificates it has. */
export class Revocations {
  readonly #newest = new Map<string, BoundCrl>()

  constructor(bound: Iterable<BoundCrl> = []) {
    for (const one of bound) {
      const key = keyOf(one.issuer)
      const known = this.#newest.get(key)
      if (known === undefined || known.crl.thisUpdateMs < one.crl.thisUpdateMs) this.#newest.set(key, one)
    }
  }

  get list(): readonly BoundCrl[] {
    return [...this.#newest.values()]
  }

  /**
   * Judges a leaf and the CAs above it, `path` from its issuer to the root: each by the list of the one above it. A root answers to
   * nobody. Gives the time until which all lists that had to be fresh are; `Infinity` where none had to.
   */
  judge(
    leaf: Certificate,
    path: readonly CaCertificate[],
    nowMs: number,
    mode: RevocationMode,
  ): Result<number, RevocationRefusal> {
    let freshUntilMs = Number.POSITIVE_INFINITY
    if (this.#newest.size === 0 && mode === 'soft-fail') return ok(freshUntilMs)
    for (const [index, issuer] of path.entries()) {
      const judged = index === 0 ? leaf : path[index - 1]?.certificate
      const what = index === 0 ? 'it was' : 'a CA above it was'
      const crl = this.#newest.get(keyOf(issuer))?.crl
      if (crl?.revoked.has(judged?.serial ?? ''))
        return fail({
          code: 'revoked',
          message: `${what} revoked by its issuer (serial number ${judged?.serial})`,
        })
      if (mode === 'soft-fail') continue
      const unknown = staleness(crl, nowMs)
      if (unknown !== undefined)
        return fail({
          code: 'revocation_unknown',
          message: `nobody can tell whether ${what} revoked: ${unknown}`,
        })
      freshUntilMs = Math.min(freshUntilMs, crl?.nextUpdateMs ?? nowMs)
    }
    return ok(freshUntilMs)
  }
}

/** Why a list says nothing of now, or undefined. */
function staleness(crl: Crl | undefined, nowMs: number): string | undefined {
  if (crl === undefined) return 'its issuer has no CRL here'
  if (nowMs > crl.nextUpdateMs)
    return `the CRL of its issuer ended at ${new Date(crl.nextUpdateMs).toISOString()}`
  if (nowMs < crl.thisUpdateMs - NOT_BEFORE_SKEW_MS) return 'the CRL of its issuer is not valid yet'
  return undefined
}

function keyOf({ certificate, publicKeyHash }: CaCertificate): string {
  return `${publicKeyHash} ${Buffer.from(certificate.subject).toString('hex')}`
}
