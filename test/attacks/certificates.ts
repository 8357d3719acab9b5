// The clients of the attack catalogue: certificates that no decent CA would issue, nearly all of them by a CA that the gateway trusts.
import * as m from '../identity/mint.ts'

export const TRUST_DOMAIN = 'cluster-8.example'
const ID = `spiffe://${TRUST_DOMAIN}/ns/bookinfo/sa/sleep`
const OTHER = 'cluster-9.example'

export interface ClientCertificate {
  readonly row: number
  readonly title: string
  /** The leaf, and whatever else the client sends, PEM. Empty: none. */
  readonly cert: string
  readonly key: string
  readonly verdict: 'accept' | 'refuse'
  /** What Envoy's SPIFFE validator does. */
  readonly envoy: 'accept' | 'refuse'
}

/** The two CAs that the gateway trusts, each for its own trust domain, and the pool. Making it takes some hundred milliseconds, RSA keys most of it. */
export interface CertificatePool {
  readonly roots: readonly { readonly trustDomain: string; readonly bundlePem: string }[]
  /** CRL of the first one, PEM. */
  readonly crl: string
  readonly certificates: readonly ClientCertificate[]
  /** A good one. */
  readonly good: m.Minted
  /** As good, of a trust domain that no policy lets in. */
  readonly denied: m.Minted
  /** Of the trusted CA; random leaves are made with it. */
  readonly root: m.Minted
  readonly otherRoot: m.Minted
}

type Row = readonly [row: number, title: string, leaf: m.Minted, ...chain: m.Minted[]]

