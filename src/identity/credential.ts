import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { inspect } from 'node:util'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { openX509 } from './ca-certificate.ts'
import { parseCertificate } from './certificate.ts'
import { checkLeaf } from './leaf-rules.ts'
import { type PemBlock, parseCertificatesPem } from './pem.ts'
import type { SpiffeId } from './spiffe-id.ts'

interface CredentialFields {
  readonly certificatePem: string
  readonly privateKeyPem: string
  readonly id: SpiffeId
  readonly notBeforeMs: number
  readonly notAfterMs: number
}

/** An X.509-SVID with its key. Made by `parseCredential`; prints without the key, however it is printed. */
export class Credential {
  /** The leaf, then the intermediates. */
  readonly certificatePem: string
  readonly id: SpiffeId
  readonly notBeforeMs: number
  readonly notAfterMs: number
  readonly #privateKeyPem: string

  constructor(fields: CredentialFields) {
    this.certificatePem = fields.certificatePem
    this.id = fields.id
    this.notBeforeMs = fields.notBeforeMs
    this.notAfterMs = fields.notAfterMs
    this.#privateKeyPem = fields.privateKeyPem
  }

  get privateKeyPem(): string {
    return this.#privateKeyPem
  }

  toJSON(): Record<string, unknown> {
    return {
      id: this.id.uri,
      notBefore: new Date(this.notBeforeMs).toISOString(),
      notAfter: new Date(this.notAfterMs).toISOString(),
    }
  }

  [inspect.custom](): string {
    return `Credential ${JSON.stringify(this)}`
  }
}

/**
 * Reads a certificate chain and its key, in PEM, and refuses what our own peers would refuse: a leaf that is no SVID for
 * both sides of TLS, a key that does not fit, a chain out of order. `object` names the input, `certs` or
 * `Secret/bookinfo/gateway-certs`; `fields` the fields in it, by default those of a `kubernetes.io/tls` Secret. Dates are the caller's
 * to judge.
 */
export function parseCredential(
  certificatePem: string,
  keyPem: string,
  object: string,
  fields = { certificate: 'tls.crt', privateKey: 'tls.key' },
): Result<Credential, Problem> {
  const chainFault = (message: string) => fail(problem(object, fields.certificate, message))
  const blocks = parseCertificatesPem(certificatePem)
  if (!blocks.ok) return chainFault(blocks.error)
  const [leafBlock] = blocks.value
  const parsed = parseCertificate(leafBlock?.der ?? new Uint8Array())
  if (!parsed.ok) return chainFault(`its first certificate cannot be read: ${parsed.error}`)
  const leaf = parsed.value
  const asClient = checkLeaf(leaf, 'client')
  const verdict = asClient.ok ? checkLeaf(leaf, 'server') : asClient
  if (!verdict.ok)
    return chainFault(`its first certificate is no SVID that peers would take: ${verdict.error.message}`)
  const x509 = openX509(leaf.der)
  if (x509 === undefined) return chainFault('OpenSSL cannot read its first certificate')
  const key = openPrivateKey(keyPem)
  const keyFault = (message: string) => fail(problem(object, fields.privateKey, message))
  if (key === undefined) return keyFault('not an unencrypted private key in PEM')
  if (!x509.checkPrivateKey(key))
    return keyFault(`the key does not belong to the certificate in ${fields.certificate}`)
  const broken = chainError(blocks.value)
  if (broken !== undefined) return chainFault(broken)
  const { notBeforeMs, notAfterMs } = leaf
  const chain = blocks.value.map(({ text }) => text).join('')
  return ok(
    new Credential({
      certificatePem: chain,
      privateKeyPem: keyPem,
      id: verdict.value,
      notBeforeMs,
      notAfterMs,
    }),
  )
}

/** Each certificate after the first must have signed the one before it. */
function chainError(blocks: readonly PemBlock[]): string | undefined {
  for (const [index, { der }] of blocks.entries()) {
    const x509 = openX509(der)
    if (x509 === undefined) return `certificate ${index + 1} cannot be read`
    const below = index === 0 ? undefined : new X509Certificate(blocks[index - 1]?.der ?? der)
    if (below !== undefined && !(below.checkIssued(x509) && below.verify(x509.publicKey))) {
      return `certificate ${index + 1} did not sign certificate ${index}; the order is leaf, then its issuers`
    }
  }
  return undefined
}

/** A private key in PEM, in any form OpenSSL reads; undefined when it is none, or encrypted. */
export function openPrivateKey(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem)
  } catch {
    return undefined
  }
}

/** DER of the certificate itself, without its chain. */
export function leafOf({ certificatePem }: Pick<Credential, 'certificatePem'>): Uint8Array {
  const blocks = parseCertificatesPem(certificatePem)
  return (blocks.ok ? blocks.value[0]?.der : undefined) ?? new Uint8Array()
}
