import { fail, ok, type Result } from '../lib/result.ts'
import { type AlgorithmIdentifier, readAlgorithm, signatureError } from './algorithms.ts'
import { equalBytes } from './certificate.ts'
import { readExtension } from './certificate-extensions.ts'
import { contextConstructed, type DerReader, readDer, TAG } from './der.ts'
import { parsePem } from './pem.ts'

/** A complete list of what one CA revoked (RFC 5280 section 5), read but not verified: see `revocation.ts`. */
export interface Crl {
  readonly der: Uint8Array
  /** As it was, with one newline at the end. */
  readonly pem: string
  /** What the signature covers. */
  readonly signed: Uint8Array
  readonly algorithm: AlgorithmIdentifier
  readonly signature: Uint8Array
  /** DER of the CA's name; compared byte by byte. */
  readonly issuer: Uint8Array
  readonly thisUpdateMs: number
  readonly nextUpdateMs: number
  /** Serial numbers, hexadecimal, lower case, as in `Certificate.serial`. */
  readonly revoked: ReadonlySet<string>
}

const OID = {
  reasonCode: '2.5.29.21',
  invalidityDate: '2.5.29.24',
  deltaCrlIndicator: '2.5.29.27',
  issuingDistributionPoint: '2.5.29.28',
  certificateIssuer: '2.5.29.29',
} as const

/** 02 01 01: INTEGER 1, which means v2. */
const VERSION_2 = Uint8Array.of(2, 1, 1)
/** All lists of a validation context together: one CA's may have ten thousands of entries. */
const MAX_BYTES = 16 * 1024 * 1024
/** How many lists are remembered: the next text has most of them again, and a long one takes some 50 ms to read. */
const REMEMBERED = 64
const remembered = new Map<string, Crl>()
/** ENUMERATED, which only the reason code uses. */
const ENUMERATED = 0x0a
const REMOVE_FROM_CRL = 8

/** The `X509 CRL` blocks of a PEM text, at least one. All or nothing: a list that is overlooked would let somebody back in. */
export function parseCrlsPem(text: string): Result<readonly Crl[], string> {
  const blocks = parsePem(text, MAX_BYTES)
  if (!blocks.ok) return blocks
  const crls: Crl[] = []
  for (const [index, { label, der, text: pem }] of blocks.value.entries()) {
    if (label !== 'X509 CRL') return fail(`holds a ${label}; only CRLs belong here`)
    const known = remembered.get(pem)
    const crl = known === undefined ? parseCrl(der) : ok(known)
    if (!crl.ok) return fail(`CRL ${index + 1}: ${crl.error}`)
    crls.push(known ?? remember({ ...crl.value, pem }))
  }
  return crls.length === 0 ? fail('holds no CRL (PEM, "-----BEGIN X509 CRL-----")') : ok(crls)
}

function remember(crl: Crl): Crl {
  remembered.set(crl.pem, crl)
  const [oldest] = remembered.keys()
  if (remembered.size > REMEMBERED && oldest !== undefined) remembered.delete(oldest)
  return crl
}

/**
 * Reads one CertificateList, version 1 or 2. Never throws, whatever the bytes. What is not the whole truth about its CA is
 * refused by name: delta and indirect CRLs, those of one distribution point, and any with a critical extension, since section 5.2
 * forbids to use such a list at all. Without `nextUpdate`, which section 5.1.2.5 demands, an old list looks like a new one.
 */
export function parseCrl(der: Uint8Array): Result<Omit<Crl, 'pem'>, string> {
  return readDer(der, (reader) =>
    reader.within(TAG.sequence, (outer) => {
      const tbs = outer.element(TAG.sequence)
      const algorithmBytes = outer.element(TAG.sequence).whole
      const { bytes: signature, unused } = outer.bitString()
      if (unused !== 0) outer.refuse('a signature that is not whole bytes')
      const fields = readDer(tbs.whole, (list) => list.within(TAG.sequence, readTbs))
      if (!fields.ok) return outer.refuse(fields.error)
      const { algorithmBytes: inner, ...rest } = fields.value
      if (!equalBytes(inner, algorithmBytes)) outer.refuse('two different signature algorithms')
      return { der, signed: tbs.whole, signature, ...rest }
    }),
  )
}

