// CRLs: read strictly, bound to the CA that signed them, honoured for leaves and intermediates, fresh or not.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { attachCrls, crlStatus } from '../../src/identity/attach-crls.ts'
import { type Crl, parseCrl, parseCrlsPem } from '../../src/identity/crl.ts'
import type { RevocationMode } from '../../src/identity/revocation.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { SvidVerifier, verifySvid } from '../../src/identity/verify-svid.ts'
import * as m from './mint.ts'
import { type Asked, noBun, sameOnBun } from './on-bun.ts'

const SEED = 20261124
const TRUST_DOMAIN = 'c1.example'
const ID = `spiffe://${TRUST_DOMAIN}/ns/bookinfo/sa/sleep`
const now = Date.now()
const root = m.mintRoot('root')
const issuing = m.mint({ subject: 'issuing', keys: m.ecKeys(), issuer: root, extensions: m.caExtensions(0) })
const leaf = m.mintLeaf(issuing, ID)
const other = m.mintLeaf(issuing, ID)
const CRL_NUMBER = m.extension('2.5.29.20', false, m.integer(1))

function bundle(...cas: m.Minted[]): TrustBundle {
  const parsed = TrustBundle.parse(TRUST_DOMAIN, cas.map(({ pem }) => pem).join(''), 'ca.crt')
  if (!parsed.ok) throw new Error(parsed.error.message)
  return parsed.value
}

function crls(...minted: { readonly pem: string }[]): readonly Crl[] {
  const parsed = parseCrlsPem(minted.map(({ pem }) => pem).join(''))
  if (!parsed.ok) throw new Error(parsed.error)
  return parsed.value
}

function trusting(of: TrustBundle, ...minted: { readonly pem: string }[]): TrustBundles {
  const attached = attachCrls([of], crls(...minted))
  if (!attached.ok) throw new Error(attached.error)
  return new TrustBundles(attached.value.bundles)
}

const both = bundle(root, issuing)
const asked: Asked[] = []
const verdict = (
  svid: m.Minted,
  bundles: TrustBundles,
  mode: RevocationMode = 'soft-fail',
  at = now,
): string => {
  const result = verifySvid(svid.der, bundles, at, 'client', mode)
  const code = result.ok ? 'ok' : result.error.code
  const of = bundles.get(TRUST_DOMAIN)
  asked.push({
    leaf: Buffer.from(svid.der).toString('base64'),
    trustDomain: TRUST_DOMAIN,
    bundle: of?.pem ?? '',
    crl: (of?.crls ?? []).map(({ crl }) => crl.pem).join(''),
    usage: 'client',
    mode,
    nowMs: at,
    verdict: code,
  })
  return code
}

t.test('a revoked leaf is refused, its neighbour is not', async (t) => {
  const bundles = trusting(both, m.mintCrl({ issuer: issuing, revoked: [leaf], extensions: [CRL_NUMBER] }))
  t.equal(verdict(leaf, new TrustBundles([both])), 'ok', 'without the list')
  t.equal(verdict(leaf, bundles), 'revoked')
  t.equal(verdict(other, bundles), 'ok')
})

t.test('a revoked intermediate takes its leaves with it, unless another chain leads to a root', async (t) => {
  const byRoot = m.mintCrl({ issuer: root, revoked: [issuing] })
  t.equal(verdict(leaf, trusting(both, byRoot)), 'revoked')
  const secondRoot = m.mintRoot('second root')
  const crossSigned = m.mint({
    subject: 'issuing',
    keys: issuing.keys,
    issuer: secondRoot,
    extensions: m.caExtensions(0),
  })
  t.equal(verdict(leaf, trusting(bundle(root, issuing, secondRoot, crossSigned), byRoot)), 'ok')
  const bySecond = m.mintCrl({ issuer: secondRoot, revoked: [crossSigned] })
  t.equal(
    verdict(leaf, trusting(bundle(root, issuing, secondRoot, crossSigned), byRoot, bySecond)),
    'revoked',
  )
})

t.test('a CA is its name and its key: a list counts for all certificates of it', async (t) => {
  const again = m.mint({
    subject: 'issuing',
    keys: issuing.keys,
    issuer: root,
    extensions: m.caExtensions(0),
  })
  t.equal(
    verdict(leaf, trusting(bundle(root, issuing, again), m.mintCrl({ issuer: again, revoked: [leaf] }))),
    'revoked',
  )
})

