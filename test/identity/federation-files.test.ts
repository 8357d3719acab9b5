// Trust domains that are decided about by files of this machine.
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { FederationFiles } from '../../src/identity/federation-files.ts'
import { parseSpiffeBundle } from '../../src/identity/spiffe-bundle.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { formatProblem } from '../../src/lib/result.ts'
import * as m from './mint.ts'

const [one, two] = await Promise.all(
  ['one.example', 'two.example'].map((trustDomain) => createCa({ trustDomain })),
)
if (one === undefined || two === undefined) throw new Error('no CA')
const alive = setInterval(() => {}, 1_000)
t.teardown(() => clearInterval(alive))

const jwk = (pem: string, use = 'x509-svid') => ({
  kty: 'EC',
  use,
  x5c: [pem.replaceAll(/-----[A-Z ]+-----|\s/g, '')],
})
const document = (pems: readonly string[], sequence = 1) =>
  JSON.stringify({ keys: pems.map((pem) => jwk(pem)), spiffe_sequence: sequence, spiffe_refresh_hint: 300 })

async function watching(t: Test, directory: string) {
  const files = new FederationFiles({ directory, logger: silentLogger })
  t.teardown(() => files.stop())
  await files.start()
  /** Does it, and resolves when it is in force; how long that took, milliseconds. */
  const change = async (act: () => void, holds: () => boolean): Promise<number> => {
    const from = performance.now()
    act()
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
    return performance.now() - from
  }
  const trusted = () =>
    [...files.current()].map(([name, { bundle }]) => `${name} ${bundle?.certificates.length ?? 'nobody'}`)
  const said = () => files.problems().map(formatProblem).join('\n')
  return { files, change, trusted, said }
}

t.test('one file for each trust domain, PEM or SPIFFE bundle, in force within a second', async (t) => {
  const directory = t.testdir({
    'one.example.pem': one.bundlePem,
    'two.example.json': document([two.rootPem, two.issuerPem]),
    'README.md': 'not looked at',
    '.one.example.pem.swp': 'nor this',
  })
  const { change, trusted, said, files } = await watching(t, directory)
  t.same(trusted(), ['one.example 2', 'two.example 2'])
  t.equal(said(), '')
  let told = 0
  files.onChange(() => told++)
  const third = await createCa({ trustDomain: 'three.example' })
  const added = await change(
    () => writeFileSync(join(directory, 'three.example.pem'), third.bundlePem),
    () => trusted().length === 3,
  )
  t.ok(added < 1_000)
  const removed = await change(
    () => rmSync(join(directory, 'one.example.pem')),
    () => trusted().length === 2,
  )
  t.ok(removed < 1_000)
  t.equal(told, 2)
  const before = files.current()
  await new Promise((resolve) => setTimeout(resolve, 600))
  t.equal(files.current(), before, 'looking again changes nothing')
})

t.test('an empty `keys` revokes the trust domain; a list without X.509 keys is a mistake', async (t) => {
  const directory = t.testdir({ 'two.example.json': document([two.rootPem]) })
  const { change, trusted, said } = await watching(t, directory)
  t.same(trusted(), ['two.example 1'])
  const write = (text: string) => () => writeFileSync(join(directory, 'two.example.json'), text)
  await change(write(JSON.stringify({ keys: [jwk(two.rootPem, 'jwt-svid')] })), () => said() !== '')
  t.match(said(), /two\.example\.json: keys: none is for X\.509-SVIDs/)
  t.same(trusted(), ['two.example 1'], 'the last good one stays')
  const took = await change(write(document([], 2)), () => trusted()[0] === 'two.example nobody')
  t.ok(took < 1_000)
  t.equal(said(), '')
  await change(write(document([two.rootPem], 1)), () => said() !== '')
  t.match(said(), /spiffe_sequence: 1 is older than 2/)
  t.same(trusted(), ['two.example nobody'], 'an old document brings nobody back')
  await change(write(document([two.rootPem], 3)), () => trusted()[0] === 'two.example 1')
})