export function mintPool(): CertificatePool {
  const root = m.mintRoot('cluster-8 root')
  const otherRoot = m.mintRoot('cluster-9 root')
  const strangerRoot = m.mintRoot('stranger root')
  const good = m.mintLeaf(root, ID)
  const revoked = m.mintLeaf(root, ID)
  const revokedCa = m.mint({
    subject: 'revoked',
    keys: m.ecKeys(),
    issuer: root,
    extensions: m.caExtensions(0),
  })
  const leaf = (parts: m.LeafParts = {}, options: Partial<m.MintOptions> = {}) =>
    m.mintLeaf(root, ID, parts, options)
  const named = (...names: Uint8Array[]) => leaf({ names })
  const accepted: Row[] = [
    [29, 'a DNS SAN beside the URI', named(m.dnsName('sleep.bookinfo'), m.uriName(ID))],
    [34, 'clientAuth only', leaf({ extended: m.extendedKeyUsage(m.CLIENT_AUTH) })],
    [34, 'no extendedKeyUsage', leaf({ extended: undefined })],
    [36, 'an RSA key of 2048 bits', leaf({}, { keys: m.rsaKeys(2048) })],
    [36, 'a key on P-384', leaf({}, { keys: m.ecKeys('P-384') })],
    [36, 'an Ed25519 key', leaf({}, { keys: m.ed25519Keys() })],
  ]
  const hour = 3_600_000
  const now = Date.now()
  const refused: Row[] = [
    [26, 'expired', leaf({}, { notBefore: new Date(now - 2 * hour), notAfter: new Date(now - 1_000) })],
    [26, 'not valid yet', leaf({}, { notBefore: new Date(now + hour), notAfter: new Date(now + 2 * hour) })],
    [27, 'self-signed', m.mint({ subject: 'leaf', keys: m.ecKeys(), extensions: m.leafExtensions(ID) })],
    [27, 'an unknown CA', m.mintLeaf(strangerRoot, ID), strangerRoot],
    [27, "an unknown CA of the trusted CA's name", m.mintLeaf(m.mintRoot('cluster-8 root'), ID)],
    [27, 'signed by another leaf', m.mintLeaf(good, ID), good],
    [28, "a federated CA's, with another trust domain's id", m.mintLeaf(otherRoot, ID)],
    [28, 'a trust domain nobody knows', leaf({ names: [m.uriName('spiffe://cluster-7.example/ns/a/sa/b')] })],
    [29, 'two URI SANs of its trust domain', named(m.uriName(ID), m.uriName(`${ID}2`))],
    [
      29,
      'two URI SANs, the second of another trust domain',
      named(m.uriName(ID), m.uriName(`spiffe://${OTHER}/a`)),
    ],
    [
      29,
      'two URI SANs, the first of another trust domain',
      named(m.uriName(`spiffe://${OTHER}/a`), m.uriName(ID)),
    ],
    [30, 'no SAN, the id as common name', leaf({ names: [] }, { subject: ID })],
    [30, 'a DNS SAN only', named(m.dnsName('sleep.bookinfo'))],
    [30, 'the id as a DNS SAN', named(m.dnsName(ID))],
    [31, 'a CA certificate as leaf', leaf({ basic: m.basicConstraints(true), usage: m.keyUsage(0x86) })],
    [31, 'the trusted root itself', root],
    [31, 'keyCertSign', leaf({ usage: m.keyUsage(0x84) })],
    [31, 'cRLSign', leaf({ usage: m.keyUsage(0x82) })],
    [31, 'no keyUsage', leaf({ usage: undefined })],
    [31, 'a keyUsage that is not critical', leaf({ usage: m.keyUsage(0x80, false) })],
    [31, 'keyAgreement alone', leaf({ usage: m.keyUsage(0x08) })],
    ...badIds().map(([title, id]): Row => [32, title, named(m.uriName(id))]),
    [33, 'a NUL in the id', named(m.uriName(`spiffe://${TRUST_DOMAIN}\0.evil.example/a`))],
    [33, 'a comma and a second id in one URI', named(m.uriName(`spiffe://${OTHER}/a, URI:${ID}`))],
    [33, 'quotes around the id', named(m.uriName(`"${ID}"`))],
    [33, 'a DNS SAN that reads like a URI', named(m.dnsName(`x, URI:${ID}`))],
    [34, 'serverAuth only', leaf({ extended: m.extendedKeyUsage(m.SERVER_AUTH) })],
    [34, 'an intermediate for servers only', ...under(root, { more: [m.extendedKeyUsage(m.SERVER_AUTH)] })],
    [35, 'an intermediate below one that may have none', ...deep(root, 2, 0)],
    [35, 'fifteen intermediates', ...deep(root, 15)],
    [
      35,
      'a name constraint against its trust domain',
      ...under(root, { more: [constraint('cluster-1.example')] }),
    ],
    [35, 'an unknown critical extension', leaf({ more: [m.extension('1.2.3.4', true, m.integer(1))] })],
    [36, 'an RSA key of 1024 bits', leaf({}, { keys: m.rsaKeys(1024) })],
    [36, 'an RSA key of 2047 bits', leaf({}, { keys: m.rsaKeys(2047) })],
    [36, 'a key on secp256k1', leaf({}, { keys: m.ecKeys('secp256k1') })],
    [36, 'a key on P-192', leaf({}, { keys: m.ecKeys('prime192v1') })],
    [36, 'signed with SHA-1', leaf({}, { algorithm: m.SIGN.ecdsaSha1 })],
    [36, 'an intermediate with an RSA key of 1024 bits', ...weakIntermediate(root)],
    [36, 'an intermediate signed with SHA-1', ...under(root, { algorithm: m.SIGN.ecdsaSha1 })],
    [37, 'revoked by its issuer', revoked],
    [37, 'below a revoked intermediate', m.mintLeaf(revokedCa, ID), revokedCa],
    [38, 'the name of its issuer in capitals', m.mintLeaf({ ...root, subject: 'CLUSTER-8 ROOT' }, ID)],
  ]
  const entry =
    (verdict: 'accept' | 'refuse') =>
    ([row, title, own, ...chain]: Row): ClientCertificate => ({
      row,
      title,
      cert: [own, ...chain].map(({ pem }) => pem).join(''),
      key: own.keyPem,
      verdict,
      envoy: ENVOY_DIFFERS.has(title) ? (verdict === 'accept' ? 'refuse' : 'accept') : verdict,
    })
  return {
    roots: [
      { trustDomain: TRUST_DOMAIN, bundlePem: root.pem + revokedCa.pem },
      { trustDomain: OTHER, bundlePem: otherRoot.pem },
    ],
    crl: m.mintCrl({ issuer: root, revoked: [revoked, revokedCa] }).pem,
    certificates: [...accepted.map(entry('accept')), ...refused.map(entry('refuse'))],
    good,
    denied: m.mintLeaf(otherRoot, `spiffe://${OTHER}/ns/bookinfo/sa/sleep`),
    root,
    otherRoot,
  }
}

