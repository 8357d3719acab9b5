import type { X509Certificate } from 'node:crypto'
import { contentHash } from '../lib/canonical.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import {
  type CaCertificate,
  fingerprintOf,
  parseCaCertificate,
  signedBy,
  usageAllowed,
} from './ca-certificate.ts'
import type { Certificate } from './certificate.ts'
import type { Crl } from './crl.ts'
import { nameConstraintError } from './name-constraints.ts'
import { parseCertificatesPem } from './pem.ts'
import {
  type BoundCrl,
  NOT_BEFORE_SKEW_MS,
  type RevocationMode,
  Revocations,
  signerOf,
} from './revocation.ts'
import { trustDomainError } from './spiffe-id.ts'

/** Certificates above the leaf, the root among them. */
const MAX_CHAIN = 5
const MAX_CERTIFICATES = 256
/**
 * Certificates that are looked at on the ways from one leaf to a root. CAs that sign each other make a number of ways that is of the
 * fourth power of theirs, and one peer's bundle must not keep the process busy for minutes; a PKI has a handful.
 */
const MAX_STEPS = 1_024
/** Signatures that are looked at to find out who signed whom in a bundle: 0.1 ms each. Where names tell CAs apart it is one for each. */
const MAX_CANDIDATES = 2_048

/** Who vouches for a leaf. */
export interface Anchor {
  /** The CA that signed the leaf. */
  readonly issuer: CaCertificate
  /** When the first certificate above the leaf ends, on the path that lasts longest. Milliseconds since the epoch. */
  readonly notAfterMs: number
  /** Until when the CRLs that had to be fresh are so (`hard-fail`), on that path; else `Infinity`. */
  readonly freshUntilMs: number
}

export type AnchorRefusal = {
  readonly code: 'untrusted' | 'name_constraint' | 'revoked' | 'revocation_unknown'
  readonly message: string
}

/**
 * The CAs of one trust domain: its roots and its issuing intermediates. A leaf belongs to the trust domain only if one of
 * them signed it and a chain leads from there to a self-signed root of this same bundle (X509-SVID section 5, SPIFFE
 * Federation section 5.1: bundles are never merged). The intermediates are here because after a handshake Node shows
 * the leaf alone, not the chain that came with it.
 */
export class TrustBundle {
  readonly trustDomain: string
  readonly certificates: readonly CaCertificate[]
  /** Who may have signed whom inside the bundle, decided once. */
  readonly #parents: ReadonlyMap<CaCertificate, readonly CaCertificate[]>
  /** How many certificates there are from each to the nearest root, both included; without those that lead to none. */
  readonly #toRoot: ReadonlyMap<CaCertificate, number>
  readonly #revocations: Revocations

