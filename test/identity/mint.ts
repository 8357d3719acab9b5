import {
  constants,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto'
import { parseCertificate } from '../../src/identity/certificate.ts'

// A certificate maker that makes whatever it is told, right or wrong, byte by byte: the opposite of src/identity/ca.ts, and
// independent of it and of every X.509 library, so that tests can issue what no decent CA would; CRLs too.

export const bytes = (...parts: (number | Uint8Array)[]): Uint8Array =>
  Buffer.concat(parts.map((part) => (typeof part === 'number' ? Uint8Array.of(part) : part)))

/** One DER element. */
export function der(tag: number, ...content: Uint8Array[]): Uint8Array {
  const body = bytes(...content)
  const n = body.length
  if (n < 0x80) return bytes(tag, n, body)
  if (n < 0x100) return bytes(tag, 0x81, n, body)
  if (n < 0x10000) return bytes(tag, 0x82, n >> 8, n & 0xff, body)
  return bytes(tag, 0x83, n >> 16, (n >> 8) & 0xff, n & 0xff, body)
}
export const sequence = (...items: Uint8Array[]): Uint8Array => der(0x30, ...items)
export const text = (tag: number, value: string): Uint8Array => der(tag, Buffer.from(value, 'latin1'))
export const octets = (value: Uint8Array): Uint8Array => der(0x04, value)
export const bool = (value: boolean): Uint8Array => der(0x01, Uint8Array.of(value ? 0xff : 0))
export const integer = (value: number): Uint8Array => der(0x02, Uint8Array.of(value))
export const bits = (unused: number, ...value: number[]): Uint8Array =>
  der(0x03, Uint8Array.of(unused, ...value))

export function oid(dotted: string): Uint8Array {
  const [a = 0, b = 0, ...rest] = dotted.split('.').map(Number)
  const content = [a * 40 + b, ...rest].flatMap((arc) => {
    const groups = [arc & 0x7f]
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift((left & 0x7f) | 0x80)
    return groups
  })
  return der(0x06, Uint8Array.from(content))
}

export const name = (commonName: string): Uint8Array =>
  sequence(der(0x31, sequence(oid('2.5.4.3'), text(0x0c, commonName))))

export const extension = (id: string, critical: boolean, value: Uint8Array): Uint8Array =>
  sequence(oid(id), ...(critical ? [bool(true)] : []), octets(value))

export const uriName = (value: string): Uint8Array => text(0x86, value)
export const dnsName = (value: string): Uint8Array => text(0x82, value)
export const subjectAltName = (...names: Uint8Array[]): Uint8Array =>
  extension('2.5.29.17', false, sequence(...names))
export const basicConstraints = (ca: boolean, pathLength?: number): Uint8Array =>
  extension(
    '2.5.29.19',
    true,
    sequence(...(ca ? [bool(true)] : []), ...(pathLength === undefined ? [] : [integer(pathLength)])),
  )
/** The first byte of the bit string: 0x80 digitalSignature, 0x08 keyAgreement, 0x04 keyCertSign, 0x02 cRLSign. */
export const keyUsage = (flags: number, critical = true): Uint8Array => {
  const unused = flags === 0 ? 0 : Math.min(7, 31 - Math.clz32(flags & -flags))
  return extension('2.5.29.15', critical, flags === 0 ? bits(0) : bits(unused, flags))
}
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
export const extendedKeyUsage = (...usages: string[]): Uint8Array =>
  extension('2.5.29.37', false, sequence(...usages.map(oid)))

export interface Keys {
  readonly privateKey: KeyObject
  readonly spki: Uint8Array
}

export function ecKeys(namedCurve = 'P-256'): Keys {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve })
  return { privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) }
}
export function rsaKeys(modulusLength: number): Keys {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength })
  return { privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) }
}
export function ed25519Keys(): Keys {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  return { privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) }
}

export function dsaKeys(): Keys {
  const { publicKey, privateKey } = generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 })
  return { privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) }
}
/** An RSA key that says that it is for RSASSA-PSS. */
export function pssKeys(): Keys {
  const { publicKey, privateKey } = generateKeyPairSync('rsa-pss', { modulusLength: 2048 })
  return { privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) }
}
/** What reads like an RSA public key, made in no time; nobody has its private key. */
export function rsaNumber(bitLength: number, exponent = 65_537): Keys {
  const modulus = Buffer.concat([Buffer.of(0, 0xff), randomBytes(bitLength / 8 - 2), Buffer.of(1)])
  const number = exponent < 128 ? integer(exponent) : der(0x02, Uint8Array.of(1, 0, 1))
  const key = sequence(der(0x02, modulus), number)
  return {
    privateKey: ecKeys().privateKey,
    spki: sequence(sequence(oid('1.2.840.113549.1.1.1'), NULL), bits(0, ...key)),
  }
}
/** The same EC key with its point in compressed form (SEC 1 section 2.3.3). */
export function compressed({ privateKey, spki }: Keys): Keys {
  const point = spki.subarray(-65)
  const y = point.at(-1) ?? 0
  const short = bytes(2 + (y & 1), point.subarray(1, 33))
  const algorithm = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'))
  return { privateKey, spki: sequence(algorithm, bits(0, ...short)) }
}

