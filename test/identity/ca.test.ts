import { X509Certificate } from 'node:crypto'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Ca, createCa } from '../../src/identity/ca.ts'
import { loadCa, saveCa, writeCredential } from '../../src/identity/ca-folder.ts'
import { parseCertificate } from '../../src/identity/certificate.ts'
import { formatLifetime, parseLifetime } from '../../src/identity/lifetime.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { verifySvid } from '../../src/identity/verify-svid.ts'
import { writeFileAtomic } from '../../src/identity/write-file.ts'
import { firstDer } from './mint.ts'

const HOUR = 3_600_000

t.test('a CA is a root, an issuing intermediate, and leaves that verify', async (t) => {
  const ca = await createCa({ trustDomain: 'c1.example' })
  const issued = await ca.issue({
    namespace: 'bookinfo',
    serviceAccount: 'sleep',
    dnsNames: ['sleep.bookinfo'],
  })
  t.equal(issued.id, 'spiffe://c1.example/ns/bookinfo/sa/sleep')
  const verdict = verifySvid(firstDer(issued.certificatePem), new TrustBundles([ca.bundle]), Date.now())
  t.match(verdict, { ok: true, value: { id: { uri: issued.id } } })
  t.ok(verifySvid(firstDer(issued.certificatePem), new TrustBundles([ca.bundle]), Date.now(), 'server').ok)

  const [root, issuer] = [new X509Certificate(ca.rootPem), new X509Certificate(ca.issuerPem)]
  t.ok(root.checkIssued(root) && root.verify(root.publicKey), 'self-signed root')
  t.ok(issuer.checkIssued(root) && issuer.verify(root.publicKey), 'intermediate under it')
  t.equal(root.subjectAltName, 'URI:spiffe://c1.example')
  t.equal(ca.bundlePem, ca.rootPem + ca.issuerPem)
  t.equal(issued.certificatePem.match(/BEGIN/g)?.length, 2, 'the chain: leaf and intermediate, no root')
})

t.test('leaves have what X509-SVID asks for, marked critical where it asks for it', async (t) => {
  const ca = await createCa({ trustDomain: 'c1.example' })
  const leaf = parseCertificate(firstDer((await ca.issue({ id: 'spiffe://c1.example/x' })).certificatePem))
  if (!leaf.ok) throw new Error(leaf.error)
  t.match(leaf.value, {
    publicKey: { kind: 'ec', curve: 'P-256' },
    signature: { oid: '1.2.840.10045.4.3.2' },
  })
  t.match(leaf.value.extensions, {
    basicConstraints: { ca: false },
    keyUsage: { critical: true, digitalSignature: true, keyCertSign: false, crlSign: false },
    extendedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
    unknownCritical: [],
  })
  const issuer = parseCertificate(firstDer(ca.issuerPem))
  if (!issuer.ok) throw new Error(issuer.error)
  t.match(issuer.value.extensions, {
    basicConstraints: { ca: true, pathLength: 0 },
    keyUsage: { critical: true, keyCertSign: true, crlSign: true, digitalSignature: false },
  })
})

t.test('lifetimes are kept, and nothing outlives what signed it', async (t) => {
  const nowMs = Date.UTC(2026, 10, 23)
  const ca = await createCa({
    trustDomain: 'c1.example',
    rootLifetimeMs: 4 * HOUR,
    intermediateLifetimeMs: 2 * HOUR,
    nowMs,
  })
  const end = (pem: string) => new Date(new X509Certificate(pem).validTo).getTime() - nowMs
  t.equal(end(ca.rootPem), 4 * HOUR)
  t.equal(end(ca.issuerPem), 2 * HOUR)
  t.equal(
    end((await ca.issue({ id: 'spiffe://c1.example/x', lifetimeMs: HOUR, nowMs })).certificatePem),
    HOUR,
  )
  t.equal(
    end((await ca.issue({ id: 'spiffe://c1.example/x', lifetimeMs: 9 * HOUR, nowMs })).certificatePem),
    2 * HOUR,
  )
  const short = await createCa({ trustDomain: 'c1.example', rootLifetimeMs: HOUR, nowMs })
  t.equal(end(short.issuerPem), HOUR)
  await t.rejects(short.issue({ id: 'spiffe://c1.example/x', nowMs: nowMs + 2 * HOUR }), /expired/)
})

t.test('a CA signs only workloads of its own trust domain', async (t) => {
  const ca = await createCa({ trustDomain: 'c1.example' })
  await t.rejects(ca.issue({ id: 'spiffe://c2.example/x' }), /not in the trust domain/)
  await t.rejects(ca.issue({ id: 'spiffe://c1.example' }), /names no workload/)
  await t.rejects(ca.issue({ id: 'https://c1.example/x' }), /no SPIFFE id/)
  await t.rejects(ca.issue({ namespace: 'a/sa/b', serviceAccount: 'c' }), /not the id of/)
  await t.rejects(ca.issue({ namespace: '..', serviceAccount: 'c' }), /no SPIFFE id/)
  await t.rejects(ca.issue({}), /no SPIFFE id/)
  await t.rejects(createCa({ trustDomain: 'C1' }), /may hold only/)
})

