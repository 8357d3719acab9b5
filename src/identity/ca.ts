// Must come before @peculiar/x509, whose dependency container needs it.
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { type CaCertificate, parseCaCertificate } from './ca-certificate.ts'
import { generateKeys, serialNumber, signer } from './ca-keys.ts'
import { openPrivateKey } from './credential.ts'
import { parseCertificatesPem } from './pem.ts'
import { parseSpiffeId, parseWorkload, trustDomainError, workloadId } from './spiffe-id.ts'
import { TrustBundle } from './trust-bundle.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const ROOT_LIFETIME_MS = 3650 * DAY_MS
const INTERMEDIATE_LIFETIME_MS = 365 * DAY_MS
const LEAF_LIFETIME_MS = 24 * HOUR_MS
/** OpenSSL, unlike us, allows no skew: certificates begin a little before they are issued, as Istio's do. */
const BACKDATE_MS = 2 * 60_000

export interface CreateCaOptions {
  readonly trustDomain: string
  /** A CA made here whose root signs the new one's intermediate. Default: a root of its own. */
  readonly parent?: Ca
  /** Milliseconds. Default 10 years. */
  readonly rootLifetimeMs?: number
  /** Milliseconds. Default 1 year. */
  readonly intermediateLifetimeMs?: number
  /** Milliseconds since the epoch; a parameter so that tests own it. */
  readonly nowMs?: number
}

export interface IssueOptions {
  /** The whole SPIFFE id; or give `namespace` and `serviceAccount`. */
  readonly id?: string
  readonly namespace?: string
  readonly serviceAccount?: string
  /** Milliseconds; cut to the issuing CA's own end. Default 24 hours. */
  readonly lifetimeMs?: number
  /** Further DNS SANs, for clients that know nothing of SPIFFE. */
  readonly dnsNames?: readonly string[]
  readonly nowMs?: number
}

export interface Issued {
  readonly id: string
  /** The leaf and the intermediates, without the root. */
  readonly certificatePem: string
  /** PKCS#8. */
  readonly privateKeyPem: string
}

/** What a CA is made of, in PEM; the names are those of Istio's `cacerts` Secret. */
export interface CaParts {
  readonly trustDomain: string
  readonly rootPem: string
  /** The issuing CA's certificate. */
  readonly issuerPem: string
  readonly issuerKeyPem: string
  /** From the issuing CA up to, and without, the root. Default: the issuing CA alone. */
  readonly chainPem?: string
  /** Only where we made the root; not needed to issue. */
  readonly rootKeyPem?: string
}

/** An issuing CA: it signs SVIDs of one trust domain. The root's key is not used after the intermediate was signed. */
export class Ca {
  readonly trustDomain: string
  readonly rootPem: string
  readonly issuerPem: string
  /** Intermediates, the issuing one first; empty when the root itself issues. */
  readonly chainPem: string
  readonly bundle: TrustBundle
  readonly #issuer: CaCertificate
  readonly #issuerKeyPem: string
  readonly #rootKeyPem: string | undefined

  private constructor(parts: CaParts, bundle: TrustBundle, issuer: CaCertificate) {
    this.trustDomain = parts.trustDomain
    this.rootPem = parts.rootPem
    this.issuerPem = issuer.pem
    this.chainPem = bundle
      .chainOf(issuer)
      .filter(({ root }) => !root)
      .map(({ pem }) => pem)
      .join('')
    this.bundle = bundle
    this.#issuer = issuer
    this.#issuerKeyPem = parts.issuerKeyPem
    this.#rootKeyPem = parts.rootKeyPem
  }

