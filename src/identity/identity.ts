import type { Logger } from '../lib/log.ts'
import { fail, formatProblem, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { withOwnCrls } from './attach-crls.ts'
import { type CaCertificate, openX509, parseCaCertificate } from './ca-certificate.ts'
import { parseCertificate } from './certificate.ts'
import { type Credential, parseCredential } from './credential.ts'
import { parseCertificatesPem } from './pem.ts'
import { TrustBundle } from './trust-bundle.ts'

/** Who we are, and whom we trust by ourselves. */
export interface Identity {
  readonly credential: Credential
  /** Our own trust domain's: the roots, the intermediates of our own chain, and their CRLs. */
  readonly bundle: TrustBundle
  /** Of other trust domains, where the source of our credential has them too; they are as good as configured by hand. */
  readonly federated: readonly TrustBundle[]
}

/** Where our own credential comes from: files, an SDS server, a CA. What was good stays until something better is complete. */
export interface CredentialSource {
  /** Resolves also when there is no credential yet, or a broken one: see `problems`. */
  start(): Promise<void>
  stop(): void
  /** The last good state; undefined as long as there was none. */
  current(): Identity | undefined
  /** Called after each change of `current`. Returns the function that ends it. */
  onChange(callback: () => void): () => void
  /** Why there is nothing newer in force than there is; empty when all is well. */
  problems(): readonly Problem[]
}

/** What an identity is made of, in PEM. */
export interface IdentityParts {
  readonly certificate: string
  readonly privateKey: string
  /** Roots of the trust domain, and perhaps intermediates. */
  readonly bundle: string
  /** CRLs of its CAs; empty for none. */
  readonly crl: string
  readonly federated?: readonly TrustBundle[]
}

/** How errors name the parts: `object` is the folder or server, the fields are its files or the fields of a message. */
export interface PartNames {
  readonly object: string
  readonly certificate: string
  readonly privateKey: string
  readonly bundle: string
  readonly crl: string
}

/**
 * Whether the parts are a credential that peers would take now: the key fits, the certificate is an SVID in its time, and the bundle
 * vouches for it.
 */
export function judgeIdentity(
  parts: IdentityParts,
  names: PartNames,
  nowMs: number,
): Result<Identity, Problem> {
  const fault = (field: string, message: string) => fail(problem(names.object, field, message))
  const credential = parseCredential(parts.certificate, parts.privateKey, names.object, names)
  if (!credential.ok) return credential
  const { id, notBeforeMs, notAfterMs } = credential.value
  if (nowMs > notAfterMs)
    return fault(names.certificate, `the certificate expired at ${new Date(notAfterMs).toISOString()}`)
  if (nowMs < notBeforeMs)
    return fault(
      names.certificate,
      `the certificate is not valid before ${new Date(notBeforeMs).toISOString()}`,
    )
  const roots = TrustBundle.parse(id.trustDomain, parts.bundle, `${names.object}/${names.bundle}`)
  if (!roots.ok) return roots
  const chain = readChain(parts.certificate)
  if (!chain.ok) return fault(names.certificate, chain.error)
  const bundle = roots.value.withIntermediates(chain.value.intermediates)
  const anchor = bundle.anchor(chain.value.leaf.certificate, chain.value.leaf.x509, 'server', nowMs)
  if (!anchor.ok)
    return fault(
      names.bundle,
      `does not vouch for the certificate in ${names.certificate}: ${anchor.error.message}`,
    )
  const revoking = withOwnCrls(bundle, parts.crl)
  if (!revoking.ok) return fault(names.crl, revoking.error)
  return ok({ credential: credential.value, bundle: revoking.value, federated: parts.federated ?? [] })
}

function readChain(pem: string) {
  const blocks = parseCertificatesPem(pem)
  const [first, ...above] = blocks.ok ? blocks.value : []
  const certificate = parseCertificate(first?.der ?? new Uint8Array())
  const x509 = openX509(first?.der ?? new Uint8Array())
  if (!certificate.ok || x509 === undefined) return fail('cannot be read')
  const intermediates: CaCertificate[] = []
  for (const [index, block] of above.entries()) {
    const ca = parseCaCertificate(block)
    if (!ca.ok) return fail(`certificate ${index + 2}: ${ca.error}`)
    intermediates.push(ca.value)
  }
  return ok({ leaf: { certificate: certificate.value, x509 }, intermediates })
}

/** Keeps the last good identity of one source, and tells of changes. */
export class IdentityKeeper {
  readonly #what: string
  readonly #logger: Logger
  readonly #listeners = new Set<() => void>()
  #current: Identity | undefined
  #problems: readonly Problem[] = []

  /** `what` begins the log lines: `credential files`, `SDS`, `Istio CA`. */
  constructor(what: string, logger: Logger) {
    this.#what = what
    this.#logger = logger
  }

  get current(): Identity | undefined {
    return this.#current
  }

  get problems(): readonly Problem[] {
    return this.#problems
  }

  onChange(callback: () => void): () => void {
    this.#listeners.add(callback)
    return () => this.#listeners.delete(callback)
  }

  /** Takes a verdict: a good identity comes into force, a problem is said once and leaves the last good one there. */
  take(judged: Result<Identity, Problem>): void {
    if (!judged.ok) {
      const [known] = this.#problems
      this.#problems = [judged.error]
      if (known !== undefined && formatProblem(known) === formatProblem(judged.error)) return
      const kept =
        this.#current === undefined ? 'there is no credential yet' : 'the last good credential stays in force'
      this.#logger.warn({ problem: judged.error }, `${this.#what}: ${formatProblem(judged.error)}; ${kept}`)
      return
    }
    this.#problems = []
    const { credential } = judged.value
    if (this.#current !== undefined && sameIdentity(this.#current, judged.value)) return
    this.#current = judged.value
    this.#logger.info({ source: this.#what, credential }, 'credential loaded')
    for (const listener of [...this.#listeners]) this.#tell(listener)
  }

  /** A listener that throws must not keep the others, or the next change, from being told. */
  #tell(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      this.#logger.error({ err: error }, 'BUG: a listener to credential changes threw')
    }
  }
}

function sameIdentity(a: Identity, b: Identity): boolean {
  return (
    a.credential.certificatePem === b.credential.certificatePem &&
    a.credential.privateKeyPem === b.credential.privateKeyPem &&
    trustOf(a) === trustOf(b)
  )
}

function trustOf({ bundle, federated }: Identity): string {
  return [bundle, ...federated]
    .map((one) => `${one.trustDomain} ${one.pem}${one.crls.map(({ crl }) => crl.pem).join('')}`)
    .join('\n')
}