t.test('of several lists of a CA the newest counts', async (t) => {
  const old = m.mintCrl({ issuer: issuing, revoked: [leaf], thisUpdate: new Date(now - 120_000) })
  const fresh = m.mintCrl({ issuer: issuing, revoked: [other] })
  for (const order of [
    [old, fresh],
    [fresh, old],
  ]) {
    const bundles = trusting(both, ...order)
    t.equal(verdict(leaf, bundles), 'ok')
    t.equal(verdict(other, bundles), 'revoked')
  }
})

t.test('an expired list still revokes; hard-fail refuses whoever has no fresh one above him', async (t) => {
  const expired = { thisUpdate: new Date(now - 7_200_000), nextUpdate: new Date(now - 1_000) }
  const stale = trusting(both, m.mintCrl({ issuer: issuing, revoked: [leaf], ...expired }))
  t.equal(verdict(leaf, stale), 'revoked')
  t.equal(verdict(other, stale), 'ok')
  t.match(crlStatus(stale, now), [
    { trustDomain: TRUST_DOMAIN, issuer: 'CN=issuing', expired: true, revoked: 1 },
  ])
  t.equal(verdict(other, stale, 'hard-fail'), 'revocation_unknown')
  t.equal(verdict(leaf, stale, 'hard-fail'), 'revoked', 'revoked goes before unknown')
  t.equal(verdict(other, new TrustBundles([both]), 'hard-fail'), 'revocation_unknown', 'no list at all')
  const issuers = trusting(both, m.mintCrl({ issuer: issuing }))
  t.equal(verdict(other, issuers, 'hard-fail'), 'revocation_unknown', 'the CA above has none')
  const whole = trusting(both, m.mintCrl({ issuer: issuing }), m.mintCrl({ issuer: root }))
  t.equal(verdict(other, whole, 'hard-fail'), 'ok')
  t.equal(verdict(other, whole, 'hard-fail', now + 3_590_000), 'ok')
  const early = { thisUpdate: new Date(now + 360_000) }
  const future = trusting(both, m.mintCrl({ issuer: issuing, ...early }), m.mintCrl({ issuer: root }))
  t.equal(verdict(other, future, 'hard-fail'), 'revocation_unknown', 'a list of the future')
})

t.test('the memory of verdicts is one epoch long, and under hard-fail ends with the list', async (t) => {
  const verifier = new SvidVerifier({ revocation: 'hard-fail' })
  const lists = (nextUpdate: Date) => [
    m.mintCrl({ issuer: issuing, nextUpdate }),
    m.mintCrl({ issuer: root }),
  ]
  const whole = trusting(both, ...lists(new Date(now + 60_000)))
  t.ok(verifier.verify(leaf.der, whole, now).ok)
  t.ok(verifier.verify(leaf.der, whole, now + 59_000).ok)
  t.match(verifier.verify(leaf.der, whole, now + 61_000), { error: { code: 'revocation_unknown' } })
  const revoking = trusting(
    both,
    m.mintCrl({ issuer: issuing, revoked: [leaf] }),
    m.mintCrl({ issuer: root }),
  )
  t.not(whole.epoch, revoking.epoch)
  t.match(verifier.verify(leaf.der, revoking, now), { error: { code: 'revoked' } })
})

