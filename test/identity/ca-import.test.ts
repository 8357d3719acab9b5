// Istio's plugged-in CA, RSA and EC, made here by node-forge and by openssl: neither is our own certificate maker.
import { execFileSync } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import forge from 'node-forge'
import t, { type Test } from 'tap'
import type { Ca } from '../../src/identity/ca.ts'
import { loadCa, saveCa } from '../../src/identity/ca-folder.ts'
import { importCacerts, importPkcs12, rsaKeyToPkcs8 } from '../../src/identity/ca-import.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { verifySvid } from '../../src/identity/verify-svid.ts'
import { firstDer, rsaKeys } from './mint.ts'

interface ForgeCa {
  readonly certificate: forge.pki.Certificate
  readonly key: forge.pki.rsa.PrivateKey
}

/** An RSA CA certificate as Istio's tools/certs makes them: O=Istio, CN=…, CA:TRUE, keyCertSign. */
function forgeCa(commonName: string, issuer?: ForgeCa): ForgeCa {
  // OpenSSL makes the key: node-forge would take seconds.
  const key = forge.pki.privateKeyFromPem(
    String(rsaKeys(2048).privateKey.export({ type: 'pkcs1', format: 'pem' })),
  )
  const certificate = forge.pki.createCertificate()
  certificate.publicKey = forge.pki.setRsaPublicKey(key.n, key.e)
  certificate.serialNumber = '4d'
  certificate.validity.notBefore = new Date(Date.now() - 60_000)
  certificate.validity.notAfter = new Date(Date.now() + 3_600_000)
  const subject = [
    { name: 'organizationName', value: 'Istio' },
    { name: 'commonName', value: commonName },
  ]
  certificate.setSubject(subject)
  certificate.setIssuer(issuer?.certificate.subject.attributes ?? subject)
  certificate.setExtensions([
    { name: 'basicConstraints', cA: true, critical: true },
    { name: 'keyUsage', keyCertSign: true, digitalSignature: true, critical: true },
    { name: 'subjectKeyIdentifier' },
  ])
  certificate.sign(issuer?.key ?? key, forge.md.sha256.create())
  return { certificate, key }
}
const pemOf = ({ certificate }: ForgeCa) => forge.pki.certificateToPem(certificate)

const root = forgeCa('Root CA')
const issuing = forgeCa('Intermediate CA', root)

async function issues(t: Test, ca: Ca): Promise<void> {
  const issued = await ca.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
  const verdict = verifySvid(firstDer(issued.certificatePem), new TrustBundles([ca.bundle]), Date.now())
  t.match(verdict, { ok: true, value: { id: { uri: 'spiffe://cluster.local/ns/bookinfo/sa/sleep' } } })
  t.ok(parseCredential(issued.certificatePem, issued.privateKeyPem, 'x').ok)
  const leaf = new X509Certificate(issued.certificatePem)
  t.ok(leaf.checkIssued(new X509Certificate(ca.issuerPem)), 'names and key identifiers fit')
}
t.test("Istio's cacerts with RSA keys, PKCS#1 and PKCS#8", async (t) => {
  const pkcs1 = forge.pki.privateKeyToPem(issuing.key)
  const pkcs8 = forge.pki.privateKeyInfoToPem(
    forge.pki.wrapRsaPrivateKey(forge.pki.privateKeyToAsn1(issuing.key)),
  )
  for (const key of [pkcs1, pkcs8]) {
    const folder = t.testdir({
      'ca-cert.pem': pemOf(issuing),
      'ca-key.pem': key,
      'root-cert.pem': pemOf(root),
      'cert-chain.pem': pemOf(issuing) + pemOf(root),
    })
    const imported = await importCacerts(folder, 'cluster.local')
    if (!imported.ok) throw new Error(imported.error.message)
    await issues(t, imported.value)
    const out = join(folder, 'out')
    await saveCa(imported.value, out)
    const loaded = await loadCa(out)
    if (!loaded.ok) throw new Error(loaded.error.message)
    await issues(t, loaded.value)
    t.match(readFileSync(join(out, 'ca-key.pem'), 'utf8'), /BEGIN PRIVATE KEY/)
  }
})