  private constructor(
    trustDomain: string,
    certificates: readonly CaCertificate[],
    revocations = new Revocations(),
  ) {
    this.trustDomain = trustDomain
    this.certificates = certificates
    this.#revocations = revocations
    this.#parents = new Map(
      certificates.map((ca) => [
        ca,
        ca.root
          ? []
          : certificates.filter((other) => other !== ca && signedBy(ca.certificate, ca.x509, other)),
      ]),
    )
    this.#toRoot = distancesToRoot(this.#parents)
  }

  /**
   * Reads PEM. `object` names the input in the error, e.g. `certs/ca.crt` or `Secret/istio-system/peer-2`. All or nothing:
   * one certificate that is no CA, or a private key among them, is an error.
   */
  static parse(trustDomain: string, pem: string, object: string): Result<TrustBundle, Problem> {
    const domainError = trustDomainError(trustDomain)
    if (domainError !== undefined) return fail(problem(object, 'trustDomain', domainError))
    const blocks = parseCertificatesPem(pem)
    if (!blocks.ok) return fail(problem(object, '', blocks.error))
    if (blocks.value.length > MAX_CERTIFICATES) {
      return fail(problem(object, '', `more than ${MAX_CERTIFICATES} certificates`))
    }
    const found = new Map<string, CaCertificate>()
    for (const [index, block] of blocks.value.entries()) {
      const ca = parseCaCertificate(block)
      if (!ca.ok) return fail(problem(object, `certificate ${index + 1}`, ca.error))
      found.set(ca.value.fingerprint, ca.value)
    }
    const certificates = [...found.values()]
    if (!certificates.some(({ root }) => root)) {
      return fail(
        problem(
          object,
          '',
          `no self-signed root among its ${certificates.length} certificates; no chain could end`,
        ),
      )
    }
    const candidates = countCandidates(certificates)
    if (candidates > MAX_CANDIDATES) {
      const message = `too many of its CAs bear one name: ${candidates} signatures to look at, at most ${MAX_CANDIDATES}`
      return fail(problem(object, '', message))
    }
    return ok(new TrustBundle(trustDomain, certificates))
  }

  get roots(): readonly CaCertificate[] {
    return this.certificates.filter(({ root }) => root)
  }

  /** The CRLs in force, one for each CA that has any. */
  get crls(): readonly BoundCrl[] {
    return this.#revocations.list
  }

  /**
   * This bundle with those lists that one of its CAs signed, beside the ones it has; of one CA the newest counts. `forged` are
   * those that bear the name of one of its CAs and that it did not sign.
   */
  withCrls(crls: readonly Crl[]): {
    readonly bundle: TrustBundle
    readonly signed: Set<Crl>
    readonly forged: Set<Crl>
  } {
    const bound: BoundCrl[] = []
    const forged = new Set<Crl>()
    for (const crl of crls) {
      const issuer = signerOf(crl, this.certificates)
      if (issuer === 'forged') forged.add(crl)
      else if (issuer !== 'stranger') bound.push({ crl, issuer })
    }
    const revocations = new Revocations([...this.crls, ...bound])
    const bundle =
      bound.length === 0 ? this : new TrustBundle(this.trustDomain, this.certificates, revocations)
    return { bundle, signed: new Set(bound.map(({ crl }) => crl)), forged }
  }

  /** Roots first, then intermediates. */
  get pem(): string {
    const [roots, others] = [this.roots, this.certificates.filter(({ root }) => !root)]
    return [...roots, ...others].map(({ pem }) => pem).join('')
  }

  /**
   * This bundle and those intermediates of `others` whose chain ends in one of **this** bundle's roots. A root of theirs
   * is never taken over, whatever the name it bears.
   */
  withIntermediates(others: readonly CaCertificate[]): TrustBundle {
    const known = new Set(this.certificates.map(({ fingerprint }) => fingerprint))
    const fresh = new Map(others.map((ca) => [ca.fingerprint, ca]))
    const waiting = [...fresh.values()].filter(({ root, fingerprint }) => !root && !known.has(fingerprint))
    const taken = [...this.certificates]
    // From the root downwards: an intermediate may wait for the one above it, which this loop comes to as well. No pair twice.
    for (const above of taken) {
      for (let i = 0; i < waiting.length && taken.length < MAX_CERTIFICATES; ) {
        const ca = waiting[i]
        if (ca !== undefined && signedBy(ca.certificate, ca.x509, above)) taken.push(...waiting.splice(i, 1))
        else i += 1
      }
    }
    return taken.length === this.certificates.length
      ? this
      : new TrustBundle(this.trustDomain, taken, this.#revocations)
  }

  /** From a CA of this bundle up to a root, both included; empty when no chain leads there. */
  chainOf(ca: CaCertificate): readonly CaCertificate[] {
    const own = this.certificates.find(({ fingerprint }) => fingerprint === ca.fingerprint)
    const [first = []] = own === undefined ? [] : this.#paths([own])
    return first
  }

  /** Finds who vouches for a leaf now, or says why nobody does. */
  anchor(
    leaf: Certificate,
    x509: X509Certificate,
    usage: 'client' | 'server',
    nowMs: number,
    mode: RevocationMode = 'soft-fail',
  ): Result<Anchor, AnchorRefusal> {
    const issuers = this.certificates.filter((ca) => signedBy(leaf, x509, ca))
    let refusal: AnchorRefusal = {
      code: 'untrusted',
      message: `no CA of the trust domain ${this.trustDomain} signed it`,
    }
    let best: Anchor | undefined
    const budget = { steps: MAX_STEPS }
    for (const issuer of issuers) {
      for (const path of this.#paths([issuer], budget)) {
        const revocation = this.#revocations.judge(leaf, path, nowMs, mode)
        const error = pathError(path, leaf, usage, nowMs) ?? (revocation.ok ? undefined : revocation.error)
        if (error !== undefined || !revocation.ok) {
          if (refusal.code !== 'revoked' && error !== undefined) refusal = error
          continue
        }
        const notAfterMs = Math.min(...path.map(({ certificate }) => certificate.notAfterMs))
        if (best === undefined || notAfterMs > best.notAfterMs)
          best = { issuer, notAfterMs, freshUntilMs: revocation.value }
      }
    }
    if (best !== undefined) return ok(best)
    if (issuers.length > 0 && refusal.message.startsWith('no CA')) {
      refusal = {
        code: 'untrusted',
        message: `its issuer does not lead to a root of the trust domain ${this.trustDomain}`,
      }
    }
    return fail(refusal)
  }

  /** Every way from a CA up to a root of this bundle, no CA twice, none longer than `MAX_CHAIN`, as far as the budget goes. */
  *#paths(
    path: readonly CaCertificate[],
    budget = { steps: MAX_STEPS },
  ): Generator<readonly CaCertificate[]> {
    const top = path.at(-1)
    if (top === undefined || budget.steps <= 0) return
    budget.steps -= 1
    if (top.root) {
      yield path
      return
    }
    for (const parent of this.#parents.get(top) ?? []) {
      const leads = path.length + (this.#toRoot.get(parent) ?? Number.POSITIVE_INFINITY) <= MAX_CHAIN
      if (leads && !path.includes(parent)) yield* this.#paths([...path, parent], budget)
    }
  }
}

