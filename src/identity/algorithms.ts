import { constants, type KeyObject, verify } from 'node:crypto'
import { contextConstructed, DerReader, readDer, TAG } from './der.ts'

// What may sign and what may be signed: an allow list, because the TLS library under us differs (BoringSSL takes an
// RSA-1024 leaf and SHA-1, OpenSSL at its default security level does not) and a gateway must not.

export interface AlgorithmIdentifier {
  readonly oid: string
  /** The whole DER element of the parameters. */
  readonly parameters: Uint8Array | undefined
}

export type PublicKey =
  | { readonly kind: 'ec'; readonly curve: string; readonly compressed: boolean }
  /** `pss`: a key that says that it signs with RSASSA-PSS only (RFC 4055 section 1.2). */
  | { readonly kind: 'rsa'; readonly bits: number; readonly exponent: number; readonly pss: boolean }
  | { readonly kind: 'ed25519' }
  | { readonly kind: 'other'; readonly oid: string }

/** Named curves by OID (RFC 5480 section 2.1.1.1). */
const CURVES: Readonly<Record<string, string>> = {
  '1.2.840.10045.3.1.7': 'P-256',
  '1.3.132.0.34': 'P-384',
  '1.3.132.0.35': 'P-521',
}
const EC_PUBLIC_KEY = '1.2.840.10045.2.1'
const RSA_ENCRYPTION = '1.2.840.113549.1.1.1'
const RSASSA_PSS = '1.2.840.113549.1.1.10'
const MGF1 = '1.2.840.113549.1.1.8'
const ED25519 = '1.3.101.112'
/** SEC 1 section 2.3.3: the first byte of a point written whole. */
const UNCOMPRESSED = 4
const MIN_RSA_BITS = 2048
/** A verification costs the square of the modulus: more would let a peer buy our time. */
const MAX_RSA_BITS = 4096

/** Signature algorithms without parameters of their own (RSA's have a NULL) (RFC 5758, RFC 8017, RFC 8410). */
const SIGNATURES: Readonly<
  Record<
    string,
    { readonly name: string; readonly key: 'ec' | 'rsa' | 'ed25519'; readonly hash: string | null }
  >
> = {
  '1.2.840.10045.4.3.2': { name: 'ECDSA with SHA-256', key: 'ec', hash: 'sha256' },
  '1.2.840.10045.4.3.3': { name: 'ECDSA with SHA-384', key: 'ec', hash: 'sha384' },
  '1.2.840.10045.4.3.4': { name: 'ECDSA with SHA-512', key: 'ec', hash: 'sha512' },
  '1.2.840.113549.1.1.11': { name: 'RSA with SHA-256', key: 'rsa', hash: 'sha256' },
  '1.2.840.113549.1.1.12': { name: 'RSA with SHA-384', key: 'rsa', hash: 'sha384' },
  '1.2.840.113549.1.1.13': { name: 'RSA with SHA-512', key: 'rsa', hash: 'sha512' },
  [ED25519]: { name: 'Ed25519', key: 'ed25519', hash: null },
}
const SHA2: Readonly<Record<string, string>> = {
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
}

export function readAlgorithm(reader: DerReader): AlgorithmIdentifier {
  return reader.within(TAG.sequence, (inner) => ({
    oid: inner.oid(),
    parameters: inner.empty ? undefined : inner.element().whole,
  }))
}

/** SubjectPublicKeyInfo. */
export function readPublicKey(reader: DerReader): PublicKey {
  return reader.within(TAG.sequence, (inner) => {
    const { oid, parameters } = readAlgorithm(inner)
    const { bytes, unused } = inner.bitString()
    if (unused !== 0) inner.refuse('a public key that is not whole bytes')
    if (oid === ED25519) return { kind: 'ed25519' }
    if (oid === EC_PUBLIC_KEY) {
      const curve = parameters === undefined ? undefined : readDer(parameters, (p) => p.oid())
      const name = curve?.ok ? (CURVES[curve.value] ?? curve.value) : 'explicit parameters'
      return { kind: 'ec', curve: name, compressed: bytes[0] !== UNCOMPRESSED }
    }
    if (oid !== RSA_ENCRYPTION && oid !== RSASSA_PSS) return { kind: 'other', oid }
    return new DerReader(bytes).within(TAG.sequence, (key) => {
      const modulus = key.integer()
      const leading = modulus[0] === 0 ? modulus.subarray(1) : modulus
      const bits = leading.length * 8 - Math.clz32(leading[0] ?? 0) + 24
      return { kind: 'rsa', bits, exponent: key.smallInteger(), pss: oid === RSASSA_PSS }
    })
  })
}

