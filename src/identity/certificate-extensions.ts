import { contextConstructed, contextTag, type DerReader, readDer, TAG } from './der.ts'

/** The extensions that decide about an SVID (RFC 5280 section 4.2), and whether there is a critical one we do not know. */
export interface Extensions {
  readonly basicConstraints: { readonly ca: boolean; readonly pathLength: number | undefined } | undefined
  readonly keyUsage: KeyUsage | undefined
  /** OIDs. */
  readonly extendedKeyUsage: readonly string[] | undefined
  /** In their order. */
  readonly alternativeNames: readonly GeneralName[]
  readonly nameConstraints: NameConstraints | undefined
  /** OIDs of critical extensions that nothing here decides by. */
  readonly unknownCritical: readonly string[]
}

export interface KeyUsage {
  readonly critical: boolean
  readonly digitalSignature: boolean
  readonly keyCertSign: boolean
  readonly crlSign: boolean
}

/** Only URIs and DNS names are read; of the other kinds we keep that they are there. */
export interface GeneralName {
  readonly kind: 'uri' | 'dns' | 'other'
  /** One character a byte, exactly as in the certificate: a NUL or a comma is just a character that no rule allows. */
  readonly value: string
}

export interface NameConstraints {
  readonly permitted: readonly GeneralName[]
  readonly excluded: readonly GeneralName[]
}

export const USAGE = {
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  any: '2.5.29.37.0',
} as const

const OID = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const

export interface Raw {
  readonly critical: boolean
  readonly value: Uint8Array
}

/** `Extensions ::= SEQUENCE OF Extension`; undefined stands for a certificate without any. */
export function readExtensions(reader: DerReader | undefined): Extensions {
  const raw = new Map<string, Raw>()
  for (const [oid, extension] of reader?.list(TAG.sequence, readExtension) ?? []) {
    if (raw.has(oid)) reader?.refuse(`the extension ${oid} twice`)
    raw.set(oid, extension)
  }
  const known: readonly string[] = Object.values(OID)
  const read = <T>(oid: string, decode: (inner: DerReader, extension: Raw) => T): T | undefined => {
    const extension = raw.get(oid)
    if (extension === undefined) return undefined
    const result = readDer(extension.value, (inner) => decode(inner, extension))
    return result.ok ? result.value : reader?.refuse(`the extension ${oid}: ${result.error}`)
  }
  return {
    basicConstraints: read(OID.basicConstraints, readBasicConstraints),
    keyUsage: read(OID.keyUsage, readKeyUsage),
    extendedKeyUsage: read(OID.extendedKeyUsage, (inner) => inner.list(TAG.sequence, (item) => item.oid())),
    alternativeNames: read(OID.subjectAltName, (inner) => inner.list(TAG.sequence, readGeneralName)) ?? [],
    nameConstraints: read(OID.nameConstraints, readNameConstraints),
    unknownCritical: [...raw]
      .filter(([oid, { critical }]) => critical && !known.includes(oid))
      .map(([oid]) => oid),
  }
}

export function readExtension(reader: DerReader): readonly [string, Raw] {
  return reader.within(TAG.sequence, (inner) => {
    const oid = inner.oid()
    const flag = inner.optional(TAG.boolean)
    // DEFAULT FALSE: DER leaves the default out, so the only boolean there may be is TRUE.
    if (flag !== undefined && (flag.content.length !== 1 || flag.content[0] !== 0xff)) {
      inner.refuse('a critical flag that is written but not true')
    }
    return [oid, { critical: flag !== undefined, value: inner.element(TAG.octetString).content }] as const
  })
}

function readBasicConstraints(reader: DerReader): Extensions['basicConstraints'] {
  return reader.within(TAG.sequence, (inner) => {
    // Some issuers write the default FALSE; it means the same.
    const flag = inner.optional(TAG.boolean)
    if (flag !== undefined && flag.content.length !== 1) inner.refuse('a CA flag of a wrong length')
    const ca = flag !== undefined && flag.content[0] !== 0
    return { ca, pathLength: inner.empty ? undefined : inner.smallInteger() }
  })
}

function readKeyUsage(reader: DerReader, { critical }: Raw): KeyUsage {
  const { bytes } = reader.bitString()
  const bit = (n: number): boolean => ((bytes[n >> 3] ?? 0) & (0x80 >> (n & 7))) !== 0
  return { critical, digitalSignature: bit(0), keyCertSign: bit(5), crlSign: bit(6) }
}

function readGeneralName(reader: DerReader): GeneralName {
  const { tag, content } = reader.element()
  const kind = tag === contextTag(6) ? 'uri' : tag === contextTag(2) ? 'dns' : 'other'
  return { kind, value: Buffer.from(content).toString('latin1') }
}

function readNameConstraints(reader: DerReader): NameConstraints {
  return reader.within(TAG.sequence, (inner) => {
    const subtrees = (tag: number): GeneralName[] => {
      const element = inner.optional(tag)
      if (element === undefined) return []
      const list = readDer(element.content, (items) => {
        const names: GeneralName[] = []
        while (!items.empty) names.push(readSubtree(items))
        return names
      })
      return list.ok ? list.value : inner.refuse(list.error)
    }
    return { permitted: subtrees(contextConstructed(0)), excluded: subtrees(contextConstructed(1)) }
  })
}

/** `minimum` and `maximum` have no use in RFC 5280 and are refused. */
function readSubtree(reader: DerReader): GeneralName {
  return reader.within(TAG.sequence, readGeneralName)
}
