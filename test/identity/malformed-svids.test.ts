// Every row of the SVID catalogue, issued for real by a CA that the verifier trusts: what is wrong is in the leaf alone.
import t from 'tap'
import type { SvidRefusalCode } from '../../src/identity/leaf-rules.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { verifySvid } from '../../src/identity/verify-svid.ts'
import * as m from './mint.ts'
import { type Asked, noBun, sameOnBun } from './on-bun.ts'

const TRUST_DOMAIN = 'c1.example'
const ID = `spiffe://${TRUST_DOMAIN}/ns/bookinfo/sa/sleep`
const root = m.mintRoot('root')
const now = Date.now()

function bundlesOf(...cas: m.Minted[]): TrustBundles {
  const parsed = TrustBundle.parse(TRUST_DOMAIN, cas.map(({ pem }) => pem).join(''), 'ca.crt')
  if (!parsed.ok) throw new Error(parsed.error.message)
  return new TrustBundles([parsed.value])
}
const bundles = bundlesOf(root)
const asked: Asked[] = []
const verdictOf = (
  leaf: Pick<m.Minted, 'der'>,
  usage: 'client' | 'server' = 'client',
  trusted = bundles,
): string => {
  const result = verifySvid(leaf.der, trusted, now, usage)
  const verdict = result.ok ? 'ok' : result.error.code
  asked.push({
    leaf: Buffer.from(leaf.der).toString('base64'),
    trustDomain: TRUST_DOMAIN,
    bundle: trusted.get(TRUST_DOMAIN)?.pem ?? '',
    crl: '',
    usage,
    mode: 'soft-fail',
    nowMs: now,
    verdict,
  })
  return verdict
}

t.test('good leaves are good', async (t) => {
  const leaf = m.mintLeaf(root, ID)
  const verdict = verifySvid(leaf.der, bundles, now)
  if (!verdict.ok) throw new Error(verdict.error.message)
  t.match(verdict.value.id, { trustDomain: TRUST_DOMAIN, path: '/ns/bookinfo/sa/sleep', uri: ID })
  t.match(verdict.value.fingerprint, /^[0-9a-f]{64}$/)
  const good: [string, m.LeafParts][] = [
    ['DNS SANs beside the URI', { names: [m.dnsName('sleep.bookinfo'), m.uriName(ID), m.dnsName('*.x')] }],
    ['no extendedKeyUsage', { extended: undefined }],
    ['no basicConstraints', { basic: undefined }],
    ['clientAuth only, as a client', { extended: m.extendedKeyUsage(m.CLIENT_AUTH) }],
    ['anyExtendedKeyUsage', { extended: m.extendedKeyUsage('2.5.29.37.0') }],
    ['digitalSignature and keyAgreement', { usage: m.keyUsage(0x88) }],
    ['an unknown extension that is not critical', { more: [m.extension('1.2.3.4', false, m.integer(1))] }],
  ]
  for (const [what, parts] of good) t.equal(verdictOf(m.mintLeaf(root, ID, parts)), 'ok', what)
  for (const keys of [m.ecKeys('P-384'), m.ecKeys('P-521'), m.rsaKeys(2048), m.ed25519Keys()]) {
    t.equal(verdictOf(m.mintLeaf(root, ID, {}, { keys })), 'ok', `${keys.privateKey.asymmetricKeyType} key`)
  }
})