t.test('a broken file keeps its last good content and is named; the others are not touched', async (t) => {
  const directory = t.testdir({ 'one.example.pem': one.bundlePem, 'two.example.pem': 'never good' })
  const { change, trusted, said } = await watching(t, directory)
  t.same(trusted(), ['one.example 2', 'two.example nobody'], 'decided here, and nobody is trusted')
  t.match(said(), /two\.example\.pem: holds no certificate/)
  const leaf = (await one.issue({ namespace: 'a', serviceAccount: 'b' })).certificatePem
  for (const bad of [one.bundlePem.slice(0, 300), leaf, '']) {
    await change(
      () => writeFileSync(join(directory, 'one.example.pem'), bad),
      () => /one\.example\.pem/.test(said()),
    )
    t.same(trusted(), ['one.example 2', 'two.example nobody'])
    await change(
      () => writeFileSync(join(directory, 'one.example.pem'), one.bundlePem),
      () => !/one\.example\.pem/.test(said()),
    )
  }
  writeFileSync(join(directory, 'Not A Domain.pem'), one.bundlePem)
  writeFileSync(join(directory, 'one.example.json'), document([one.rootPem]))
  await change(
    () => {},
    () =>
      /Not A Domain\.pem.*no trust domain/.test(said()) && /a \.pem of the same trust domain/.test(said()),
  )
  t.same(trusted(), ['one.example 2', 'two.example nobody'])
})

t.test('CRLs, with a bundle and without', async (t) => {
  const root = m.mintRoot('root')
  const list = m.mintCrl({ issuer: root, revoked: [m.mintLeaf(root, 'spiffe://one.example/x')] }).pem
  const directory = t.testdir({
    'one.example.pem': root.pem,
    'one.example.crl': list,
    'two.example.crl': list,
  })
  const { files, change, said } = await watching(t, directory)
  t.match(files.current().get('one.example'), { crls: { length: 1 }, bundle: { trustDomain: 'one.example' } })
  t.notOk('bundle' in (files.current().get('two.example') ?? {}), 'its bundle is for others to say')
  await change(
    () => writeFileSync(join(directory, 'one.example.crl'), 'broken'),
    () => said() !== '',
  )
  t.match(said(), /one\.example\.crl: holds no CRL/)
  t.equal(files.current().get('one.example')?.crls.length, 1)
})

t.test('a mounted ConfigMap: ..data is swapped', async (t) => {
  const directory = t.testdir()
  const swap = (version: string, files: Record<string, string>) => {
    mkdirSync(join(directory, `..${version}`))
    for (const [name, text] of Object.entries(files))
      writeFileSync(join(directory, `..${version}`, name), text)
    symlinkSync(`..${version}`, join(directory, '..data_tmp'))
    renameSync(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  swap('1', { 'one.example.pem': one.bundlePem })
  symlinkSync(join('..data', 'one.example.pem'), join(directory, 'one.example.pem'))
  const { change, trusted } = await watching(t, directory)
  t.same(trusted(), ['one.example 2'])
  const took = await change(
    () => swap('2', { 'two.example.pem': two.bundlePem }),
    () => trusted()[0] === 'two.example 2',
  )
  t.ok(took < 1_000)
})

t.test('a folder that is missing is named, and found when it comes', async (t) => {
  const directory = join(t.testdir(), 'later')
  const { change, trusted, said } = await watching(t, directory)
  t.match(said(), /no such folder/)
  mkdirSync(directory)
  await change(
    () => writeFileSync(join(directory, 'one.example.pem'), one.bundlePem),
    () => trusted().length === 1,
  )
  await change(
    () => rmSync(directory, { recursive: true }),
    () => said() !== '',
  )
  t.same(trusted(), ['one.example 2'], 'one that goes away takes nothing with it')
})

t.test('SPIFFE bundle documents', async (t) => {
  const rows: [string, RegExp][] = [
    ['', /expected a JSON object/],
    ['[]', /expected a JSON object/],
    ['{}', /keys: expected an array/],
    ['{"keys":[1]}', /keys\[0\]: expected an object/],
    ['{"keys":[{"use":"x509-svid"}]}', /keys\[0\]\.x5c: expected one certificate/],
    ['{"keys":[{"use":"x509-svid","x5c":["a","b"]}]}', /keys\[0\]\.x5c: expected one certificate/],
    ['{"keys":[{"use":"x509-svid","x5c":["-----BEGIN"]}]}', /expected base64/],
    ['{"keys":[],"spiffe_sequence":"1"}', /spiffe_sequence: expected a whole number/],
    ['{"keys":[],"spiffe_refresh_hint":-1}', /spiffe_refresh_hint: expected a whole number/],
    ['{"keys":[{"kty":"EC"}]}', /none is for X\.509-SVIDs/],
  ]
  for (const [text, expected] of rows) t.match(parseSpiffeBundle(text), { ok: false, error: expected })
  t.match(parseSpiffeBundle('{"keys":[]}'), { ok: true, value: { pem: '', sequence: undefined } })
  const mixed = JSON.stringify({
    keys: [{ use: 'jwt-svid', kid: 'x' }, jwk(one.rootPem)],
    spiffe_refresh_hint: 60,
  })
  t.match(parseSpiffeBundle(mixed), { ok: true, value: { refreshHintSeconds: 60, pem: /BEGIN CERTIFICATE/ } })
})