  /** Puts a CA together from its files. `object` names them in the error; the fields are the file names of `cacerts`. */
  static fromParts(parts: CaParts, object: string): Result<Ca, Problem> {
    const fault = (field: string, message: string) => fail(problem(object, field, message))
    const roots = TrustBundle.parse(parts.trustDomain, parts.rootPem, `${object}/root-cert.pem`)
    if (!roots.ok) return roots
    const issuerBlocks = parseCertificatesPem(parts.issuerPem)
    if (!issuerBlocks.ok) return fault('ca-cert.pem', issuerBlocks.error)
    const [block] = issuerBlocks.value
    const issuer = block && parseCaCertificate(block)
    if (!issuer?.ok) return fault('ca-cert.pem', issuer?.error ?? 'holds no certificate')
    const key = openPrivateKey(parts.issuerKeyPem)
    if (key === undefined) return fault('ca-key.pem', 'not an unencrypted private key in PEM')
    if (!issuer.value.x509.checkPrivateKey(key))
      return fault('ca-key.pem', 'the key does not belong to ca-cert.pem')
    const above = parseCertificatesPem(parts.chainPem ?? parts.issuerPem)
    if (!above.ok) return fault('cert-chain.pem', above.error)
    const others: CaCertificate[] = [issuer.value]
    for (const [index, other] of above.value.entries()) {
      const ca = parseCaCertificate(other)
      if (!ca.ok) return fault('cert-chain.pem', `certificate ${index + 1}: ${ca.error}`)
      others.push(ca.value)
    }
    const bundle = roots.value.withIntermediates(others)
    if (!bundle.certificates.some(({ fingerprint }) => fingerprint === issuer.value.fingerprint)) {
      return fault('ca-cert.pem', 'no chain leads from it through cert-chain.pem to root-cert.pem')
    }
    return ok(new Ca(parts, bundle, issuer.value))
  }

  /** Roots and intermediates: what peers of other trust domains and `ca.crt` get. */
  get bundlePem(): string {
    return this.bundle.pem
  }

  get issuerKeyPem(): string {
    return this.#issuerKeyPem
  }

  /** Undefined for an imported CA. */
  get rootKeyPem(): string | undefined {
    return this.#rootKeyPem
  }

  /** When the issuing CA ends. Milliseconds since the epoch. */
  get notAfterMs(): number {
    return this.#issuer.certificate.notAfterMs
  }

  /**
   * Signs a new EC P-256 key's SVID: X509-SVID's leaf (key usage critical, only digitalSignature; both sides of TLS;
   * CA:FALSE; the id as the only URI SAN). Throws on an id of another trust domain: that is the caller's bug.
   */
  async issue(options: IssueOptions): Promise<Issued> {
    const id = this.#idOf(options)
    const nowMs = options.nowMs ?? Date.now()
    const notAfterMs = Math.min(nowMs + (options.lifetimeMs ?? LEAF_LIFETIME_MS), this.notAfterMs)
    if (notAfterMs <= nowMs)
      throw new Error(
        `the issuing CA of ${this.trustDomain} expired at ${new Date(this.notAfterMs).toISOString()}`,
      )
    const keys = generateKeys()
    const issuer = new x509.X509Certificate(this.issuerPem)
    const signingKey = await signer(this.#issuerKeyPem)
    const names = [
      { type: 'url' as const, value: id },
      ...(options.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
    ]
    const { digitalSignature } = x509.KeyUsageFlags
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      // Not the id again: an SVID's name is its URI SAN; a short subject keeps the SAN non-critical.
      subject: 'O=isthmus',
      issuer: issuer.subjectName,
      notBefore: new Date(nowMs - BACKDATE_MS),
      notAfter: new Date(notAfterMs),
      publicKey: keys.spki,
      signingKey: signingKey.key,
      signingAlgorithm: signingKey.algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(
          [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
          false,
        ),
        new x509.SubjectAlternativeNameExtension(names, false),
        await x509.SubjectKeyIdentifierExtension.create(keys.spki),
        await authorityKeyIdentifier(issuer),
      ],
    })
    return {
      id,
      certificatePem: `${certificate.toString('pem')}\n${this.chainPem}`,
      privateKeyPem: keys.privateKeyPem,
    }
  }

  #idOf({ id, namespace, serviceAccount }: IssueOptions): string {
    const text = id ?? workloadId(this.trustDomain, namespace ?? '', serviceAccount ?? '')
    const parsed = parseSpiffeId(text)
    if (!parsed.ok) throw new Error(`"${text}" is no SPIFFE id: ${parsed.error}`)
    if (parsed.value.path === '') throw new Error(`"${text}" names no workload`)
    // A slash inside a name would make the id of somebody else.
    if (id === undefined && parseWorkload(parsed.value)?.serviceAccount !== serviceAccount) {
      throw new Error(`"${text}" is not the id of a namespace and service account`)
    }
    if (parsed.value.trustDomain !== this.trustDomain) {
      throw new Error(`"${text}" is not in the trust domain ${this.trustDomain}; this CA may not sign for it`)
    }
    return text
  }
}