const two = [m.uriName(ID), m.uriName(`spiffe://${TRUST_DOMAIN}/ns/x/sa/y`)]
const rows: readonly [
  what: string,
  code: SvidRefusalCode,
  parts: m.LeafParts,
  options?: Partial<m.MintOptions>,
][] = [
  ['no SAN at all, the id as CN', 'no_spiffe_id', { names: [] }, { subject: ID }],
  ['only a DNS SAN', 'no_spiffe_id', { names: [m.dnsName('sleep')] }],
  ['a DNS SAN that reads like a URI', 'no_spiffe_id', { names: [m.dnsName(`x, URI:${ID}`)] }],
  ['the id in an e-mail SAN', 'no_spiffe_id', { names: [m.text(0x81, ID)] }],
  ['two URI SANs', 'several_uri_sans', { names: two }],
  ['the same URI SAN twice', 'several_uri_sans', { names: [m.uriName(ID), m.uriName(ID)] }],
  [
    'a second URI SAN that is no SPIFFE id',
    'several_uri_sans',
    { names: [m.uriName(ID), m.uriName('https://x')] },
  ],
  ['two SAN extensions', 'malformed', { more: [m.subjectAltName(m.uriName(ID))] }],
  ['an empty SAN list', 'malformed', { names: [], more: [m.subjectAltName()] }],
  ['a CA certificate as leaf', 'is_ca', { basic: m.basicConstraints(true) }],
  ['keyCertSign', 'key_usage', { usage: m.keyUsage(0x84) }],
  ['cRLSign', 'key_usage', { usage: m.keyUsage(0x82) }],
  ['no keyUsage', 'key_usage', { usage: undefined }],
  ['keyUsage not critical', 'key_usage', { usage: m.keyUsage(0x80, false) }],
  ['keyAgreement only', 'key_usage', { usage: m.keyUsage(0x08) }],
  ['an empty keyUsage', 'key_usage', { usage: m.keyUsage(0) }],
  ['serverAuth only, as a client', 'extended_key_usage', { extended: m.extendedKeyUsage(m.SERVER_AUTH) }],
  ['codeSigning only', 'extended_key_usage', { extended: m.extendedKeyUsage('1.3.6.1.5.5.7.3.3') }],
  [
    'an unknown critical extension',
    'unknown_critical_extension',
    { more: [m.extension('1.2.3.4', true, m.integer(1))] },
  ],
  ['an RSA key of 2047 bits', 'weak_algorithm', {}, { keys: m.rsaKeys(2047) }],
  ['an RSA key of 1024 bits', 'weak_algorithm', {}, { keys: m.rsaKeys(1024) }],
  ['a key on secp256k1', 'weak_algorithm', {}, { keys: m.ecKeys('secp256k1') }],
  ['a key on P-192', 'weak_algorithm', {}, { keys: m.ecKeys('prime192v1') }],
  ['an RSA key of 512 bits', 'weak_algorithm', {}, { keys: m.rsaKeys(512) }],
  ['an RSA key of 4104 bits', 'weak_algorithm', {}, { keys: m.rsaNumber(4104) }],
  ['an RSA key of 16,384 bits', 'weak_algorithm', {}, { keys: m.rsaNumber(16_384) }],
  ['an RSA key with the exponent 1', 'weak_algorithm', {}, { keys: m.rsaNumber(2048, 1) }],
  ['a DSA key', 'weak_algorithm', {}, { keys: m.dsaKeys() }],
  ['an EC key in compressed form', 'weak_algorithm', {}, { keys: m.compressed(m.ecKeys()) }],
  ['signed with SHA-1', 'weak_algorithm', {}, { algorithm: m.SIGN.ecdsaSha1 }],
  ['another signature algorithm outside', 'malformed', {}, { outerAlgorithm: m.SIGN.ecdsaSha1.identifier }],
  ['version 1', 'malformed', {}, { version: 1 }],
  ['expired a second ago', 'expired', {}, { notAfter: new Date(now - 1000) }],
  ['valid from in six minutes', 'not_yet_valid', {}, { notBefore: new Date(now + 6 * 60_000) }],
  ['ends before it begins', 'malformed', {}, { notBefore: new Date(now), notAfter: new Date(now - 5000) }],
]

t.test('malformed and rule-breaking leaves are refused, each for its own reason', async (t) => {
  for (const [what, code, parts, options] of rows) {
    t.equal(verdictOf(m.mintLeaf(root, ID, parts, options)), code, what)
  }
  t.equal(
    verdictOf(m.mintLeaf(root, ID, { extended: m.extendedKeyUsage(m.CLIENT_AUTH) }), 'server'),
    'extended_key_usage',
  )
  t.equal(
    verdictOf(m.mintLeaf(root, ID, {}, { notBefore: new Date(now + 4 * 60_000) })),
    'ok',
    'four minutes of skew',
  )
})

t.test('ids that are not exactly a SPIFFE id of a workload', async (t) => {
  const at = `spiffe://${TRUST_DOMAIN}`
  const ids = [
    at,
    `${at}/`,
    `${at}/a/`,
    `${at}//a`,
    `${at}/a/../b`,
    `${at}/..`,
    `${at}/.`,
    `${at}/a%2fb`,
    `${at}/%72`,
    `${at}/a?x=1`,
    `${at}/a#b`,
    `${at}:443/a`,
    `spiffe://user@${TRUST_DOMAIN}/a`,
    'spiffe://C1.example/a',
    `SPIFFE://${TRUST_DOMAIN}/a`,
    `https://${TRUST_DOMAIN}/a`,
    'spiffe:///a',
    `${at}/${'a'.repeat(2048)}`,
    `${ID}\0`,
    `${at}\0.evil.example/a`,
    `${ID},URI:spiffe://other/x`,
    `"${ID}"`,
    `${ID} `,
    `${at}/n\u00e9`,
    '',
  ]
  for (const id of ids)
    t.equal(verdictOf(m.mintLeaf(root, id)), 'bad_spiffe_id', JSON.stringify(id.slice(0, 60)))
})

