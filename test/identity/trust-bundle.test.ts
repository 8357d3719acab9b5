import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import * as tls from 'node:tls'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { parseCertificate } from '../../src/identity/certificate.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { serverTlsOptions } from '../../src/identity/tls.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { SvidVerifier, verifySvid } from '../../src/identity/verify-svid.ts'
import * as m from './mint.ts'

const OTHER = m.ecKeys()
const OURS = 'ours.example'
const THEIRS = 'theirs.example'
const OUR_ID = `spiffe://${OURS}/ns/bookinfo/sa/productpage`

function bundle(trustDomain: string, pem: string): TrustBundle {
  const parsed = TrustBundle.parse(trustDomain, pem, 'ca.crt')
  if (!parsed.ok) throw new Error(parsed.error.message)
  return parsed.value
}

t.test(
  'a CA of another trust domain cannot sign our names, though TLS with pooled bundles lets it',
  async (t) => {
    const ours = await createCa({ trustDomain: OURS })
    const theirs = m.mintRoot('their root')
    const bundles = new TrustBundles([ours.bundle, bundle(THEIRS, theirs.pem)])
    const issued = await ours.issue({ namespace: 'bookinfo', serviceAccount: 'gateway' })
    const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'certs')
    if (!credential.ok) throw new Error(credential.error.message)

    const server = tls.createServer(serverTlsOptions(credential.value, bundles))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo

    const thief = m.mintLeaf(theirs, OUR_ID)
    const client = tls.connect({
      host: '127.0.0.1',
      port,
      cert: thief.pem,
      key: thief.keyPem,
      rejectUnauthorized: false,
    })
    const [socket] = (await once(server, 'secureConnection')) as [tls.TLSSocket]
    t.equal(socket.authorized, true, 'the TLS layer is content: some CA of the pool signed it')
    const der = socket.getPeerCertificate().raw
    const verdict = verifySvid(der, bundles, Date.now())
    t.match(verdict, { ok: false, error: { code: 'untrusted' } })
    client.destroy()
    socket.destroy()

    t.ok(
      verifySvid(m.mintLeaf(theirs, `spiffe://${THEIRS}/x`).der, bundles, Date.now()).ok,
      'its own names it may sign',
    )
    t.match(verifySvid(m.firstDer(issued.certificatePem), bundles, Date.now()), {
      ok: true,
      value: { id: { trustDomain: OURS } },
    })
  },
)

t.test('an intermediate of one trust domain under the root of another vouches for nobody', async (t) => {
  const [ours, theirs] = [m.mintRoot('r1'), m.mintRoot('r2')]
  const between = m.mint({ subject: 'i', keys: m.ecKeys(), issuer: theirs, extensions: m.caExtensions() })
  const bundles = new TrustBundles([bundle(OURS, ours.pem + between.pem), bundle(THEIRS, theirs.pem)])
  const verdict = verifySvid(m.mintLeaf(between, OUR_ID).der, bundles, Date.now())
  t.match(verdict, { ok: false, error: { code: 'untrusted', message: /does not lead to a root/ } })
})

t.test('what is no bundle is refused with object, field and reason', async (t) => {
  const root = m.mintRoot('root')
  const key = root.keyPem
  const leaf = m.mintLeaf(root, OUR_ID)
  const child = m.mint({ subject: 'i', keys: m.ecKeys(), issuer: root, extensions: m.caExtensions() })
  const noSign = m.mintRoot('root', { extensions: [m.basicConstraints(true), m.keyUsage(0x80)] })
  const rows: [what: string, pem: string, field: string, message: RegExp][] = [
    ['empty', '', '', /holds no certificate/],
    ['text', 'hello', '', /holds no certificate/],
    ['a private key among them', root.pem + key, '', /PRIVATE KEY/],
    ['a leaf among them', root.pem + leaf.pem, 'certificate 2', /not a CA/],
    ['no root', child.pem, '', /no self-signed root/],
    ['cut off', root.pem.slice(0, -30), '', /cut off/],
    ['broken base64', root.pem.replace(/\n.{5}/, '\n*****'), '', /base64/],
    ['not a certificate', m.toPem(m.sequence(m.integer(1))), 'certificate 1', /tag 0x02/],
    ['may not sign', noSign.pem, 'certificate 1', /keyCertSign/],
  ]
  for (const [what, pem, field, message] of rows) {
    t.match(
      TrustBundle.parse(OURS, pem, 'ca.crt'),
      { ok: false, error: { object: 'ca.crt', field, message } },
      what,
    )
  }
  t.match(TrustBundle.parse('Ours', root.pem, 'ca.crt'), { ok: false, error: { field: 'trustDomain' } })
})