t.test('a list decides only for the CA that signed it, in every bundle that holds it', async (t) => {
  const thief = m.mintRoot('root')
  const forged = m.mintCrl({ issuer: root, revoked: [issuing], signer: thief.keys })
  t.match(attachCrls([both], crls(forged)), { ok: false, error: /did not sign it/ })
  const mute = m.mintRoot('mute', { extensions: [m.basicConstraints(true), m.keyUsage(0x04)] })
  t.match(attachCrls([bundle(mute)], crls(m.mintCrl({ issuer: mute }))), {
    ok: false,
    error: /may not sign CRLs/,
  })
  const stranger = m.mintCrl({ issuer: m.mintRoot('stranger'), revoked: [leaf] })
  t.match(attachCrls([both], crls(stranger)), { ok: true, value: { strangers: [0] } })
  t.equal(verdict(leaf, trusting(both, stranger)), 'ok')
  // A federated CA of the same name: its list is good for its own trust domain, and no forgery of ours.
  const theirs = TrustBundle.parse('c2.example', thief.pem, 'c2')
  if (!theirs.ok) throw new Error(theirs.error.message)
  const attached = attachCrls([both, theirs.value], crls(forged))
  if (!attached.ok) throw new Error(attached.error)
  t.same(
    attached.value.bundles.map((one) => one.crls.length),
    [0, 1],
  )
  t.equal(verdict(leaf, new TrustBundles(attached.value.bundles)), 'ok')
  const twin = TrustBundle.parse('c2.example', root.pem, 'c2')
  if (!twin.ok) throw new Error(twin.error.message)
  const shared = attachCrls([both, twin.value], crls(m.mintCrl({ issuer: root })))
  t.same(shared.ok && shared.value.bundles.map((one) => one.crls.length), [1, 1], 'a shared root')
})

t.test('what is not the whole truth about a CA is refused by name', async (t) => {
  const entry = (oid: string, critical: boolean, value: Uint8Array) => ({
    revoked: [leaf],
    entryExtensions: [m.extension(oid, critical, value)],
  })
  const rows: readonly [RegExp, Partial<m.CrlOptions>][] = [
    [/delta CRL/, { extensions: [m.extension('2.5.29.27', true, m.integer(1))] }],
    [/indirect CRL/, { extensions: [m.extension('2.5.29.28', true, m.sequence(m.text(0x84, '\xff')))] }],
    [/partial/, { extensions: [m.extension('2.5.29.28', false, m.sequence())] }],
    [/unknown critical extension 1\.2\.3\.4/, { extensions: [m.extension('1.2.3.4', true, m.integer(1))] }],
    [/an extension twice/, { extensions: [CRL_NUMBER, CRL_NUMBER] }],
    [/indirect CRL \(certificateIssuer\)/, entry('2.5.29.29', true, m.sequence())],
    [/removeFromCRL/, entry('2.5.29.21', false, m.der(0x0a, Uint8Array.of(8)))],
    [/reason code/, entry('2.5.29.21', false, m.integer(1))],
    [/unknown critical extension 1\.2\.3\.4 of an entry/, entry('1.2.3.4', true, m.integer(1))],
    [/no nextUpdate/, { nextUpdate: null }],
    [/nextUpdate before/, { nextUpdate: new Date(now - 7_200_000) }],
    [/extensions in version 1/, { version: 1, extensions: [CRL_NUMBER] }],
    [/1\.2\.840\.10045\.4\.1/, { algorithm: m.SIGN.ecdsaSha1 }],
    [/serial number of more than 20 bytes/, { revoked: [m.der(0x02, new Uint8Array(22).fill(1))] }],
  ]
  for (const [expected, options] of rows) {
    const parsed = parseCrl(m.mintCrl({ issuer: issuing, ...options }).der)
    t.match(parsed, { ok: false, error: expected }, String(expected))
  }
  const good: readonly [string, Partial<m.CrlOptions>][] = [
    ['version 1', { version: 1, revoked: [leaf] }],
    ['empty', {}],
    ['on hold', entry('2.5.29.21', false, m.der(0x0a, Uint8Array.of(6)))],
    ['invalidityDate', entry('2.5.29.24', true, m.time(new Date(now)))],
    ['freshestCRL, which is not critical', { extensions: [m.extension('2.5.29.46', false, m.sequence())] }],
  ]
  for (const [what, options] of good) t.ok(parseCrl(m.mintCrl({ issuer: issuing, ...options }).der).ok, what)
})

t.test('PEM: lists and nothing else', async (t) => {
  t.match(parseCrlsPem(root.pem), { ok: false, error: /holds a CERTIFICATE/ })
  t.match(parseCrlsPem(''), { ok: false, error: /holds no CRL/ })
  const { pem } = m.mintCrl({ issuer: root })
  t.match(parseCrlsPem(pem + pem.slice(0, 200)), { ok: false, error: /cut off/ })
  t.match(parseCrlsPem(pem + m.toPem(leaf.der, 'X509 CRL')), { ok: false, error: /CRL 2/ })
})