t.test('who may sign', async (t) => {
  const issuing = m.mint({
    subject: 'issuing',
    keys: m.ecKeys(),
    issuer: root,
    extensions: m.caExtensions(0),
  })
  const both = bundlesOf(root, issuing)
  t.equal(verdictOf(m.mintLeaf(issuing, ID), 'client', both), 'ok', 'an intermediate in the bundle')
  t.equal(verdictOf(m.mintLeaf(issuing, ID)), 'untrusted', 'an intermediate that is not in the bundle')
  t.equal(verdictOf(m.mintLeaf(m.mintLeaf(root, ID), ID)), 'untrusted', 'a leaf that signs')
  const selfSigned = m.mint({ subject: 'leaf', keys: m.ecKeys(), extensions: m.leafExtensions(ID) })
  t.equal(verdictOf(selfSigned), 'untrusted', 'self-signed')
  t.equal(verdictOf(m.mintLeaf(m.mintRoot('root'), ID)), 'untrusted', 'another root of the same name')
  t.equal(
    verdictOf(m.mintLeaf(root, 'spiffe://other.example/x')),
    'unknown_trust_domain',
    'another trust domain',
  )

  const deeper = m.mint({
    subject: 'deeper',
    keys: m.ecKeys(),
    issuer: issuing,
    extensions: m.caExtensions(),
  })
  t.equal(
    verdictOf(m.mintLeaf(deeper, ID), 'client', bundlesOf(root, issuing, deeper)),
    'untrusted',
    'path length 0 above',
  )

  const old = m.mint({
    subject: 'old',
    keys: m.ecKeys(),
    issuer: root,
    extensions: m.caExtensions(),
    notAfter: new Date(now - 1),
  })
  t.equal(
    verdictOf(m.mintLeaf(old, ID), 'client', bundlesOf(root, old)),
    'untrusted',
    'an intermediate that has expired',
  )
  const oldRoot = m.mintRoot('old root', { notAfter: new Date(now - 1000) })
  t.equal(
    verdictOf(m.mintLeaf(oldRoot, ID), 'client', bundlesOf(oldRoot)),
    'untrusted',
    'a root that has expired',
  )

  const serverOnly = m.mint({
    subject: 'server CA',
    keys: m.ecKeys(),
    issuer: root,
    extensions: [...m.caExtensions(), m.extendedKeyUsage(m.SERVER_AUTH)],
  })
  const trusted = bundlesOf(root, serverOnly)
  t.equal(
    verdictOf(m.mintLeaf(serverOnly, ID), 'client', trusted),
    'untrusted',
    'a CA for servers signs a client',
  )
  t.equal(verdictOf(m.mintLeaf(serverOnly, ID), 'server', trusted), 'ok', 'a CA for servers signs a server')
})

t.test('a chain of more than five CAs is too long', async (t) => {
  const chain = [root]
  for (let i = 1; i <= 5; i++) {
    chain.push(
      m.mint({ subject: `ca ${i}`, keys: m.ecKeys(), issuer: chain.at(-1)!, extensions: m.caExtensions() }),
    )
  }
  const trusted = bundlesOf(...chain)
  t.equal(verdictOf(m.mintLeaf(chain[4]!, ID), 'client', trusted), 'ok', 'five')
  t.equal(verdictOf(m.mintLeaf(chain[5]!, ID), 'client', trusted), 'untrusted', 'six')
})

t.test('name constraints of a CA bind its leaves', async (t) => {
  const constrained = (tag: number, ...names: Uint8Array[]) =>
    m.mint({
      subject: 'constrained',
      keys: m.ecKeys(),
      issuer: root,
      extensions: [
        ...m.caExtensions(),
        m.extension('2.5.29.30', true, m.sequence(m.der(tag, ...names.map((n) => m.sequence(n))))),
      ],
    })
  const permitted = 0xa0
  const excluded = 0xa1
  const check = (ca: m.Minted, parts: m.LeafParts = {}) =>
    verdictOf(m.mintLeaf(ca, ID, parts), 'client', bundlesOf(root, ca))
  t.equal(check(constrained(permitted, m.uriName(TRUST_DOMAIN))), 'ok')
  t.equal(check(constrained(permitted, m.uriName('.example'))), 'ok')
  t.equal(check(constrained(permitted, m.uriName('c2.example'))), 'name_constraint')
  t.equal(check(constrained(excluded, m.uriName(TRUST_DOMAIN))), 'name_constraint')
  t.equal(check(constrained(excluded, m.uriName('c2.example'))), 'ok')
  const withDns = { names: [m.uriName(ID), m.dnsName('a.x.example')] }
  t.equal(check(constrained(permitted, m.dnsName('x.example')), withDns), 'ok')
  t.equal(check(constrained(permitted, m.dnsName('y.example')), withDns), 'name_constraint')
  const withMail = { names: [m.uriName(ID), m.text(0x81, 'a@b')] }
  t.equal(
    check(constrained(permitted, m.text(0x81, 'b')), withMail),
    'name_constraint',
    'a kind we do not read',
  )
})

