import t from 'tap'
import { VIEWS_PER_IDENTITY, ViewQuota } from '../../src/discovery/view-quota.ts'
import { TYPE } from '../../src/xds/types.ts'
import { TestCluster } from './cluster.ts'

t.test('an identity gets so many views, and those that nobody watches any more do not count', (t) => {
  const quota = new ViewQuota(2)
  const live = new Set(['a', 'b'])
  const admit = (identity: string, view: string) => quota.admit(identity, view, (one) => live.has(one)).ok
  t.ok(admit('me', 'a'))
  t.ok(admit('me', 'b'))
  t.ok(admit('me', 'a'), 'one that it has already')
  t.notOk(admit('me', 'c'))
  t.ok(admit('you', 'c'), 'it is nobody else who waits')
  live.delete('a')
  t.ok(admit('me', 'c'))
  for (let n = 0; n < 1_000; n++) quota.admit(`guest ${n}`, 'gone', () => false)
  t.ok(quota.identities < 300, 'who has gone is forgotten')
  t.end()
})

t.test('a workload that varies its node is stopped at the limit, and the others do not notice', async (t) => {
  const cluster = await TestCluster.start('cluster-1')
  t.teardown(() => cluster.stop())
  const node = (n: number) => ({
    id: 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local',
    metadata: { ISTHMUS_BIND: `127.${100 + n}.0.0/16` },
  })
  const sleep = { namespace: 'bookinfo', serviceAccount: 'sleep' }
  const open = []
  for (let n = 0; n < VIEWS_PER_IDENTITY; n++) {
    const seen = (await cluster.client(node(n), sleep)).start(TYPE.cluster)
    await seen.until('its view', () => seen.answered(TYPE.cluster))
    open.push(seen)
  }
  const refused = (await cluster.client(node(99), sleep)).start(TYPE.cluster)
  await refused.until('the refusal', ({ lastError }) =>
    /sa\/sleep has 16 different views open/.test(lastError),
  )
  t.equal(cluster.discovery.counters.views, VIEWS_PER_IDENTITY)
  const again = (await cluster.client(node(3), sleep)).start(TYPE.cluster)
  await again.until('a view that is open', () => again.answered(TYPE.cluster))
  const neighbour = { namespace: 'bookinfo', serviceAccount: 'ratings' }
  const other = (await cluster.client(node(98), neighbour)).start(TYPE.cluster)
  await other.until('another identity', () => other.answered(TYPE.cluster))
  open[0]?.stop()
  await refused.until('room', () => refused.answered(TYPE.cluster), 10_000)
})

t.test('a claim that is longer than any address or path is refused', async (t) => {
  const cluster = await TestCluster.start('cluster-1')
  t.teardown(() => cluster.stop())
  for (const name of ['ISTHMUS_CREDENTIAL_FILE', 'ISTHMUS_BIND']) {
    const seen = await cluster.client(
      { id: 'sidecar~10.0.0.8~sleep-1.bookinfo~x', metadata: { [name]: 'x'.repeat(5_000) } },
      { namespace: 'bookinfo', serviceAccount: 'sleep' },
    )
    seen.start(TYPE.cluster)
    await seen.until('the refusal', ({ lastError }) =>
      lastError.includes(`node.metadata.${name} has 5000 characters, 4096 are allowed`),
    )
  }
  t.equal(cluster.discovery.counters.views, 0)
})