t.test(
  'a second bundle for a trust domain adds intermediates of the same roots and nothing else',
  async (t) => {
    const root = m.mintRoot('root')
    const one = m.mint({ subject: 'one', keys: m.ecKeys(), issuer: root, extensions: m.caExtensions() })
    const two = m.mint({ subject: 'two', keys: m.ecKeys(), issuer: root, extensions: m.caExtensions() })
    const under = m.mint({ subject: 'under', keys: m.ecKeys(), issuer: two, extensions: m.caExtensions() })
    const foreign = m.mintRoot('foreign')
    const first = bundle(OURS, root.pem + one.pem)
    const bundles = new TrustBundles([first, bundle(OURS, foreign.pem + under.pem + two.pem + root.pem)])
    const verdict = (ca: m.Minted) => {
      const result = verifySvid(m.mintLeaf(ca, OUR_ID).der, bundles, Date.now())
      return result.ok ? result.value.issuer : result.error.code
    }
    t.match(verdict(one), /^[0-9a-f]{64}$/)
    t.match(verdict(two), /^[0-9a-f]{64}$/)
    t.match(verdict(under), /^[0-9a-f]{64}$/)
    t.not(verdict(one), verdict(two), 'the issuer tells clusters of one trust domain apart')
    t.equal(verdict(foreign), 'untrusted')
    t.match(bundles.problems, [{ object: `trust domain ${OURS}`, message: /1 root/ }])
    t.equal(bundles.get(OURS)?.chainOf(bundles.get(OURS)!.certificates.at(-1)!).at(-1)?.root, true)
  },
)

t.test('the epoch is the content', async (t) => {
  const [a, b] = [m.mintRoot('a'), m.mintRoot('b')]
  const epoch = (...pems: [string, string][]) =>
    new TrustBundles(pems.map(([td, pem]) => bundle(td, pem))).epoch
  t.equal(epoch(['a', a.pem], ['b', b.pem]), epoch(['b', b.pem], ['a', a.pem]), 'order of trust domains')
  t.equal(
    epoch(['a', a.pem + b.pem]),
    epoch(['a', b.pem + a.pem + a.pem]),
    'order and repetition of certificates',
  )
  t.not(epoch(['a', a.pem], ['b', b.pem]), epoch(['a', b.pem], ['b', a.pem]), 'who has which')
  t.not(epoch(['a', a.pem + b.pem]), epoch(['a', a.pem]))
})

t.test('the verifier remembers good verdicts only, per epoch and usage, within their time', async (t) => {
  const root = m.mintRoot('root')
  const now = Date.now()
  const bundles = new TrustBundles([bundle(OURS, root.pem)])
  const verifier = new SvidVerifier({ capacity: 2 })
  const leaf = m.mintLeaf(root, OUR_ID, {}, { notAfter: new Date(now + 60_000) })
  const first = verifier.verify(leaf.der, bundles, now)
  const again = verifier.verify(leaf.der, bundles, now + 1000)
  if (!first.ok || !again.ok) throw new Error('refused')
  t.equal(again.value, first.value, 'the same object: from memory')
  t.match(verifier.verify(leaf.der, bundles, now + 61_000), { ok: false, error: { code: 'expired' } })
  t.match(verifier.verify(leaf.der, bundles, now - 3_600_000), {
    ok: false,
    error: { code: 'not_yet_valid' },
  })

  verifier.verify(leaf.der, bundles, now)
  const without = new TrustBundles([bundle(OURS, m.mintRoot('other').pem)])
  t.match(
    verifier.verify(leaf.der, without, now),
    { ok: false, error: { code: 'untrusted' } },
    'the CA was taken away',
  )
  t.match(verifier.verify(leaf.der, new TrustBundles(), now), {
    ok: false,
    error: { code: 'unknown_trust_domain' },
  })

  const clientOnly = m.mintLeaf(root, OUR_ID, { extended: m.extendedKeyUsage(m.CLIENT_AUTH) })
  t.ok(verifier.verify(clientOnly.der, bundles, now, 'client').ok)
  t.notOk(verifier.verify(clientOnly.der, bundles, now, 'server').ok)
  for (let i = 0; i < 5; i++) t.ok(verifier.verify(m.mintLeaf(root, OUR_ID).der, bundles, now).ok)
  t.equal(verifier.size, 2)
})

