import { X509Certificate } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { pino } from 'pino'
import t from 'tap'
import { readCertificate } from '../../src/credentials/sds-secret.ts'
import { Minter } from '../../src/discovery/minted-secret.ts'
import { createCa } from '../../src/identity/ca.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { fail, ok } from '../../src/lib/result.ts'
import { OWN_CERTIFICATE } from '../../src/resources/envoy.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { type Snapshot, TYPE, type XdsResource } from '../../src/xds/types.ts'
import { HandClock } from '../proxy/hand-clock.ts'
import { peer, reachability } from '../resources/world.ts'
import { plain } from '../xds/fixtures.ts'
import { type Seen, TestCluster } from './cluster.ts'

const SLEEP = { namespace: 'bookinfo', serviceAccount: 'sleep' }
const NODE = { id: 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local' }
const HOUR_MS = 3_600_000

const lines: string[] = []
const logger = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) })
const other = await createCa({ trustDomain: 'cluster-2.local' })
const cluster = await TestCluster.start('cluster-1', {
  signing: true,
  logger,
  yaml:
    reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
    peer('cluster-2', other.bundlePem),
})
t.teardown(() => cluster.stop())

function keyOf(resource: XdsResource | undefined) {
  const read = resource && readCertificate(resource)
  if (!read?.ok) throw new Error('no tls_certificate')
  const parsed = parseCredential(read.value.certificate, read.value.privateKey, 'minted')
  if (!parsed.ok) throw new Error(parsed.error.message)
  return { credential: parsed.value, x509: new X509Certificate(read.value.certificate), ...read.value }
}

async function minted(seen: Seen) {
  await seen.until('its certificate', () => seen.get(TYPE.secret, OWN_CERTIFICATE) !== undefined)
  return keyOf(seen.get(TYPE.secret, OWN_CERTIFICATE))
}