const NULL = Uint8Array.of(5, 0)

export interface SigningAlgorithm {
  readonly identifier: Uint8Array
  readonly hash: string | null
  readonly pss?: boolean
}
const SHA1 = sequence(oid('1.3.14.3.2.26'), NULL)
const SHA256 = sequence(oid('2.16.840.1.101.3.4.2.1'), NULL)
const MGF1 = '1.2.840.113549.1.1.8'
const pssParameters = (...parts: Uint8Array[]) => sequence(oid('1.2.840.113549.1.1.10'), sequence(...parts))
const explicit = (n: number, value: Uint8Array) => der(0xa0 | n, value)
export const SIGN = {
  ecdsaSha256: { identifier: sequence(oid('1.2.840.10045.4.3.2')), hash: 'sha256' },
  ecdsaSha1: { identifier: sequence(oid('1.2.840.10045.4.1')), hash: 'sha1' },
  rsaSha256: { identifier: sequence(oid('1.2.840.113549.1.1.11'), NULL), hash: 'sha256' },
  rsaSha1: { identifier: sequence(oid('1.2.840.113549.1.1.5'), NULL), hash: 'sha1' },
  rsaMd5: { identifier: sequence(oid('1.2.840.113549.1.1.4'), NULL), hash: 'md5' },
  ed25519: { identifier: sequence(oid('1.3.101.112')), hash: null },
  pssSha256: {
    identifier: pssParameters(
      explicit(0, SHA256),
      explicit(1, sequence(oid(MGF1), SHA256)),
      explicit(2, integer(32)),
    ),
    hash: 'sha256',
    pss: true,
  },
  pssMaskSha1: {
    identifier: pssParameters(
      explicit(0, SHA256),
      explicit(1, sequence(oid(MGF1), SHA1)),
      explicit(2, integer(32)),
    ),
    hash: 'sha256',
    pss: true,
  },
  /** The defaults, which are SHA-1. */
  pssDefaults: { identifier: pssParameters(), hash: 'sha1', pss: true },
} satisfies Record<string, SigningAlgorithm>

export interface MintOptions {
  readonly subject: string
  /** The DER of another certificate's subject, in the place of `subject`. */
  readonly subjectDer?: Uint8Array | undefined
  readonly keys: Keys
  /** Default: itself. */
  readonly issuer?: Minted
  /** The DER of the issuer's name, in the place of one made of its `subject`. */
  readonly issuerDer?: Uint8Array
  readonly extensions?: readonly Uint8Array[]
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly algorithm?: SigningAlgorithm
  /** The algorithm named outside the signed part, where it shall differ. */
  readonly outerAlgorithm?: Uint8Array
  readonly version?: number
}

export interface Minted {
  readonly der: Uint8Array
  readonly pem: string
  readonly keyPem: string
  readonly subject: string
  readonly keys: Keys
}

export const time = (date: Date): Uint8Array =>
  text(0x18, `${date.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`)

let serial = 1

/** Makes and signs one certificate exactly as told. */
export function mint(options: MintOptions): Minted {
  const { subject, keys, issuer, extensions = [] } = options
  const algorithm: SigningAlgorithm = options.algorithm ?? SIGN.ecdsaSha256
  const now = Date.now()
  const signer = issuer?.keys ?? keys
  serial += 1
  const subjectName = options.subjectDer ?? name(subject)
  const tbs = sequence(
    ...((options.version ?? 3) === 3 ? [der(0xa0, integer(2))] : []),
    der(0x02, Uint8Array.of(0x10, serial >> 8, serial & 0xff)),
    algorithm.identifier,
    options.issuerDer ?? (issuer === undefined ? subjectName : name(issuer.subject)),
    sequence(
      time(options.notBefore ?? new Date(now - 60_000)),
      time(options.notAfter ?? new Date(now + 3_600_000)),
    ),
    subjectName,
    keys.spki,
    ...(extensions.length > 0 ? [der(0xa3, sequence(...extensions))] : []),
  )
  const padding = algorithm.pss && {
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: algorithm.hash === 'sha1' ? 20 : 32,
  }
  const signature = sign(algorithm.hash, tbs, { key: signer.privateKey, ...padding })
  const whole = sequence(tbs, options.outerAlgorithm ?? algorithm.identifier, bits(0, ...signature))
  return {
    der: whole,
    pem: toPem(whole),
    keyPem: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    subject,
    keys,
  }
}