/** Where Envoy is laxer, and in one row stricter: its BoringSSL is not told of Ed25519. */
const ENVOY_DIFFERS: ReadonlySet<string> = new Set([
  'an Ed25519 key',
  'two URI SANs of its trust domain',
  'two URI SANs, the second of another trust domain',
  'a keyUsage that is not critical',
  'an empty path',
  'an empty segment',
  'two dots',
  'a percent sign',
  'a query',
  'a fragment',
  'more than 2048 bytes',
  'serverAuth only',
  'an intermediate for servers only',
  'fifteen intermediates',
  'an RSA key of 1024 bits',
  'an RSA key of 2047 bits',
  'signed with SHA-1',
  'an intermediate with an RSA key of 1024 bits',
  'an intermediate signed with SHA-1',
  'revoked by its issuer',
  'below a revoked intermediate',
  'the name of its issuer in capitals',
])

/** Ids that are nearly SPIFFE ids (SPIFFE-ID section 2), of a trust domain that the CA may speak for. */
function badIds(): (readonly [string, string])[] {
  const at = `spiffe://${TRUST_DOMAIN}`
  return [
    ['no path', at],
    ['an empty path', `${at}/`],
    ['an empty segment', `${at}//sa`],
    ['two dots', `${at}/ns/../sa`],
    ['a percent sign', `${at}/%72`],
    ['a query', `${at}/a?x=1`],
    ['a fragment', `${at}/a#b`],
    ['a port', `${at}:443/a`],
    ['a user', `spiffe://user@${TRUST_DOMAIN}/a`],
    ['a trust domain in capitals', ID.replace('cluster-8', 'CLUSTER-8')],
    ['another scheme', `https://${TRUST_DOMAIN}/a`],
    ['more than 2048 bytes', `${at}/${'a'.repeat(2048)}`],
  ]
}

function intermediate(
  issuer: m.Minted,
  subject: string,
  options: Partial<m.MintOptions>,
  ...more: Uint8Array[]
): m.Minted {
  return m.mint({ subject, keys: m.ecKeys(), issuer, extensions: [...m.caExtensions(), ...more], ...options })
}

function under(
  root: m.Minted,
  { more = [], ...options }: Partial<m.MintOptions> & { readonly more?: readonly Uint8Array[] },
): [m.Minted, m.Minted] {
  const between = intermediate(root, 'intermediate', options, ...more)
  return [m.mintLeaf(between, ID), between]
}

function weakIntermediate(root: m.Minted): [m.Minted, m.Minted] {
  const between = intermediate(root, 'weak intermediate', { keys: m.rsaKeys(1024) })
  return [m.mintLeaf(between, ID, {}, { algorithm: m.SIGN.rsaSha256 }), between]
}

/** A leaf below `count` intermediates; the first may have `pathLength` below it. */
function deep(root: m.Minted, count: number, pathLength?: number): [m.Minted, ...m.Minted[]] {
  const chain: m.Minted[] = []
  let issuer = root
  for (let i = 0; i < count; i += 1) {
    const extensions = m.caExtensions(i === 0 ? pathLength : undefined)
    issuer = m.mint({ subject: `intermediate ${i}`, keys: m.ecKeys(), issuer, extensions })
    chain.unshift(issuer)
  }
  return [m.mintLeaf(issuer, ID), ...chain]
}

/** Permits URIs of one host only (RFC 5280 section 4.2.1.10). */
function constraint(host: string): Uint8Array {
  const permitted = m.der(0xa0, m.sequence(m.text(0x86, host)))
  return m.extension('2.5.29.30', true, m.sequence(permitted))
}