/** Why a key may not be used, or undefined. */
export function publicKeyError(key: PublicKey): string | undefined {
  switch (key.kind) {
    case 'ed25519':
      return undefined
    case 'ec':
      if (!Object.values(CURVES).includes(key.curve))
        return `an EC key on ${key.curve}; P-256, P-384 or P-521 is needed`
      return key.compressed ? 'an EC key in compressed form; keys have one spelling here' : undefined
    case 'rsa':
      if (key.bits < MIN_RSA_BITS || key.bits > MAX_RSA_BITS) {
        return `an RSA key of ${key.bits} bits; ${MIN_RSA_BITS} to ${MAX_RSA_BITS} are allowed`
      }
      return key.exponent < 3 || key.exponent % 2 === 0
        ? `an RSA key with the exponent ${key.exponent}`
        : undefined
    case 'other':
      return `a key of the kind ${key.oid}; EC, RSA or Ed25519 is needed`
  }
}

/** Why a signature algorithm may not be used, or undefined. */
export function signatureError(algorithm: AlgorithmIdentifier): string | undefined {
  if (algorithm.oid === RSASSA_PSS) return pssError(algorithm.parameters)
  const known = SIGNATURES[algorithm.oid]
  if (known === undefined) {
    return `it is signed with ${algorithm.oid}; ECDSA or RSA with SHA-256, -384 or -512, RSA-PSS or Ed25519 is needed`
  }
  const { parameters } = algorithm
  const isNull = parameters !== undefined && parameters.length === 2 && parameters[0] === TAG.null
  const right = parameters === undefined || (known.key === 'rsa' && isNull)
  return right ? undefined : `its signature algorithm (${known.name}) has parameters`
}

/** RSASSA-PSS-params (RFC 4055 section 3.1): the defaults are SHA-1, so hash and mask must be named, the same, and SHA-2. */
function pssError(parameters: Uint8Array | undefined): string | undefined {
  const read = readPss(parameters)
  if (read === undefined) return 'its RSA-PSS parameters do not name a SHA-2 hash'
  const { hash, mask, maskHash } = read
  return hash in SHA2 && mask === MGF1 && maskHash === hash
    ? undefined
    : 'its RSA-PSS parameters are not one SHA-2 hash for both message and mask'
}

function readPss(parameters: Uint8Array | undefined) {
  const read = readDer(parameters ?? new Uint8Array(), (reader) =>
    reader.within(TAG.sequence, (inner) => {
      const hash = inner.within(contextConstructed(0), readAlgorithm).oid
      const mask = inner.within(contextConstructed(1), readAlgorithm)
      const maskHash = readDer(mask.parameters ?? new Uint8Array(), readAlgorithm)
      inner.optional(contextConstructed(2))
      if (inner.optional(contextConstructed(3)) !== undefined) inner.refuse('a trailer field')
      return { hash, mask: mask.oid, maskHash: maskHash.ok ? maskHash.value.oid : '' }
    }),
  )
  return read.ok ? read.value : undefined
}

/**
 * Whether `key` made `signature` over `bytes` with an algorithm that `signatureError` allows. False also for a key of another kind
 * than the algorithm's, and for one that OpenSSL cannot use.
 */
export function verifySignature(
  algorithm: AlgorithmIdentifier,
  key: KeyObject,
  bytes: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (signatureError(algorithm) !== undefined) return false
  try {
    if (algorithm.oid === RSASSA_PSS) {
      if (!key.asymmetricKeyType?.startsWith('rsa')) return false
      const hash = SHA2[readPss(algorithm.parameters)?.hash ?? ''] ?? ''
      const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_AUTO: saltLength } = constants
      return verify(hash, bytes, { key, padding, saltLength }, signature)
    }
    const known = SIGNATURES[algorithm.oid]
    return known?.key === key.asymmetricKeyType && verify(known?.hash, bytes, key, signature)
  } catch {
    return false
  }
}