t.test('a saved CA loads and issues; its keys are private from the first byte', async (t) => {
  const folder = join(t.testdir(), 'new', 'ca')
  const ca = await createCa({ trustDomain: 'c1.example' })
  await saveCa(ca, folder)
  const loaded = await loadCa(folder)
  if (!loaded.ok) throw new Error(loaded.error.message)
  t.equal(loaded.value.bundlePem, ca.bundlePem)
  const issued = await loaded.value.issue({ id: 'spiffe://c1.example/x' })
  t.ok(verifySvid(firstDer(issued.certificatePem), new TrustBundles([ca.bundle]), Date.now()).ok)
  await writeCredential(join(folder, 'out'), { ...issued, bundlePem: ca.bundlePem })
  const mode = async (name: string) => (await stat(join(folder, name))).mode & 0o777
  for (const name of ['ca-key.pem', 'root-key.pem', 'out/tls.key']) t.equal(await mode(name), 0o600, name)
  for (const name of ['ca-cert.pem', 'root-cert.pem', 'out/tls.crt']) t.equal(await mode(name), 0o644, name)
  t.notOk(
    (await readdir(folder)).some((name) => name.startsWith('.')),
    'no temporary file is left',
  )
})

t.test('what is wrong with a CA folder is named', async (t) => {
  const folder = t.testdir()
  t.match(await loadCa(folder), {
    ok: false,
    error: { object: folder, field: 'trust-domain', message: /no such file/ },
  })
  const [ca, other] = [
    await createCa({ trustDomain: 'c1.example' }),
    await createCa({ trustDomain: 'c1.example' }),
  ]
  await saveCa(ca, folder)
  const wrong = async (name: string, content: string) => {
    await writeFile(join(folder, name), content)
    const loaded = await loadCa(folder)
    await saveCa(ca, folder)
    return loaded
  }
  t.match(await wrong('ca-key.pem', other.issuerKeyPem), {
    ok: false,
    error: { field: 'ca-key.pem', message: /does not belong/ },
  })
  t.match(await wrong('ca-key.pem', 'x'), {
    ok: false,
    error: { field: 'ca-key.pem', message: /private key/ },
  })
  t.match(await wrong('ca-cert.pem', ''), { ok: false, error: { field: 'ca-cert.pem' } })
  t.match(await wrong('root-cert.pem', other.rootPem), {
    ok: false,
    error: { field: 'ca-cert.pem', message: /no chain leads/ },
  })
  t.match(await wrong('cert-chain.pem', 'x'), { ok: false, error: { field: 'cert-chain.pem' } })
  t.match(await wrong('trust-domain', 'C1'), { ok: false, error: { field: 'trustDomain' } })
  t.ok((await loadCa(folder)).ok)
})

t.test('a CA whose root issues by itself has no intermediates to send', async (t) => {
  const made = await createCa({ trustDomain: 'c1.example' })
  const parts = {
    trustDomain: 'c1.example',
    rootPem: made.rootPem,
    issuerPem: made.rootPem,
    issuerKeyPem: made.rootKeyPem ?? '',
  }
  const ca = Ca.fromParts(parts, 'x')
  if (!ca.ok) throw new Error(ca.error.message)
  const issued = await ca.value.issue({ id: 'spiffe://c1.example/x' })
  t.equal(issued.certificatePem.match(/BEGIN/g)?.length, 1)
  t.ok(verifySvid(firstDer(issued.certificatePem), new TrustBundles([ca.value.bundle]), Date.now()).ok)
})

t.test('a file that cannot be written leaves the old one and no temporary', async (t) => {
  const folder = t.testdir({ file: 'old', taken: {} })
  await t.rejects(writeFileAtomic(join(folder, 'taken'), 'new', 0o600))
  await writeFileAtomic(join(folder, 'file'), 'new', 0o600)
  t.equal(await readFile(join(folder, 'file'), 'utf8'), 'new')
  t.same((await readdir(folder)).sort(), ['file', 'taken'])
})

t.test('lifetimes in words', async (t) => {
  for (const [text, ms] of [
    ['30s', 30_000],
    ['90m', 90 * 60_000],
    ['24h', 24 * HOUR],
    ['1d12h', 36 * HOUR],
  ] as const) {
    t.same(parseLifetime(text), { ok: true, value: ms }, text)
  }
  for (const text of ['', '24', 'h', '-1h', '1.5h', '24 h', '0s', '1y', '99999999999999999d', 'x1h']) {
    t.notOk(parseLifetime(text).ok, text)
  }
  t.equal(formatLifetime(365 * 24 * HOUR - 1), '364d 23h')
  t.equal(formatLifetime(59_000), '59s')
  t.equal(formatLifetime(0), 'expired')
})