/** Pairs of CAs of which one may have signed the other, by their names. A root is looked at once. */
function countCandidates(certificates: readonly CaCertificate[]): number {
  const named = new Map<string, number>()
  const key = (der: Uint8Array): string => Buffer.from(der).toString('latin1')
  for (const { certificate } of certificates) {
    const subject = key(certificate.subject)
    named.set(subject, (named.get(subject) ?? 0) + 1)
  }
  return certificates
    .filter(({ root }) => !root)
    .reduce((sum, { certificate }) => sum + (named.get(key(certificate.issuer)) ?? 0), 0)
}

/** By breadth, from the roots downwards. */
function distancesToRoot(
  parents: ReadonlyMap<CaCertificate, readonly CaCertificate[]>,
): ReadonlyMap<CaCertificate, number> {
  const found = new Map<CaCertificate, number>()
  for (const ca of parents.keys()) if (ca.root) found.set(ca, 1)
  for (let distance = 2; distance <= MAX_CHAIN; distance += 1) {
    for (const [ca, above] of parents)
      if (!found.has(ca) && above.some((parent) => found.get(parent) === distance - 1))
        found.set(ca, distance)
  }
  return found
}

/** `path` runs from the issuing CA to the root. */
function pathError(
  path: readonly CaCertificate[],
  leaf: Certificate,
  usage: 'client' | 'server',
  nowMs: number,
): AnchorRefusal | undefined {
  let below = 0
  for (const { certificate } of path) {
    const { basicConstraints, nameConstraints, extendedKeyUsage } = certificate.extensions
    const untrusted = (message: string): AnchorRefusal => ({ code: 'untrusted', message })
    if (nowMs > certificate.notAfterMs) return untrusted('a CA above it has expired')
    if (nowMs < certificate.notBeforeMs - NOT_BEFORE_SKEW_MS)
      return untrusted('a CA above it is not valid yet')
    if (basicConstraints?.pathLength !== undefined && below > basicConstraints.pathLength) {
      return untrusted('its chain is longer than a CA above it allows (pathLenConstraint)')
    }
    if (!usageAllowed(extendedKeyUsage, usage))
      return untrusted(`a CA above it may not sign for TLS ${usage}s`)
    const forbidden =
      nameConstraints && nameConstraintError(nameConstraints, leaf.extensions.alternativeNames)
    if (forbidden !== undefined) return { code: 'name_constraint', message: forbidden }
    // Self-issued certificates (a CA's key rollover) do not count: RFC 5280 section 4.2.1.9.
    if (Buffer.compare(certificate.issuer, certificate.subject) !== 0) below += 1
  }
  return undefined
}

