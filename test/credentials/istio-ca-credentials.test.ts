// Our own credential from Istio's CA over real TLS: what is asked, what is taken, when it is renewed, and what is never taken.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { IstioCaCredentials, type IstioCaOptions } from '../../src/credentials/istio-ca-credentials.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { formatProblem } from '../../src/lib/result.ts'
import * as m from '../identity/mint.ts'
import { type Answer, type Asked, IstioCa, keysOf, namesIn } from './istio-ca.ts'

const ID = 'spiffe://c1.example/ns/bookinfo/sa/gateway'
const alive = setInterval(() => {}, 1_000)
t.teardown(() => clearInterval(alive))

/** Real time, but what waits is started by the test. */
class HandClock implements Clock {
  waiting: { readonly ms: number; readonly callback: () => void } | undefined
  now(): number {
    return Date.now()
  }
  after(ms: number, callback: () => void): () => void {
    this.waiting = { ms, callback }
    return () => {
      this.waiting = undefined
    }
  }
}

async function world(t: Test, options: Partial<IstioCaOptions> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-ca-'))
  const issuing = { current: undefined as m.Minted | undefined }
  const sign = (
    { csr }: Asked,
    leaf: Partial<m.MintOptions> & { id?: string } = {},
    parts: m.LeafParts = {},
  ) => m.mintLeaf(issuing.current ?? ca.root, leaf.id ?? ID, parts, { keys: keysOf(csr), ...leaf }).pem
  const good = (asked: Asked): Answer => [sign(asked), issuing.current?.pem ?? '', ca.root.pem]
  const ca = new IstioCa(good)
  issuing.current = m.mint({
    subject: 'issuing',
    keys: m.ecKeys(),
    issuer: ca.root,
    extensions: m.caExtensions(0),
  })
  await ca.start()
  const [rootFile, tokenFile] = [join(folder, 'root.pem'), join(folder, 'token')]
  writeFileSync(rootFile, ca.rootPem)
  writeFileSync(tokenFile, 'token-1\n')
  const clock = new HandClock()
  const source = new IstioCaCredentials({
    address: ca.address,
    rootFile,
    tokenFile,
    cluster: 'cluster-1',
    id: ID,
    logger: silentLogger,
    clock,
    timeoutMs: 2_000,
    ...options,
  })
  t.teardown(() => {
    source.stop()
    ca.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  /** The time that was waited for has come; resolves when the attempt is over. */
  const renew = async (): Promise<void> => {
    const due = clock.waiting
    clock.waiting = undefined
    due?.callback()
    while (clock.waiting === undefined) await new Promise((resolve) => setTimeout(resolve, 2))
    await new Promise((resolve) => setImmediate(resolve))
  }
  const said = () => source.problems().map(formatProblem).join('\n')
  return { ca, source, clock, renew, said, sign, good, rootFile, tokenFile, issuing }
}

t.test(
  'a key of our own, a request with our id, the token of the day, renewed at half of the life',
  async (t) => {
    const { ca, source, clock, renew, tokenFile } = await world(t)
    await source.start()
    t.same(source.problems(), [])
    t.equal(source.current()?.credential.id.uri, ID)
    t.equal(source.current()?.bundle.certificates.length, 2, 'root and issuing CA of the answer')
    const [asked] = ca.asked
    if (asked === undefined) throw new Error('nothing was asked')
    t.ok(await asked.csr.verify(), 'the request is signed with its own key')
    t.same(namesIn(asked.csr), [{ type: 'url', value: ID }])
    t.same(asked.metadata.get('authorization'), ['Bearer token-1'])
    t.same(asked.metadata.get('clusterid'), ['cluster-1'])
    t.equal(asked.validitySeconds, 24 * 3600)
    const leftMs = (source.current()?.credential.notAfterMs ?? 0) - Date.now()
    const part = (clock.waiting?.ms ?? 0) / leftMs
    t.ok(part > 0.44 && part < 0.56, `half of its life, give or take a tenth: ${part}`)

    const first = source.current()?.credential
    let changes = 0
    source.onChange(() => changes++)
    writeFileSync(tokenFile, 'token-2')
    await renew()
    t.same(ca.asked[1]?.metadata.get('authorization'), ['Bearer token-2'])
    t.equal(changes, 1)
    t.not(source.current()?.credential.privateKeyPem, first?.privateKeyPem, 'another key')
  },
)

t.test('what a CA answers and peers would not take keeps the last good one, and is named', async (t) => {
  const { ca, source, renew, said, sign, issuing, good } = await world(t)
  await source.start()
  const kept = source.current()
  const top = (): string[] => [issuing.current?.pem ?? '', ca.root.pem]
  const past = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 1_000) }
  const stranger = m.mintRoot('stranger')
  const rows: [string, (asked: Asked) => Answer, RegExp][] = [
    [
      'another key',
      (asked) => [sign(asked, { keys: m.ecKeys() }), ...top()],
      /the key does not belong to the certificate/,
    ],
    [
      'another id',
      (asked) => [sign(asked, { id: `${ID}-2` }), ...top()],
      /is for spiffe:.*gateway-2; spiffe:.*gateway was asked for/,
    ],
    [
      'a CA certificate',
      (asked) => [sign(asked, {}, { basic: m.basicConstraints(true) }), ...top()],
      /is a CA certificate/,
    ],
    ['expired', (asked) => [sign(asked, past), ...top()], /expired at/],
    [
      'two ids',
      (asked) => [sign(asked, {}, { names: [m.uriName(ID), m.uriName(`${ID}-2`)] }), ...top()],
      /2 URI SANs/,
    ],
    ['without its issuing CA', (asked) => [sign(asked), ca.root.pem], /does not vouch/],
    [
      'under a root that is not in the answer',
      (asked) => [sign(asked), issuing.current?.pem ?? '', stranger.pem],
      /does not vouch/,
    ],
    [
      'no root, and none in the file that fits',
      (asked) => [sign(asked), issuing.current?.pem ?? ''],
      /does not vouch/,
    ],
    ['nothing', () => [], /holds no certificate/],
    ['text', () => ['hello'], /holds no certificate/],
    ['a private key', () => [m.mintRoot('x').keyPem], /holds a PRIVATE KEY/],
    ['bytes that are no message', () => Uint8Array.of(0x0a, 0xff, 0xff), /is no IstioCertificateResponse/],
    [
      'an error',
      () => ({ code: status.UNAUTHENTICATED, details: 'request authenticate failure' }),
      /request authenticate failure/,
    ],
    ['two megabytes', () => ['x'.repeat(2 * 1024 * 1024)], /larger than max|message/i],
  ]
  for (const [what, answer, expected] of rows) {
    ca.answer = answer
    await renew()
    t.match(said(), expected, what)
    t.equal(source.current(), kept, what)
  }
  ca.answer = good
  await renew()
  t.same(source.problems(), [])
  t.not(source.current(), kept)
})

