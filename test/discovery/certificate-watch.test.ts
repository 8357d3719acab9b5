import t from 'tap'
import {
  certificateCondition,
  nextVerdictMs,
  type WatchedCertificate,
  watchedCertificates,
} from '../../src/discovery/certificate-watch.ts'
import { createCa } from '../../src/identity/ca.ts'
import { leafOf } from '../../src/identity/credential.ts'
import { peer, reachability } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const DAY = 86_400_000
const START = Date.now()

/** Of a leaf of 30 days, its intermediate of 60 and its root of 3,650. */
async function watched(): Promise<(nowMs: number) => WatchedCertificate[]> {
  const ca = await createCa({
    trustDomain: 'cluster-1.local',
    rootLifetimeMs: 3_650 * DAY,
    intermediateLifetimeMs: 60 * DAY,
  })
  const issued = await ca.issue({
    namespace: 'isthmus-system',
    serviceAccount: 'isthmus-discovery',
    lifetimeMs: 30 * DAY,
  })
  return (nowMs) =>
    watchedCertificates({ cluster: 'cluster-1', bundle: ca.bundle, leaf: leafOf(issued) }, nowMs)
}

t.test('leaf, intermediate and root are all watched, and the first that ends is named', async (t) => {
  const at = await watched()
  t.match(
    at(START).map(({ role, subject, inUse }) => [role, subject, inUse]),
    [
      ['leaf', 'spiffe://cluster-1.local/ns/isthmus-system/sa/isthmus-discovery', true],
      ['root', String, true],
      ['intermediate', String, true],
    ],
  )
  const say = (day: number) => {
    const nowMs = START + day * DAY
    const { status, reason, message } = certificateCondition('Cluster/c', at(nowMs), nowMs)
    return [status, reason, message]
  }
  t.match(say(1), [true, 'Last', /long enough/])
  t.match(say(25), [false, 'ExpireSoon', /^leaf spiffe:.* ends at \d{4}-[^;]*$/])
  t.match(say(31), [false, 'Expired', /^leaf .* ended at/])
  t.match(say(50), [false, 'Expired', /^leaf .* ended at .*; intermediate .* ends at/])
  t.match(say(61), [false, 'Expired', /^leaf .* ended at .*; intermediate .* ended at/])
  t.equal(say(26)[2], say(27)[2], 'the same from day to day')
})

t.test('the verdict changes at the notice and at the end of each', async (t) => {
  const at = await watched()
  const days: number[] = []
  for (let nowMs = START; ; ) {
    const next = nextVerdictMs(at(START), nowMs)
    if (next === undefined) break
    days.push(Math.round((next - START) / DAY))
    nowMs = next
  }
  t.strictSame(days, [24, 30, 48, 60, 3_620, 3_650])
})

t.test('a CA of the bundle that signs nothing any more may end', async (t) => {
  const [old, ca] = await Promise.all([
    createCa({ trustDomain: 'c.local', rootLifetimeMs: DAY, intermediateLifetimeMs: DAY }),
    createCa({ trustDomain: 'c.local' }),
  ])
  const issued = await ca.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
  const bundle = ca.bundle
  const nowMs = START + 2 * DAY
  const [unused] = watchedCertificates({ cluster: 'c', bundle: old.bundle, leaf: undefined }, nowMs)
  const used = watchedCertificates({ cluster: 'c', bundle, leaf: leafOf(issued) }, START)
  if (unused === undefined) throw new Error('nothing watched')
  t.equal(certificateCondition('Cluster/c', [...used, unused], START + 1_000).status, true)
  // While nothing is seen in use the roots count.
  const roots = watchedCertificates({ cluster: 'c', bundle: old.bundle, leaf: undefined }, nowMs)
  t.match(certificateCondition('Cluster/c', roots, nowMs), {
    status: false,
    reason: 'Expired',
    message: /root/,
  })
})

t.test(
  'each side sees the leaf of the other, dialling and dialled, and says so at its Cluster',
  async (t) => {
    const names = ['cluster-1', 'cluster-2']
    const networks = reachability(names, { 'cluster-2-network': 'cluster-1-network' })
    const first = await TestCluster.start('cluster-1', { yaml: networks })
    const second = await TestCluster.start('cluster-2', {
      yaml: networks + peer('cluster-1', first.ca.bundlePem, `127.0.0.1:${first.port}`),
    })
    t.teardown(() => Promise.all([first.stop(), second.stop()]))
    await first.apply(peer('cluster-2', second.ca.bundlePem))
    const leaf = (cluster: TestCluster, of: string) =>
      cluster.discovery.federation.certificates().some((one) => one.cluster === of && one.role === 'leaf')
    await second.poll('the server', () => leaf(second, 'cluster-1'))
    await first.poll('the client', () => leaf(first, 'cluster-2'))
    t.ok(leaf(first, 'cluster-1') && leaf(second, 'cluster-2'), 'their own too')
    const conditions = first.discovery.conditions().filter(({ type }) => type === 'CertificatesLast')
    t.match(conditions, [
      { object: 'Cluster/acme/cluster-1', status: true },
      { object: 'Cluster/acme/cluster-2', status: true },
    ])
  },
)