/** The bundles we hold, by trust domain. Immutable: a change is a new one with another epoch. */
export class TrustBundles {
  readonly #bundles: ReadonlyMap<string, TrustBundle>
  /** Content hash: equal contents, equal epoch. Verdicts are only good for the epoch they were made in. */
  readonly epoch: string
  /**
   * Two trust domains have CAs of one name and different keys. OpenSSL looks for an issuer by its name and stays with the first
   * that it finds, so one trust domain could make it refuse the good leaves of another: its verdict on the pool is worth nothing.
   */
  readonly ambiguous: boolean
  /** Roots that were offered for a trust domain that has its own already, and were left out. */
  readonly problems: readonly Problem[]

  /**
   * The first bundle of a trust domain decides its roots. A further one of the same trust domain (two clusters that share
   * it) adds only intermediates that end in those roots; so our own bundle, given first, cannot be widened by a peer's.
   */
  constructor(bundles: Iterable<TrustBundle> = []) {
    const byDomain = new Map<string, TrustBundle>()
    const problems: Problem[] = []
    for (const bundle of bundles) {
      const first = byDomain.get(bundle.trustDomain)
      const merged = first?.withIntermediates(bundle.certificates)
      byDomain.set(bundle.trustDomain, merged?.withCrls(bundle.crls.map(({ crl }) => crl)).bundle ?? bundle)
      const known = new Set((first ?? bundle).roots.map(({ fingerprint }) => fingerprint))
      const foreign = bundle.roots.filter(({ fingerprint }) => !known.has(fingerprint)).length
      if (foreign > 0) {
        const message = `${foreign} root(s) of a second bundle for this trust domain were left out; its first bundle decides`
        problems.push(problem(`trust domain ${bundle.trustDomain}`, 'bundle', message))
      }
    }
    this.#bundles = byDomain
    this.problems = problems
    this.ambiguous = isAmbiguous([...byDomain.values()])
    this.epoch = contentHash(
      [...byDomain.values()]
        .map(({ trustDomain, certificates, crls }) =>
          [
            trustDomain,
            ...certificates.map((ca) => ca.fingerprint).sort(),
            ...crls.map(({ crl }) => fingerprintOf(crl.der)).sort(),
          ].join(' '),
        )
        .sort()
        .join('\n'),
    )
  }

  get(trustDomain: string): TrustBundle | undefined {
    return this.#bundles.get(trustDomain)
  }

  /** Sorted by trust domain. */
  get list(): readonly TrustBundle[] {
    return this.trustDomains.flatMap((name) => this.#bundles.get(name) ?? [])
  }

  /** Sorted. */
  get trustDomains(): readonly string[] {
    return [...this.#bundles.keys()].sort()
  }

  /** Of every bundle. */
  get crls(): readonly BoundCrl[] {
    return [...this.#bundles.values()].flatMap(({ crls }) => crls)
  }

  /** Every certificate of every bundle: what the TLS layer may start from. Its verdict is not ours; see `verifySvid`. */
  pooledPem(): string {
    return this.trustDomains.map((name) => this.get(name)?.pem ?? '').join('')
  }
}

function isAmbiguous(bundles: readonly TrustBundle[]): boolean {
  const keys = new Map<string, { readonly trustDomain: string; readonly key: string }[]>()
  for (const { trustDomain, certificates } of bundles) {
    for (const { certificate, x509 } of certificates) {
      const name = Buffer.from(certificate.subject).toString('hex')
      const key = x509.publicKey.export({ type: 'spki', format: 'der' }).toString('hex')
      keys.set(name, [...(keys.get(name) ?? []), { trustDomain, key }])
    }
  }
  return [...keys.values()].some((group) =>
    group.some((one) =>
      group.some((other) => one.trustDomain !== other.trustDomain && one.key !== other.key),
    ),
  )
}