t.test('a CA that is slow, gone or somebody else, and files that are missing', async (t) => {
  const { ca, source, clock, renew, said, good, tokenFile, rootFile } = await world(t, { timeoutMs: 250 })
  ca.answer = () => undefined
  await source.start()
  t.match(said(), /istio-ca:localhost:\d+: .*[Dd]eadline/)
  t.equal(source.current(), undefined)
  const first = clock.waiting?.ms ?? 0
  t.ok(first >= 500 && first <= 1_000, `tried again after ${first} ms`)
  await renew()
  t.ok((clock.waiting?.ms ?? 0) >= 1_000, 'and later each time')

  ca.answer = good
  await renew()
  t.equal(source.current()?.credential.id.uri, ID)
  const kept = source.current()
  rmSync(tokenFile)
  await renew()
  t.match(said(), /token cannot be read \(ENOENT\)/)
  writeFileSync(tokenFile, 'two\nlines')
  await renew()
  t.match(said(), /holds no token that could be sent/)
  t.notMatch(said(), /lines/)
  writeFileSync(tokenFile, 'token-3')

  const calls = ca.asked.length
  writeFileSync(rootFile, m.mintRoot('web root').pem)
  await renew()
  t.match(said(), /istio-ca:localhost/, 'the CA does not prove who it is')
  t.equal(ca.asked.length, calls, 'and gets neither request nor token')
  writeFileSync(rootFile, 'no roots')
  await renew()
  t.not(said(), '')
  writeFileSync(rootFile, ca.rootPem)
  ca.stop()
  await renew()
  t.match(said(), /istio-ca:localhost/)
  t.equal(source.current(), kept)
  await ca.start()
  await renew()
  t.same(source.problems(), [])
})

t.test('the root may stand in the file where the answer leaves it out', async (t) => {
  const { ca, source, sign, issuing, rootFile } = await world(t)
  ca.answer = (asked) => [sign(asked), issuing.current?.pem ?? '']
  writeFileSync(rootFile, ca.rootPem + ca.root.pem)
  await source.start()
  t.same(source.problems(), [])
})

t.test('stop ends a call that is under way, and there is no other', async (t) => {
  const { ca, source, clock } = await world(t)
  ca.answer = () => undefined
  const started = source.start()
  while (ca.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 2))
  source.stop()
  await started
  t.equal(clock.waiting, undefined)
  t.equal(source.current(), undefined)
})
