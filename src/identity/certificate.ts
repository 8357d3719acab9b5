import type { Result } from '../lib/result.ts'
import { type AlgorithmIdentifier, type PublicKey, readAlgorithm, readPublicKey } from './algorithms.ts'
import { type Extensions, readExtensions } from './certificate-extensions.ts'
import { contextConstructed, contextTag, type DerReader, readDer, TAG } from './der.ts'

/**
 * What we read of an X.509 certificate (RFC 5280 section 4.1), by ourselves and from the DER: `X509Certificate` gives the
 * names as one escaped string, and nothing of criticality.
 */
export interface Certificate {
  readonly der: Uint8Array
  /** Hexadecimal, lower case. */
  readonly serial: string
  readonly signature: AlgorithmIdentifier
  /** DER of the names; compared byte by byte. */
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly notBeforeMs: number
  readonly notAfterMs: number
  readonly publicKey: PublicKey
  readonly extensions: Extensions
}

/** More than any certificate needs, and all that a TLS handshake would carry. */
const MAX_BYTES = 16 * 1024

/** Reads one certificate; the error says what is wrong with it. Never throws, whatever the bytes. */
export function parseCertificate(der: Uint8Array): Result<Certificate, string> {
  return readDer(der, (reader) => {
    if (der.length > MAX_BYTES) reader.refuse(`longer than ${MAX_BYTES} bytes`)
    return reader.within(TAG.sequence, (outer) => {
      const tbs = outer.within(TAG.sequence, readTbs)
      const algorithm = outer.element(TAG.sequence).whole
      if (!equalBytes(algorithm, tbs.algorithmBytes)) outer.refuse('two different signature algorithms')
      if (outer.bitString().unused !== 0) outer.refuse('a signature that is not whole bytes')
      const { algorithmBytes: _, ...fields } = tbs
      return { der, ...fields }
    })
  })
}

function readTbs(tbs: DerReader): Omit<Certificate, 'der'> & { readonly algorithmBytes: Uint8Array } {
  const version = tbs.optional(contextConstructed(0))
  // 02 01 02: INTEGER 2, which means v3; there are no extensions in anything older.
  if (version === undefined || !equalBytes(version.content, Uint8Array.of(2, 1, 2)))
    tbs.refuse('not X.509 version 3')
  const serial = Buffer.from(tbs.integer()).toString('hex')
  if (serial.length > 42) tbs.refuse('a serial number of more than 20 bytes')
  const algorithmBytes = tbs.element(TAG.sequence).whole
  const signature = readDer(algorithmBytes, readAlgorithm)
  if (!signature.ok) tbs.refuse(signature.error)
  const issuer = tbs.element(TAG.sequence).whole
  const [notBeforeMs, notAfterMs] = tbs.within(
    TAG.sequence,
    (validity) => [validity.time(), validity.time()] as const,
  )
  if (notAfterMs < notBeforeMs) tbs.refuse('a validity that ends before it begins')
  const subject = tbs.element(TAG.sequence).whole
  const publicKey = readPublicKey(tbs)
  // issuerUniqueID and subjectUniqueID: obsolete, allowed, ignored.
  tbs.optional(contextTag(1))
  tbs.optional(contextTag(2))
  const extensions = tbs.empty ? readExtensions(undefined) : tbs.within(contextConstructed(3), readExtensions)
  return {
    algorithmBytes,
    serial,
    signature: signature.value,
    issuer,
    notBeforeMs,
    notAfterMs,
    subject,
    publicKey,
    extensions,
  }
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