/**
 * A new CA of a trust domain, EC P-256: an issuing intermediate under a root that is made with it, or under the root of `parent`, so
 * that the CAs of several clusters share a root. Throws where `parent` has no root key: that is the caller's to check.
 */
export async function createCa(options: CreateCaOptions): Promise<Ca> {
  const { trustDomain, parent } = options
  const error = trustDomainError(trustDomain)
  if (error !== undefined) throw new Error(error)
  const nowMs = options.nowMs ?? Date.now()
  const root = parent === undefined ? await createRoot(options, nowMs) : rootOf(parent)
  const rootKey = await signer(root.keyPem)
  const above = new x509.X509Certificate(root.pem)
  const keys = generateKeys()
  const serial = serialNumber()
  const notAfterMs = nowMs + (options.intermediateLifetimeMs ?? INTERMEDIATE_LIFETIME_MS)
  const issuer = await x509.X509CertificateGenerator.create({
    serialNumber: serial,
    // The serial makes the names of two intermediates differ, so that a rotation has no two keys under one name.
    subject: new x509.Name([{ O: [trustDomain] }, { CN: [`Isthmus issuing CA ${serial.slice(0, 8)}`] }]),
    issuer: above.subjectName,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(notAfterMs, above.notAfter.getTime())),
    publicKey: keys.spki,
    signingKey: rootKey.key,
    signingAlgorithm: rootKey.algorithm,
    extensions: [...(await caExtensions(trustDomain, keys.spki, 0)), await authorityKeyIdentifier(above)],
  })
  const parts: CaParts = {
    trustDomain,
    rootPem: root.pem,
    // One key, one place: that of a shared root stays where it is.
    ...(parent === undefined && { rootKeyPem: root.keyPem }),
    issuerPem: `${issuer.toString('pem')}\n`,
    issuerKeyPem: keys.privateKeyPem,
  }
  const ca = Ca.fromParts(parts, `new CA of ${trustDomain}`)
  if (!ca.ok) throw new Error(`BUG: ${ca.error.message}`)
  return ca.value
}

interface Root {
  readonly pem: string
  readonly keyPem: string
}

function rootOf({ trustDomain, rootPem, rootKeyPem }: Ca): Root {
  if (rootKeyPem === undefined) throw new Error(`the CA of ${trustDomain} has no root key here`)
  return { pem: rootPem, keyPem: rootKeyPem }
}

async function createRoot({ trustDomain, rootLifetimeMs }: CreateCaOptions, nowMs: number): Promise<Root> {
  const keys = generateKeys()
  const key = await signer(keys.privateKeyPem)
  const name = new x509.Name([{ O: [trustDomain] }, { CN: ['Isthmus root'] }])
  const root = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: name,
    issuer: name,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + (rootLifetimeMs ?? ROOT_LIFETIME_MS)),
    publicKey: keys.spki,
    signingKey: key.key,
    signingAlgorithm: key.algorithm,
    extensions: await caExtensions(trustDomain, keys.spki, undefined),
  })
  return { pem: `${root.toString('pem')}\n`, keyPem: keys.privateKeyPem }
}

/** A signing certificate (X509-SVID section 3): the trust domain's own id, CA:TRUE, keyCertSign and cRLSign, critical. */
async function caExtensions(
  trustDomain: string,
  spki: Uint8Array<ArrayBuffer>,
  pathLength: number | undefined,
): Promise<x509.Extension[]> {
  const { keyCertSign, cRLSign } = x509.KeyUsageFlags
  return [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
    new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }], false),
    await x509.SubjectKeyIdentifierExtension.create(spki),
  ]
}

/** The issuer's subject key identifier where it has one (it need not be the key's SHA-1), else made from its key. */
async function authorityKeyIdentifier(issuer: x509.X509Certificate): Promise<x509.Extension> {
  const own = issuer.getExtension(x509.SubjectKeyIdentifierExtension)
  return own === null
    ? x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey)
    : new x509.AuthorityKeyIdentifierExtension(own.keyId, false)
}