type Fields = Pick<Crl, 'algorithm' | 'issuer' | 'thisUpdateMs' | 'nextUpdateMs' | 'revoked'>

function readTbs(tbs: DerReader): Fields & { readonly algorithmBytes: Uint8Array } {
  const version = tbs.optional(TAG.integer)
  if (version !== undefined && !equalBytes(version.whole, VERSION_2)) tbs.refuse('not version 1 or 2')
  const algorithmBytes = tbs.element(TAG.sequence).whole
  const algorithm = readDer(algorithmBytes, readAlgorithm)
  if (!algorithm.ok) return tbs.refuse(algorithm.error)
  const weak = signatureError(algorithm.value)
  if (weak !== undefined) tbs.refuse(weak)
  const issuer = tbs.element(TAG.sequence).whole
  const thisUpdateMs = tbs.time()
  const next = tbs.optional(TAG.utcTime) ?? tbs.optional(TAG.generalizedTime)
  if (next === undefined) return tbs.refuse('no nextUpdate: nobody could tell when it is too old')
  const nextUpdate = readDer(next.whole, (reader) => reader.time())
  if (!nextUpdate.ok) return tbs.refuse(nextUpdate.error)
  if (nextUpdate.value < thisUpdateMs) tbs.refuse('a nextUpdate before its thisUpdate')
  const hasEntries = !tbs.empty && !tbs.at(contextConstructed(0))
  const revoked = hasEntries ? tbs.list(TAG.sequence, readEntry, 0) : []
  if (!tbs.empty) {
    if (version === undefined) tbs.refuse('extensions in version 1')
    for (const [oid, critical] of tbs.within(contextConstructed(0), readExtensions))
      checkList(tbs, oid, critical)
  }
  return {
    algorithmBytes,
    algorithm: algorithm.value,
    issuer,
    thisUpdateMs,
    nextUpdateMs: nextUpdate.value,
    revoked: new Set(revoked),
  }
}

/** One revoked certificate's serial number. Every reason counts, `certificateHold` too: what is on hold is not to be used. */
function readEntry(reader: DerReader): string {
  return reader.within(TAG.sequence, (entry) => {
    const serial = Buffer.from(entry.integer()).toString('hex')
    if (serial.length > 42) entry.refuse('a serial number of more than 20 bytes')
    // When it was revoked decides nothing: that it is a time is enough.
    if (entry.optional(TAG.utcTime) === undefined) entry.element(TAG.generalizedTime)
    for (const extension of entry.empty ? [] : readExtensions(entry)) checkEntry(entry, ...extension)
    return serial
  })
}

/** `[oid, critical, value]` of each. */
function readExtensions(reader: DerReader): (readonly [string, boolean, Uint8Array])[] {
  const found = reader.list(TAG.sequence, readExtension)
  if (new Set(found.map(([oid]) => oid)).size !== found.length) reader.refuse('an extension twice')
  return found.map(([oid, { critical, value }]) => [oid, critical, value] as const)
}

function checkList(reader: DerReader, oid: string, critical: boolean): void {
  if (oid === OID.deltaCrlIndicator) reader.refuse('a delta CRL; a complete one is needed')
  if (oid === OID.issuingDistributionPoint) {
    reader.refuse(
      'a partial or indirect CRL (issuingDistributionPoint); a complete one of the CA itself is needed',
    )
  }
  if (critical) reader.refuse(`an unknown critical extension ${oid}`)
}

function checkEntry(reader: DerReader, oid: string, critical: boolean, value: Uint8Array): void {
  if (oid === OID.certificateIssuer)
    reader.refuse('an indirect CRL (certificateIssuer); one of the CA itself is needed')
  if (oid === OID.reasonCode) {
    const reason = readDer(value, (inner) => inner.element(ENUMERATED).content)
    if (!reason.ok || reason.value.length !== 1) reader.refuse('a reason code that is none')
    else if (reason.value[0] === REMOVE_FROM_CRL)
      reader.refuse('a removeFromCRL entry, which only a delta CRL may have')
    return
  }
  if (critical && oid !== OID.invalidityDate)
    reader.refuse(`an unknown critical extension ${oid} of an entry`)
}