t.test('a verdict ends when the first certificate of the best path ends', async (t) => {
  const now = Date.now()
  const root = m.mintRoot('root', { notAfter: new Date(now + 10_000_000) })
  const keys = m.ecKeys()
  const until = (ms: number) =>
    m.mint({ subject: 'i', keys, issuer: root, extensions: m.caExtensions(), notAfter: new Date(now + ms) })
  const [short, long] = [until(1_000_000), until(2_000_000)]
  const leaf = m.mintLeaf(short, OUR_ID, {}, { notAfter: new Date(now + 3_000_000) })
  const verdict = verifySvid(leaf.der, new TrustBundles([bundle(OURS, root.pem + short.pem + long.pem)]), now)
  if (!verdict.ok) throw new Error(verdict.error.message)
  t.equal(verdict.value.notAfterMs, Math.floor((now + 2_000_000) / 1000) * 1000)
})

t.test('CAs that sign each other cost little, however many ways there are', async (t) => {
  const root = m.mintRoot('root')
  const [a, b] = [m.ecKeys(), m.ecKeys()]
  const first = m.mint({ subject: 'A', keys: a, issuer: root, extensions: m.caExtensions() })
  const other = m.mint({ subject: 'B', keys: b, issuer: root, extensions: m.caExtensions() })
  const leaf = m.mintLeaf(first, 'spiffe://x.local/ns/a/sa/b')
  const [certificate, x509] = [parseCertificate(leaf.der), new X509Certificate(leaf.der)]
  const crossed = (pairs: number, ...more: { readonly pem: string }[]): (() => boolean) => {
    const all = Array.from({ length: pairs }, () => [
      m.mint({ subject: 'A', keys: a, issuer: other, extensions: m.caExtensions() }),
      m.mint({ subject: 'B', keys: b, issuer: first, extensions: m.caExtensions() }),
    ])
    const pem = [root, ...all.flat(), ...more].map((one) => one.pem).join('')
    const bundle = TrustBundle.parse('x.local', pem, 'test')
    if (!bundle.ok || !certificate.ok) throw new Error('no bundle')
    return () => bundle.value.anchor(certificate.value, x509, 'client', Date.now()).ok
  }
  // The best of some: a single one may have met a garbage collection.
  const timed = (run: () => boolean): number => {
    const each = Array.from({ length: 5 }, () => {
      const beganMs = performance.now()
      run()
      return performance.now() - beganMs
    })
    return Math.min(...each)
  }
  t.ok(crossed(24, first, other)(), 'one way that leads to the root is enough')
  t.notOk(crossed(24)(), 'none does')
  for (const more of [[], [first, other]]) {
    const [few, many] = [crossed(6, ...more), crossed(24, ...more)].map(timed) as [number, number]
    t.ok(
      many / few < 64,
      `four times as many took ${(many / few).toFixed(1)} times as long; their ways are 256`,
    )
  }
})

t.test('a bundle whose CAs nobody can tell apart by name is refused before it costs anything', async (t) => {
  const root = m.mintRoot('root')
  const keys = m.ecKeys()
  const first = m.mint({ subject: 'A', keys, issuer: root, extensions: m.caExtensions() })
  const pem = (count: number) => {
    const same = { subject: 'A', keys, issuer: first, issuerDer: m.name('A'), extensions: m.caExtensions() }
    // With keys of their own none is its own root.
    const other = Array.from({ length: count }, () => m.mint({ ...same, keys: OTHER }))
    return [root, first, ...other].map((one) => one.pem).join('')
  }
  const few = TrustBundle.parse('x.local', pem(40), 'ca.crt')
  t.ok(few.ok)
  const many = TrustBundle.parse('x.local', pem(60), 'ca.crt')
  t.match(many, { ok: false, error: { object: 'ca.crt', message: /too many of its CAs bear one name/ } })
})

t.test(
  'intermediates of a second bundle are found in any order, and what leads nowhere is left',
  async (t) => {
    const root = m.mintRoot('root')
    const ca = (subject: string, issuer: m.Minted) =>
      m.mint({ subject, keys: m.ecKeys(), issuer, extensions: m.caExtensions() })
    const one = ca('one', root)
    const two = ca('two', one)
    const three = ca('three', two)
    const stranger = ca('two', m.mintRoot('one'))
    const ours = bundle(OURS, root.pem)
    const second = bundle(OURS, [root, three, stranger, two, one].map(({ pem }) => pem).join(''))
    const merged = ours.withIntermediates(second.certificates)
    t.equal(merged.certificates.length, 4)
    t.notOk(merged.pem.includes(stranger.pem.trim()))
  },
)
