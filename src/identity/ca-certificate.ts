import { hash, X509Certificate } from 'node:crypto'
import { fail, ok, type Result } from '../lib/result.ts'
import { publicKeyError, signatureError } from './algorithms.ts'
import { type Certificate, equalBytes, parseCertificate } from './certificate.ts'
import { USAGE } from './certificate-extensions.ts'
import type { PemBlock } from './pem.ts'

/** A certificate that may sign others. */
export interface CaCertificate {
  readonly certificate: Certificate
  readonly x509: X509Certificate
  /** SHA-256 of the DER, hexadecimal. */
  readonly fingerprint: string
  /** SHA-256 of its SubjectPublicKeyInfo, hexadecimal: the same for every certificate of this CA. */
  readonly publicKeyHash: string
  /** Signed by its own key: an end of chains. */
  readonly root: boolean
  readonly pem: string
}

/** The same certificate to OpenSSL, which knows how to verify a signature; undefined when it cannot read it. */
export function openX509(der: Uint8Array): X509Certificate | undefined {
  try {
    return new X509Certificate(der)
  } catch {
    return undefined
  }
}

export function fingerprintOf(der: Uint8Array): string {
  return hash('sha256', der, 'hex')
}

/** Reads a CA's certificate and holds it to RFC 5280: CA:TRUE, keyCertSign, strong algorithms, nothing critical unknown. */
export function parseCaCertificate(block: PemBlock): Result<CaCertificate, string> {
  const parsed = parseCertificate(block.der)
  if (!parsed.ok) return parsed
  const certificate = parsed.value
  const x509 = openX509(block.der)
  if (x509 === undefined) return fail('OpenSSL cannot read it')
  const error = caError(certificate)
  if (error !== undefined) return fail(error)
  const root = signedBy(certificate, x509, { certificate, x509 })
  let spki: Uint8Array
  try {
    spki = x509.publicKey.export({ type: 'spki', format: 'der' })
  } catch {
    return fail('OpenSSL cannot load its public key')
  }
  const [fingerprint, publicKeyHash] = [fingerprintOf(block.der), fingerprintOf(spki)]
  return ok({ certificate, x509, fingerprint, publicKeyHash, root, pem: block.text })
}

function caError({ extensions, publicKey, signature }: Certificate): string | undefined {
  if (extensions.basicConstraints?.ca !== true) return 'not a CA (basicConstraints CA:TRUE is missing)'
  if (extensions.keyUsage !== undefined && !extensions.keyUsage.keyCertSign)
    return 'its keyUsage lacks keyCertSign'
  const [unknown] = extensions.unknownCritical
  if (unknown !== undefined) return `an unknown critical extension ${unknown}`
  // Clusters are told apart by their CAs' keys: these must have one spelling, and an RSASSA-PSS key's parameters give it many.
  if (publicKey.kind === 'rsa' && publicKey.pss)
    return 'an RSASSA-PSS key; a CA needs a plain RSA or an EC key'
  return publicKeyError(publicKey) ?? signatureError(signature)
}

/** Whether the CA's name, key identifiers, key usage and key fit the certificate's signature (OpenSSL decides). */
export function signedBy(
  certificate: Certificate,
  x509: X509Certificate,
  issuer: Pick<CaCertificate, 'certificate' | 'x509'>,
): boolean {
  if (!equalBytes(certificate.issuer, issuer.certificate.subject)) return false
  try {
    return x509.checkIssued(issuer.x509) && x509.verify(issuer.x509.publicKey)
  } catch {
    // A key that OpenSSL cannot load signs nothing.
    return false
  }
}

/** Whether an extended key usage, where a certificate has one, lets it be used (or sign) for this side of TLS. */
export function usageAllowed(usages: readonly string[] | undefined, usage: 'client' | 'server'): boolean {
  if (usages === undefined) return true
  const wanted = usage === 'client' ? USAGE.clientAuth : USAGE.serverAuth
  return usages.includes(wanted) || usages.includes(USAGE.any)
}
