import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto'

/** A new EC P-256 key. */
export function generateKeys(): { readonly spki: Uint8Array<ArrayBuffer>; readonly privateKeyPem: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    spki: Uint8Array.from(publicKey.export({ type: 'spki', format: 'der' })),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

/** 16 random bytes, positive, without a leading zero (RFC 5280 section 4.1.2.2). */
export function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes.toString('hex')
}

export interface Signer {
  readonly key: webcrypto.CryptoKey
  /** For WebCrypto's `sign`: the name and, for ECDSA, the hash. */
  readonly algorithm: { readonly name: string; readonly hash: string }
}

/** The signing key for WebCrypto, and what to sign with: an imported CA may be RSA or on another curve. */
export async function signer(privateKeyPem: string): Promise<Signer> {
  const key = createPrivateKey(privateKeyPem)
  const curve = createPublicKey(key).asymmetricKeyDetails?.namedCurve ?? ''
  const [name, hash, namedCurve] =
    SIGNERS[key.asymmetricKeyType === 'ec' ? curve : (key.asymmetricKeyType ?? '')] ?? []
  if (name === undefined || hash === undefined)
    throw new Error(`cannot sign with a key of the kind ${key.asymmetricKeyType} ${curve}`)
  const algorithm = namedCurve === undefined ? { name, hash } : { name, namedCurve }
  const der = key.export({ type: 'pkcs8', format: 'der' })
  return {
    key: await webcrypto.subtle.importKey('pkcs8', Uint8Array.from(der), algorithm, false, ['sign']),
    algorithm: { name, hash },
  }
}

/** By OpenSSL's curve or key type: WebCrypto's algorithm, the hash of a fitting strength, and its curve. */
const SIGNERS: Readonly<Record<string, readonly [name: string, hash: string, curve?: string]>> = {
  prime256v1: ['ECDSA', 'SHA-256', 'P-256'],
  secp384r1: ['ECDSA', 'SHA-384', 'P-384'],
  secp521r1: ['ECDSA', 'SHA-512', 'P-521'],
  rsa: ['RSASSA-PKCS1-v1_5', 'SHA-256'],
  ed25519: ['Ed25519', 'SHA-512'],
}