t.test('names are compared byte by byte, not by what they mean', async (t) => {
  const printable = m.sequence(m.der(0x31, m.sequence(m.oid('2.5.4.3'), m.text(0x13, 'root'))))
  const leaf = m.mintLeaf(root, ID, {}, { issuerDer: printable })
  t.equal(verdictOf(leaf), 'untrusted', 'a PrintableString where the CA has a UTF8String')
  t.equal(verdictOf(m.mintLeaf({ ...root, subject: 'ROOT' }, ID)), 'untrusted', 'capitals')
})

t.test('CAs twice, and in a circle', async (t) => {
  const [a, b] = [m.ecKeys(), m.ecKeys()]
  const ca = (subject: string, keys: m.Keys, issuer: m.Minted) =>
    m.mint({ subject, keys, issuer, extensions: m.caExtensions() })
  const first = ca('a', a, ca('b', b, root))
  const second = ca('b', b, first)
  const leaf = m.mintLeaf(first, ID)
  t.equal(verdictOf(leaf, 'client', bundlesOf(root, root, first, second, first)), 'untrusted')
  t.equal(verdictOf(leaf, 'client', bundlesOf(root, first, second, ca('b', b, root))), 'ok', 'with a way out')
})

t.test('SHA-1, MD5 and RSA-1024 are refused in CAs too', async (t) => {
  const under = (options: Partial<m.MintOptions>) =>
    m.mint({ subject: 'i', keys: m.ecKeys(), issuer: root, extensions: m.caExtensions(), ...options })
  const rsaRoot = m.mintRoot('rsa root', { keys: m.rsaKeys(2048), algorithm: m.SIGN.rsaSha256 })
  for (const [what, ca, top] of [
    ['SHA-1', under({ algorithm: m.SIGN.ecdsaSha1 }), root],
    ['MD5', under({ issuer: rsaRoot, algorithm: m.SIGN.rsaMd5 }), rsaRoot],
    ['RSA-1024', under({ keys: m.rsaKeys(1024) }), root],
    ['RSA-16384', under({ keys: m.rsaNumber(16_384) }), root],
    ['P-192', under({ keys: m.ecKeys('prime192v1') }), root],
    ['DSA', under({ keys: m.dsaKeys() }), root],
    ['an RSASSA-PSS key', under({ keys: m.pssKeys() }), root],
    ['a compressed point', under({ keys: m.compressed(m.ecKeys()) }), root],
  ] as const) {
    const parsed = TrustBundle.parse(TRUST_DOMAIN, top.pem + ca.pem, 'ca.crt')
    t.match(parsed, { ok: false, error: { field: 'certificate 2' } }, `an intermediate with ${what}`)
  }
  const weak = [
    m.mintRoot('r', { algorithm: m.SIGN.ecdsaSha1 }),
    m.mintRoot('r', { keys: m.rsaKeys(2048), algorithm: m.SIGN.rsaSha1 }),
    m.mintRoot('r', { keys: m.rsaKeys(2048), algorithm: m.SIGN.rsaMd5 }),
    m.mintRoot('r', { keys: m.rsaKeys(1024), algorithm: m.SIGN.rsaSha256 }),
  ]
  for (const ca of weak) t.notOk(TrustBundle.parse(TRUST_DOMAIN, ca.pem, 'ca.crt').ok)
  const rsa = m.mintRoot('rsa', { keys: m.rsaKeys(2048), algorithm: m.SIGN.rsaSha256 })
  t.equal(verdictOf(m.mintLeaf(rsa, ID, {}, { algorithm: m.SIGN.rsaSha256 }), 'client', bundlesOf(rsa)), 'ok')
  const edwards = m.mintRoot('ed', { keys: m.ed25519Keys(), algorithm: m.SIGN.ed25519 })
  t.equal(
    verdictOf(m.mintLeaf(edwards, ID, {}, { algorithm: m.SIGN.ed25519 }), 'client', bundlesOf(edwards)),
    'ok',
  )
  const pss = m.mintLeaf(rsa, ID, {}, { algorithm: m.SIGN.pssSha256 })
  t.equal(verdictOf(pss, 'client', bundlesOf(rsa)), 'ok', 'RSA-PSS with SHA-256')
  for (const algorithm of [m.SIGN.pssMaskSha1, m.SIGN.pssDefaults]) {
    t.equal(
      verdictOf(m.mintLeaf(rsa, ID, {}, { algorithm }), 'client', bundlesOf(rsa)),
      'weak_algorithm',
      'RSA-PSS with SHA-1',
    )
  }
})

t.test('Bun gives the same verdicts', { skip: noBun }, async (t) => sameOnBun(t, asked))
