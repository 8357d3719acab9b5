import { rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { inspect } from 'node:util'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { CredentialFiles } from '../../src/identity/credential-files.ts'
import { PUBLIC, writeFileAtomic } from '../../src/identity/write-file.ts'
import * as m from './mint.ts'

const ca = await createCa({ trustDomain: 'c1.example' })
const issue = async (serviceAccount: string) => ({
  ...(await ca.issue({ namespace: 'bookinfo', serviceAccount })),
  bundlePem: ca.bundlePem,
})

// Watchers and timers of the product do not keep a process alive; the test must, while it waits for them.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

/** A logger whose lines can be waited for. */
function listen() {
  const waiting: { readonly pattern: RegExp; readonly resolve: (line: string) => void }[] = []
  const lines: string[] = []
  const sink = new Writable({
    write(chunk, _encoding, done) {
      const line = String(chunk)
      lines.push(line)
      for (const { pattern, resolve } of waiting) if (pattern.test(line)) resolve(line)
      done()
    },
  })
  const said = (pattern: RegExp) => new Promise<string>((resolve) => waiting.push({ pattern, resolve }))
  return { logger: pino({}, sink), said, lines }
}

async function watching(t: Test, directory: string) {
  const log = listen()
  const files = new CredentialFiles({ directory, logger: log.logger })
  t.teardown(() => files.stop())
  await files.start()
  const changed = () =>
    new Promise<number>((resolve) => {
      const from = performance.now()
      const end = files.onChange(() => {
        end()
        resolve(performance.now() - from)
      })
    })
  const id = () => files.current()?.credential.id.path
  return { files, changed, id, ...log }
}

t.test('new files are in force within a second', async (t) => {
  const directory = t.testdir()
  await writeCredential(directory, await issue('one'))
  const { changed, id, files } = await watching(t, directory)
  t.equal(id(), '/ns/bookinfo/sa/one')
  for (const name of ['two', 'three', 'four']) {
    const change = changed()
    await writeCredential(directory, await issue(name))
    t.ok((await change) < 1000)
    t.equal(id(), `/ns/bookinfo/sa/${name}`)
    t.same(files.problems(), [])
  }
})

t.test('a mounted Secret: ..data is swapped, all three files change at one moment', async (t) => {
  const directory = t.testdir()
  const swap = async (version: string, name: string) => {
    await writeCredential(join(directory, `..${version}`), await issue(name))
    await symlink(`..${version}`, join(directory, '..data_tmp'))
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  await swap('2026_1', 'one')
  for (const name of ['tls.crt', 'tls.key', 'ca.crt'])
    await symlink(join('..data', name), join(directory, name))
  const { changed, id, lines } = await watching(t, directory)
  t.equal(id(), '/ns/bookinfo/sa/one')
  const change = changed()
  await swap('2026_2', 'two')
  await rm(join(directory, '..2026_1'), { recursive: true })
  t.ok((await change) < 1000)
  t.equal(id(), '/ns/bookinfo/sa/two')
  t.notOk(
    lines.some((line) => line.includes('"level":40')),
    'no problem in between',
  )
})

t.test(
  'ca.crl: CRLs of our own CAs, a change within a second; a bad one keeps the last good state',
  async (t) => {
    const root = m.mintRoot('root')
    const leaf = m.mintLeaf(root, 'spiffe://c1.example/ns/bookinfo/sa/one')
    const directory = t.testdir()
    const credential = { certificatePem: leaf.pem, privateKeyPem: leaf.keyPem, bundlePem: root.pem }
    await writeCredential(directory, credential)
    const { changed, files } = await watching(t, directory)
    t.same(files.current()?.bundle.crls, [])
    const change = changed()
    const list = (options: object) => m.mintCrl({ issuer: root, ...options }).pem
    await writeFileAtomic(
      join(directory, 'ca.crl'),
      list({ revoked: [m.mintLeaf(root, 'spiffe://c1.example/x')] }),
      PUBLIC,
    )
    t.ok((await change) < 1000)
    t.equal(files.current()?.bundle.crls[0]?.crl.revoked.size, 1)
    for (const bad of [
      'garbage',
      list({ signer: m.ecKeys() }),
      m.mintCrl({ issuer: m.mintRoot('other') }).pem,
    ]) {
      await writeFileAtomic(join(directory, 'ca.crl'), bad, PUBLIC)
      while (files.problems().length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
      t.match(files.problems(), [{ field: 'ca.crl' }])
      t.equal(files.current()?.bundle.crls.length, 1)
      await writeFileAtomic(join(directory, 'ca.crl'), list({ revoked: [leaf] }), PUBLIC)
      while (files.problems().length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
    }
  },
)

t.test('the folder itself is replaced', async (t) => {
  const parent = t.testdir()
  const directory = join(parent, 'certs')
  await writeCredential(directory, await issue('one'))
  await writeCredential(join(parent, 'next'), await issue('two'))
  const { changed, id } = await watching(t, directory)
  const change = changed()
  await rename(directory, join(parent, 'old'))
  await rename(join(parent, 'next'), directory)
  t.ok((await change) < 1000)
  t.equal(id(), '/ns/bookinfo/sa/two')
  const again = changed()
  await writeCredential(directory, await issue('three'))
  await again
  t.equal(id(), '/ns/bookinfo/sa/three', 'and the new one is watched')
})

t.test('what is broken or half written keeps the last good one and is named', async (t) => {
  const directory = t.testdir()
  const good = await issue('good')
  const stranger = await issue('stranger')
  const foreign = await createCa({ trustDomain: 'c1.example' })
  const expired = await ca.issue({
    namespace: 'a',
    serviceAccount: 'b',
    nowMs: Date.now() - 7_200_000,
    lifetimeMs: 3_600_000,
  })
  const future = await ca.issue({ namespace: 'a', serviceAccount: 'b', nowMs: Date.now() + 3_600_000 })
  await writeCredential(directory, good)
  const { files, id, said, changed } = await watching(t, directory)
  const rows: [
    what: string,
    file: string,
    content: string,
    expected: { object?: RegExp; field?: string; message: RegExp },
  ][] = [
    [
      'a certificate cut off',
      'tls.crt',
      good.certificatePem.slice(0, 300),
      { field: 'tls.crt', message: /cut off/ },
    ],
    ['an empty certificate', 'tls.crt', '', { field: 'tls.crt', message: /no certificate/ }],
    [
      'the key of another',
      'tls.key',
      stranger.privateKeyPem,
      { field: 'tls.key', message: /does not belong/ },
    ],
    [
      'half a key',
      'tls.key',
      good.privateKeyPem.slice(0, 100),
      { field: 'tls.key', message: /not an unencrypted private key/ },
    ],
    [
      'the certificate of another',
      'tls.crt',
      stranger.certificatePem,
      { field: 'tls.key', message: /does not belong/ },
    ],
    ['a foreign bundle', 'ca.crt', foreign.bundlePem, { field: 'ca.crt', message: /does not vouch/ }],
    ['half a bundle', 'ca.crt', good.bundlePem.slice(0, -40), { object: /ca\.crt$/, message: /cut off/ }],
    ['a CA as certificate', 'tls.crt', ca.issuerPem, { field: 'tls.crt', message: /no SVID/ }],
  ]
  for (const [what, file, content, expected] of rows) {
    const warned = said(/"level":40/)
    // At once: a file that is truncated first may be read, and rightly reported, as empty.
    await writeFileAtomic(join(directory, file), content, PUBLIC)
    const line = await warned
    t.match(files.problems(), [expected], what)
    t.match(line, /the last good credential stays in force/)
    t.equal(id(), '/ns/bookinfo/sa/good')
    await writeCredential(directory, good)
    while (files.problems().length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  }
  for (const [issued, message] of [
    [expired, /expired at/],
    [future, /not valid before/],
  ] as const) {
    const warned = said(message)
    await writeCredential(directory, { ...issued, bundlePem: ca.bundlePem })
    await warned
    t.equal(id(), '/ns/bookinfo/sa/good')
  }
  const missing = said(/no such file/)
  await rm(join(directory, 'tls.key'))
  await missing
  const change = changed()
  await writeCredential(directory, stranger)
  await change
  t.equal(id(), '/ns/bookinfo/sa/stranger', 'the next good one takes over')
})

t.test('files that come only later', async (t) => {
  const parent = t.testdir()
  const directory = join(parent, 'not-yet')
  const { files, changed, id } = await watching(t, directory)
  t.equal(files.current(), undefined)
  t.match(files.problems(), [{ object: directory, field: 'tls.crt', message: 'no such file' }])
  const change = changed()
  await writeCredential(directory, await issue('late'))
  t.ok((await change) < 1000)
  t.equal(id(), '/ns/bookinfo/sa/late')
  t.same(files.problems(), [])
})

t.test('a certificate from the future comes into force by itself', async (t) => {
  const directory = t.testdir()
  let now = Date.now()
  const due = new Set<() => void>()
  const clock = {
    now: () => now,
    after: (_ms: number, callback: () => void) => {
      due.add(callback)
      return () => due.delete(callback)
    },
  }
  const issued = await ca.issue({ namespace: 'a', serviceAccount: 'b', nowMs: now + 3_600_000 })
  await writeCredential(directory, { ...issued, bundlePem: ca.bundlePem })
  const files = new CredentialFiles({ directory, logger: listen().logger, clock })
  t.teardown(() => files.stop())
  await files.start()
  t.match(files.problems(), [{ field: 'tls.crt', message: /not valid before/ }])
  now += 3_600_000
  const change = new Promise<void>((resolve) => files.onChange(resolve))
  for (const callback of [...due]) {
    due.delete(callback)
    callback()
  }
  await change
  t.equal(files.current()?.credential.id.path, '/ns/a/sa/b')
})

t.test('intermediates of the own chain join a bundle that holds only the root', async (t) => {
  const directory = t.testdir()
  const issued = await ca.issue({ namespace: 'a', serviceAccount: 'b' })
  await writeCredential(directory, { ...issued, bundlePem: ca.rootPem })
  const { files } = await watching(t, directory)
  t.equal(files.current()?.bundle.certificates.length, 2)
})

t.test('after stop nothing is told any more, and stop may be called twice', async (t) => {
  const directory = t.testdir()
  await writeCredential(directory, await issue('one'))
  const { files, id } = await watching(t, directory)
  files.onChange(() => t.fail('told after stop'))
  files.stop()
  files.stop()
  await writeCredential(directory, await issue('two'))
  t.equal(id(), '/ns/bookinfo/sa/one')
})

t.test('a listener that throws does not keep the others from being told', async (t) => {
  const directory = t.testdir()
  await writeCredential(directory, await issue('one'))
  const { files, changed, said } = await watching(t, directory)
  files.onChange(() => {
    throw new Error('broken listener')
  })
  const [told, logged] = [changed(), said(/broken listener/)]
  await writeCredential(directory, await issue('two'))
  await Promise.all([told, logged])
  t.equal(files.current()?.credential.id.path, '/ns/bookinfo/sa/two')
})

t.test('the key of a credential does not print', async (t) => {
  const issued = await issue('one')
  const parsed = parseCredential(issued.certificatePem, issued.privateKeyPem, 'certs')
  if (!parsed.ok) throw new Error(parsed.error.message)
  const secret = issued.privateKeyPem.split('\n')[1] ?? ''
  const log = listen()
  log.logger.info({ credential: parsed.value, nested: { it: [parsed.value] } }, 'x')
  for (const text of [
    inspect(parsed.value, { depth: 9, showHidden: true }),
    JSON.stringify(parsed),
    `${parsed.value}`,
    log.lines.join(),
  ]) {
    t.notMatch(text, secret)
    t.notMatch(text, 'PRIVATE')
  }
  t.equal(parsed.value.privateKeyPem, issued.privateKeyPem)
})

t.test('a chain out of order is refused', async (t) => {
  const issued = await issue('one')
  const [leaf = '', issuer = ''] = issued.certificatePem.split(/(?<=-----END CERTIFICATE-----\n)/)
  const swapped = parseCredential(leaf + ca.rootPem + issuer, issued.privateKeyPem, 'certs')
  t.match(swapped, {
    ok: false,
    error: { object: 'certs', field: 'tls.crt', message: /certificate 2 did not sign certificate 1/ },
  })
  const encrypted = m
    .keyFromPem(issued.privateKeyPem)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' })
  t.match(parseCredential(issued.certificatePem, String(encrypted), 'certs'), {
    ok: false,
    error: { field: 'tls.key' },
  })
})