t.test('long lists, together longer than a megabyte', async (t) => {
  const serials = (from: number) =>
    Array.from({ length: 12_000 }, (_, i) =>
      m.der(0x02, m.bytes(0x10, from, i >> 8, i & 0xff, new Uint8Array(12))),
    )
  const long = [issuing, root].map((issuer, i) => m.mintCrl({ issuer, revoked: [...serials(i), leaf] }))
  t.ok(long.reduce((sum, { pem }) => sum + pem.length, 0) > 1024 * 1024)
  const bundles = trusting(both, ...long)
  t.same(
    bundles.crls.map(({ crl }) => crl.revoked.size),
    [12_001, 12_001],
  )
  t.match(verifySvid(leaf.der, bundles, now), { error: { code: 'revoked' } })
  const again = crls(...long)
  t.equal(again[0], crls(...long)[0], 'a list that was read is not read again')
})

t.test('RSA and Ed25519 CAs', async (t) => {
  const rsa = m.rsaKeys(2048)
  for (const [keys, algorithm] of [
    [rsa, m.SIGN.rsaSha256],
    [m.ed25519Keys(), m.SIGN.ed25519],
  ] as const) {
    const ca = m.mintRoot('ca', { keys, algorithm })
    const svid = m.mintLeaf(ca, ID, {}, { algorithm })
    const crl = m.mintCrl({ issuer: ca, revoked: [svid], algorithm })
    t.equal(verdict(svid, trusting(bundle(ca), crl)), 'revoked')
  }
})

t.test('what OpenSSL writes is read', async (t) => {
  const folder = t.testdir({ 'index.txt': '', crlnumber: '01\n' })
  const file = (name: string, text: string) => writeFileSync(join(folder, name), text)
  file('ca.pem', root.pem)
  file('key.pem', root.keyPem)
  file(
    'ca.cnf',
    '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ncrl_extensions=x\n[x]\nauthorityKeyIdentifier=issuer:always\n',
  )
  file('revoked.pem', issuing.pem)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const ca = ['ca', '-config', 'ca.cnf', '-keyfile', 'key.pem', '-cert', 'ca.pem']
  openssl(...ca, '-revoke', 'revoked.pem', '-crl_reason', 'keyCompromise')
  openssl(...ca, '-gencrl', '-crldays', '7', '-out', 'crl.pem')
  const pem = String(openssl('crl', '-in', 'crl.pem'))
  t.equal(verdict(leaf, trusting(both, { pem })), 'revoked')
})

t.test('Bun gives the same verdicts', { skip: noBun }, async (t) => sameOnBun(t, asked))

t.test('no changed byte of a list goes unnoticed, and garbage never throws', async (t) => {
  const list = m.mintCrl({ issuer: issuing, revoked: [leaf, other], extensions: [CRL_NUMBER] }).der
  const attaches = (der: Uint8Array): boolean => {
    const parsed = parseCrl(der)
    if (!parsed.ok) return false
    const attached = attachCrls([both], [{ ...parsed.value, pem: '' }])
    return attached.ok && attached.value.strangers.length === 0
  }
  t.ok(attaches(list), 'the list itself, so that the properties below mean something')
  for (let at = 0; at < list.length; at++) {
    for (const flip of [0x01, 0x80]) {
      const changed = Uint8Array.from(list)
      changed[at] = (changed[at] ?? 0) ^ flip
      if (attaches(changed)) t.fail(`byte ${at} ^ ${flip} still counts`)
    }
    if (parseCrl(list.subarray(0, at)).ok) t.fail(`a prefix of ${at} bytes is read`)
  }
  const mutation = fc.record({
    at: fc.nat(list.length - 1),
    remove: fc.nat(8),
    insert: fc.uint8Array({ maxLength: 8 }),
  })
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
      let bytes: Uint8Array = list
      for (const { at, remove, insert } of mutations)
        bytes = m.bytes(bytes.subarray(0, at), insert, bytes.subarray(at + remove))
      return Buffer.compare(bytes, list) === 0 || !attaches(bytes)
    }),
    { seed: SEED, numRuns: 3000 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => !parseCrl(m.sequence(m.sequence(bytes))).ok),
    { seed: SEED, numRuns: 3000 },
  )
  t.pass('6,000 runs')
})