t.test('who asks over mutual TLS gets an SVID of his own for exactly the id that he proved', async (t) => {
  const first = await cluster.client(NODE, SLEEP)
  const second = await cluster.client(NODE, SLEEP)
  const keys: string[] = []
  for (const seen of [first, second]) {
    seen.subscribe(TYPE.secret, [OWN_CERTIFICATE, 'ROOTCA']).start(TYPE.cluster)
    const { credential, x509, privateKey } = await minted(seen)
    t.equal(credential.id.uri, 'spiffe://cluster-1.local/ns/bookinfo/sa/sleep')
    t.equal(x509.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
    t.ok(credential.notAfterMs - credential.notBeforeMs <= HOUR_MS, 'an hour at most')
    t.strictSame(seen.names(TYPE.secret), ['ROOTCA', OWN_CERTIFICATE], 'beside the trust of its view')
    keys.push(privateKey)
  }
  t.not(keys[0], keys[1], 'one key per stream, also where the identity is the same')
  t.equal(cluster.discovery.counters.minted, 2)

  await t.test('and no key is anywhere but on its own stream', async (t) => {
    const shown = JSON.stringify([
      cluster.process.status(),
      cluster.discovery.clients(),
      cluster.discovery.conditions(),
      cluster.discovery.problems(),
      [...cluster.discovery.dump()].map(([view, snapshot]) => [
        view,
        [...snapshot].map(([type, resources]) => [
          type,
          [...resources].map(([name, { body }]) => [name, Buffer.from(body).toString('latin1')]),
        ]),
      ]),
      lines,
    ])
    t.ok(shown.includes('sidecar~10.0.0.8'), 'there is something to look at')
    t.notMatch(shown, /PRIVATE KEY/)
    for (const key of keys) {
      const middle = key.split('\n')[1] ?? ''
      t.ok(middle.length > 32)
      t.notOk(shown.includes(middle))
      t.notOk(shown.includes(Buffer.from(key).toString('base64').slice(20, 60)))
    }
  })
  first.stop()
  second.stop()
})

t.test('nobody gets one who did not prove an id here, or did not ask', async (t) => {
  const before = cluster.discovery.counters.minted
  const clear = cluster.plainClient(NODE).subscribe(TYPE.secret, [OWN_CERTIFICATE])
  clear.start(TYPE.cluster)
  await clear.until('the answer', () => clear.answered(TYPE.secret))
  t.strictSame(clear.names(TYPE.secret), [])
  const trustOnly = (await cluster.client(NODE, SLEEP)).subscribe(TYPE.secret, ['ROOTCA'])
  trustOnly.start(TYPE.cluster)
  await trustOnly.until('its trust', () => trustOnly.names(TYPE.secret).length === 1)
  const names = ['spiffe://cluster-1.local/ns/bookinfo/sa/ratings', 'DEFAULT', 'default/x', '']
  const curious = (await cluster.client(NODE, SLEEP)).subscribe(TYPE.secret, names)
  curious.start(TYPE.cluster)
  await curious.until('the answer', () => curious.answered(TYPE.secret))
  t.strictSame(curious.names(TYPE.secret), [])
  const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', ca: other }
  const stranger = (await cluster.client({ id: 'discovery~~cluster-2' }, discovery)).subscribe(TYPE.secret, [
    OWN_CERTIFICATE,
  ])
  stranger.start(TYPE.serviceEntry)
  await stranger.until('the refusal', ({ lastError }) => /not to .*Secret/.test(lastError))
  for (const seen of [clear, trustOnly, curious, stranger]) seen.stop()
  t.equal(cluster.discovery.counters.minted, before)
})

t.test(
  'a certificate that this cluster would itself refuse is never sent, and why is in the log',
  async (t) => {
    const cases = [
      { signing: await createCa({ trustDomain: 'cluster-1.local' }), why: /not trusted here/ },
      { signing: other, why: /is of cluster-2.local, this cluster is of cluster-1.local/ },
    ]
    for (const { signing, why } of cases) {
      const said: string[] = []
      const own = await TestCluster.start('cluster-1', {
        signing,
        logger: pino({ level: 'warn' }, { write: (line: string) => void said.push(line) }),
      })
      t.teardown(() => own.stop())
      const seen = (await own.client(NODE, SLEEP)).subscribe(TYPE.secret, [OWN_CERTIFICATE])
      seen.start(TYPE.cluster)
      await own.poll('the failure', () => own.discovery.counters.mintsFailed > 0)
      t.ok(said.some((line) => why.test(line)))
      t.strictSame(seen.names(TYPE.secret), [])
      await own.stop()
    }
  },
)

t.test('the secret is made anew at half its life, as long as the stream asks', async (t) => {
  const clock = new HandClock()
  const base = new SnapshotCache()
  const trust = plain('ROOTCA', 'x', TYPE.secret)
  base.setType(TYPE.secret, new Map([['ROOTCA', trust]]))
  let broken = false
  let count = 0
  const minter = new Minter({
    mint: async (id) =>
      broken
        ? fail('out of order')
        : ok({ certificatePem: `${id} ${++count}`, privateKeyPem: 'key', notAfterMs: clock.now() + 60_000 }),
    clock,
    logger: silentLogger,
  })
  const source = minter.source(base, 'me')
  const own = (snapshot: Snapshot) => snapshot.get(TYPE.secret)?.get(OWN_CERTIFICATE)?.version
  const pushes: string[][] = []
  const stop = source.watch((changes) => pushes.push([...(changes.get(TYPE.secret) ?? [])]))
  source.asked(['ROOTCA'])
  await nextTurn()
  t.equal(count, 0, 'nobody asked')
  source.asked([OWN_CERTIFICATE])
  source.asked([OWN_CERTIFICATE])
  await nextTurn()
  t.equal(count, 1, 'asked twice, made once')
  const first = own(source.current())
  t.not(source.current().get(TYPE.secret)?.get('ROOTCA'), trust, 'no object of another view')
  t.equal(source.current(), source.current())
  clock.advance(29_000)
  await nextTurn()
  t.equal(own(source.current()), first)
  clock.advance(1_000)
  await nextTurn()
  const second = own(source.current())
  t.not(second, first)
  broken = true
  clock.advance(30_000)
  await nextTurn()
  t.equal(own(source.current()), second, 'what was good stays while no new one can be made')
  broken = false
  clock.advance(1_000)
  await nextTurn()
  t.not(own(source.current()), second, 'and it is tried again')
  t.equal(count, 3)
  t.strictSame(pushes, [[OWN_CERTIFICATE], [OWN_CERTIFICATE], [OWN_CERTIFICATE]])
  const next = minter.source(base, 'me', source)
  t.equal(own(next.current()), own(source.current()), 'another view of the same stream keeps it')
  const stopNext = next.watch(() => {})
  stop()
  t.equal(own(source.current()), undefined, 'the key goes with the stream')
  await nextTurn()
  stopNext()
  t.equal(clock.pending, 0)
})

t.test('who asks with a thousand streams waits for himself, and who has gone costs nothing', async (t) => {
  const made: string[] = []
  const said: string[] = []
  let why = ''
  const clock = new HandClock()
  const minter = new Minter({
    mint: async (id) => {
      made.push(id)
      return why === '' ? ok({ certificatePem: id, privateKeyPem: 'key', notAfterMs: 60_000 }) : fail(why)
    },
    clock,
    logger: pino({ level: 'warn' }, { write: (line: string) => void said.push(line) }),
  })
  const ask = (id: string) => {
    const source = minter.source(new SnapshotCache(), id)
    const stop = source.watch(() => {})
    source.asked([OWN_CERTIFICATE])
    return stop
  }
  const greedy = Array.from({ length: 1_000 }, () => ask('greedy'))
  const other = ask('other')
  for (const stop of greedy.slice(10)) stop()
  while (minter.counters.minted < 11) await nextTurn()
  await nextTurn()
  t.ok(made.indexOf('other') <= 2, `its turn came as number ${made.indexOf('other') + 1}`)
  t.equal(made.length, 11)
  why = 'there is no signing CA'
  for (let n = 0; n < 100; n++) greedy.push(ask('late'))
  while (minter.counters.failed < 100) await nextTurn()
  t.equal(said.length, 1, 'one line for a hundred failures')
  for (const stop of [...greedy, other]) stop()
  t.equal(clock.pending, 0)
})
