import { ok, type Result } from '../lib/result.ts'
import type { PublicKey } from './algorithms.ts'
import { openX509 } from './ca-certificate.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { checkLeaf } from './leaf-rules.ts'
import { formatLifetime } from './lifetime.ts'
import { printable } from './name-constraints.ts'
import { type PemBlock, parseCertificatesPem } from './pem.ts'

/** The certificates of a PEM text for people: one paragraph each, in their order. */
export function describeCertificates(pem: string, nowMs: number): Result<string, string> {
  const blocks = parseCertificatesPem(pem)
  if (!blocks.ok) return blocks
  return ok(blocks.value.map((block, index) => describe(block, index + 1, nowMs)).join('\n'))
}

function describe(block: PemBlock, number: number, nowMs: number): string {
  const parsed = parseCertificate(block.der)
  const x509 = openX509(block.der)
  if (!parsed.ok) return `  ${number}. cannot be read: ${parsed.error}`
  const certificate = parsed.value
  const uris = certificate.extensions.alternativeNames.filter(({ kind }) => kind === 'uri')
  const id = uris.map(({ value }) => (/^[\x21-\x7e]*$/.test(value) ? value : printable(value))).join(', ')
  const name = (text: string | undefined) => (text ?? '?').split('\n').reverse().join(', ') || '(empty)'
  const rows: [string, string][] = [
    ['id', id || '(none)'],
    ['subject', name(x509?.subject)],
    ['issuer', name(x509?.issuer)],
    ['key', describeKey(certificate.publicKey)],
    ['serial', certificate.serial],
    [
      'valid',
      `${day(certificate.notBeforeMs)} to ${day(certificate.notAfterMs)}, ${remaining(certificate, nowMs)}`,
    ],
  ]
  const lines = rows.map(([label, value]) => `     ${label.padEnd(9)}${value}`)
  return [`  ${number}. ${kindOf(certificate)}`, ...lines].join('\n')
}

function kindOf(certificate: Certificate): string {
  if (certificate.extensions.basicConstraints?.ca === true) {
    const selfIssued = Buffer.compare(certificate.issuer, certificate.subject) === 0
    return selfIssued ? 'root CA' : 'intermediate CA'
  }
  const verdict = checkLeaf(certificate, 'client')
  return verdict.ok ? 'SVID' : `leaf, no SVID: ${verdict.error.message}`
}

function remaining({ notBeforeMs, notAfterMs }: Certificate, nowMs: number): string {
  if (nowMs < notBeforeMs) return 'not valid yet'
  return nowMs > notAfterMs ? 'EXPIRED' : `${formatLifetime(notAfterMs - nowMs)} left`
}

function describeKey(key: PublicKey): string {
  switch (key.kind) {
    case 'ec':
      return `EC ${key.curve}`
    case 'rsa':
      return `RSA ${key.bits} bits`
    case 'ed25519':
      return 'Ed25519'
    case 'other':
      return key.oid
  }
}

const day = (ms: number): string => new Date(ms).toISOString().replace('.000Z', 'Z')