export interface CrlOptions {
  readonly issuer: Minted
  /** The DER of the issuer's name, in the place of one made of its `subject`. */
  readonly issuerDer?: Uint8Array
  /** Certificates to revoke, or their serial numbers in DER. */
  readonly revoked?: readonly (Minted | Uint8Array)[]
  readonly thisUpdate?: Date
  /** `null` leaves it out. */
  readonly nextUpdate?: Date | null
  readonly extensions?: readonly Uint8Array[]
  /** Of every entry. */
  readonly entryExtensions?: readonly Uint8Array[]
  readonly algorithm?: SigningAlgorithm
  readonly version?: 1 | 2
  /** Signs in the issuer's place. */
  readonly signer?: Keys
}

/** The serial number in a certificate, as a DER INTEGER. */
export function serialOf({ der: whole }: Pick<Minted, 'der'>): Uint8Array {
  const certificate = parseCertificate(whole)
  if (!certificate.ok) throw new Error(certificate.error)
  return der(0x02, Buffer.from(certificate.value.serial, 'hex'))
}

/** Makes and signs one CRL exactly as told. */
export function mintCrl(options: CrlOptions): { readonly der: Uint8Array; readonly pem: string } {
  const { issuer, revoked = [], extensions = [], entryExtensions = [] } = options
  const algorithm: SigningAlgorithm = options.algorithm ?? SIGN.ecdsaSha256
  const now = Date.now()
  const entries = revoked.map((one) =>
    sequence(
      one instanceof Uint8Array ? one : serialOf(one),
      time(new Date(now - 30_000)),
      ...(entryExtensions.length > 0 ? [sequence(...entryExtensions)] : []),
    ),
  )
  const next = options.nextUpdate === undefined ? new Date(now + 3_600_000) : options.nextUpdate
  const tbs = sequence(
    ...(options.version === 1 ? [] : [integer(1)]),
    algorithm.identifier,
    options.issuerDer ?? name(issuer.subject),
    time(options.thisUpdate ?? new Date(now - 60_000)),
    ...(next === null ? [] : [time(next)]),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    ...(extensions.length > 0 ? [der(0xa0, sequence(...extensions))] : []),
  )
  const { privateKey } = options.signer ?? issuer.keys
  const signature = sign(algorithm.hash, tbs, { key: privateKey })
  const whole = sequence(tbs, algorithm.identifier, bits(0, ...signature))
  return { der: whole, pem: toPem(whole, 'X509 CRL') }
}

export function toPem(whole: Uint8Array, label = 'CERTIFICATE'): string {
  const lines =
    Buffer.from(whole)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

export const caExtensions = (pathLength?: number): Uint8Array[] => [
  basicConstraints(true, pathLength),
  keyUsage(0x06),
]

export function mintRoot(subject: string, options: Partial<MintOptions> = {}): Minted {
  return mint({ subject, keys: ecKeys(), extensions: caExtensions(), ...options })
}

/** What a good leaf has; each test leaves out or replaces one. */
export interface LeafParts {
  readonly names?: readonly Uint8Array[]
  readonly basic?: Uint8Array | undefined
  readonly usage?: Uint8Array | undefined
  readonly extended?: Uint8Array | undefined
  readonly more?: readonly Uint8Array[]
}

export function leafExtensions(id: string, parts: LeafParts = {}): Uint8Array[] {
  const names = parts.names ?? [uriName(id)]
  const basic = 'basic' in parts ? parts.basic : basicConstraints(false)
  const usage = 'usage' in parts ? parts.usage : keyUsage(0x80)
  const extended = 'extended' in parts ? parts.extended : extendedKeyUsage(SERVER_AUTH, CLIENT_AUTH)
  const san = names.length > 0 ? subjectAltName(...names) : undefined
  return [...[basic, usage, extended, san].filter((part) => part !== undefined), ...(parts.more ?? [])]
}

export function mintLeaf(
  issuer: Minted,
  id: string,
  parts: LeafParts = {},
  options: Partial<MintOptions> = {},
): Minted {
  return mint({ subject: 'leaf', keys: ecKeys(), issuer, extensions: leafExtensions(id, parts), ...options })
}

/** The bytes of the first certificate in a PEM text. */
export function firstDer(pem: string): Uint8Array {
  const base64 = /-----BEGIN CERTIFICATE-----([^-]+)-----END/.exec(pem)?.[1] ?? ''
  return Uint8Array.from(Buffer.from(base64, 'base64'))
}

export const keyFromPem = (pem: string): KeyObject => createPrivateKey(pem)