t.test('cacerts that openssl made: EC on three curves, Ed25519, odd name encodings', async (t) => {
  const folder = t.testdir()
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  await writeFile(
    join(folder, 'ca.cnf'),
    'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n',
  )
  const subject = '/C=DE/O=Prüfung & Söhne, "GmbH"/CN=Root\\+1'
  for (const kind of ['prime256v1', 'secp384r1', 'secp521r1', 'ed25519']) {
    const key =
      kind === 'ed25519'
        ? ['-algorithm', kind]
        : ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${kind}`]
    openssl('genpkey', ...key, '-out', 'root-key.pem')
    openssl(
      'req',
      '-new',
      '-x509',
      '-utf8',
      '-key',
      'root-key.pem',
      '-out',
      'root-cert.pem',
      '-subj',
      subject,
      '-days',
      '1',
      '-addext',
      'keyUsage=critical,keyCertSign',
    )
    openssl('genpkey', ...key, '-out', 'ca-key.pem')
    // No -utf8: the name becomes a T61String, which a careless re-encoding would change.
    openssl(
      'req',
      '-new',
      '-key',
      'ca-key.pem',
      '-out',
      'ca.csr',
      '-subj',
      subject.replace('Root', 'Issuing'),
    )
    openssl(
      'x509',
      '-req',
      '-in',
      'ca.csr',
      '-CA',
      'root-cert.pem',
      '-CAkey',
      'root-key.pem',
      '-CAcreateserial',
      '-out',
      'ca-cert.pem',
      '-days',
      '1',
      '-extfile',
      'ca.cnf',
    )
    const imported = await importCacerts(folder, 'cluster.local')
    if (!imported.ok) throw new Error(`${kind}: ${imported.error.message}`)
    await issues(t, imported.value)
  }
})

t.test('a PKCS#12 file', async (t) => {
  const chain = [issuing.certificate, root.certificate]
  const asn1 = forge.pkcs12.toPkcs12Asn1(issuing.key, chain, 'secret', { algorithm: 'aes256' })
  const bytes = Buffer.from(forge.asn1.toDer(asn1).getBytes(), 'latin1')
  const imported = importPkcs12(bytes, 'secret', 'cluster.local', 'ca.p12')
  if (!imported.ok) throw new Error(imported.error.message)
  await issues(t, imported.value)
  t.match(importPkcs12(bytes, 'wrong', 'cluster.local', 'ca.p12'), {
    ok: false,
    error: { object: 'ca.p12', message: /password/ },
  })
  t.match(importPkcs12(bytes.subarray(0, 100), 'secret', 'cluster.local', 'ca.p12'), { ok: false })
  const alone = forge.asn1
    .toDer(forge.pkcs12.toPkcs12Asn1(issuing.key, [issuing.certificate], 'secret'))
    .getBytes()
  t.match(importPkcs12(Buffer.from(alone, 'latin1'), 'secret', 'cluster.local', 'ca.p12'), {
    ok: false,
    error: { message: /root/ },
  })
})

t.test('RSA keys only are converted', async (t) => {
  const key = rsaKeys(2048).privateKey
  const converted = rsaKeyToPkcs8(String(key.export({ type: 'pkcs1', format: 'pem' })))
  t.ok(createPrivateKey(converted ?? '').equals(key))
  t.equal(rsaKeyToPkcs8('-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n'), undefined)
  t.equal(rsaKeyToPkcs8(''), undefined)
})

t.test('cacerts that do not fit together are named', async (t) => {
  const stranger = forgeCa('Root CA')
  const folder = t.testdir({
    'ca-cert.pem': pemOf(issuing),
    'ca-key.pem': forge.pki.privateKeyToPem(stranger.key),
    'root-cert.pem': pemOf(root),
  })
  t.match(await importCacerts(folder, 'cluster.local'), {
    ok: false,
    error: { object: folder, field: 'ca-key.pem' },
  })
  await writeFile(join(folder, 'ca-key.pem'), forge.pki.privateKeyToPem(issuing.key))
  t.ok((await importCacerts(folder, 'cluster.local')).ok, 'cert-chain.pem may be missing under a root')
  await writeFile(join(folder, 'root-cert.pem'), pemOf(stranger))
  t.match(await importCacerts(folder, 'cluster.local'), {
    ok: false,
    error: { field: 'ca-cert.pem', message: /no chain/ },
  })
})
