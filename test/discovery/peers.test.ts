import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { gateway, peer, reachability, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const [ca1, ca2] = await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)
if (ca1 === undefined || ca2 === undefined) throw new Error('no CA')
const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
const serving =
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  service({ name: 'details', pods: ['10.0.1.20:9080'] }) +
  gateway('203.0.113.10') +
  workspace +
  networks +
  peer('cluster-2', ca2.bundlePem)
const NAME = 'global-gwinternal-productpage-bookinfo-svc-cluster-local'
const SETTING = {
  kind: 'WorkspaceSetting',
  namespace: '',
  organization: 'acme',
  tenant: 'eng',
  workspace: 'bookinfo-ws',
  name: 'bookinfo-ws-setting',
} as const
const OWN_ENTRY = yamlOf({
  apiVersion: 'networking.istio.io/v1alpha3',
  kind: 'ServiceEntry',
  metadata: { name: 'my-own', namespace: 'xcp-multicluster' },
  spec: {
    hosts: ['example.com'],
    location: 'MESH_EXTERNAL',
    resolution: 'STATIC',
    ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
    endpoints: [{ address: '192.0.2.1' }],
  },
})

const entriesOf = (cluster: TestCluster): string[] =>
  cluster.store.list('ServiceEntry').map(({ metadata }) => metadata.name)
const imported = (cluster: TestCluster): number =>
  entriesOf(cluster).filter((name) => name.startsWith('global-')).length
const agreed = (cluster: TestCluster, about: string) =>
  cluster.discovery
    .conditions()
    .find(({ object, type }) => type === 'Agreed' && object === `Cluster/acme/${about}`)

async function pair(): Promise<[TestCluster, TestCluster]> {
  const first = await TestCluster.start('cluster-1', { ca: ca1 as NonNullable<typeof ca1>, yaml: serving })
  const yaml = networks + OWN_ENTRY + peer('cluster-1', first.ca.bundlePem, `127.0.0.1:${first.port}`)
  const second = await TestCluster.start('cluster-2', { ca: ca2 as NonNullable<typeof ca2>, yaml })
  return [first, second]
}

t.test('an exposure becomes ServiceEntries of the other cluster, and goes with it', async (t) => {
  const [first, second] = await pair()
  t.teardown(() => Promise.all([first.stop(), second.stop()]))
  await second.until('the peer', () => second.process.status().peers[0]?.connected === true)
  t.equal(imported(second), 0)
  const startedMs = performance.now()
  await first.apply(setting())
  await second.until('both entries', () => imported(second) === 2)
  t.ok(performance.now() - startedMs < 2_000, `in less than 2 s (${performance.now() - startedMs} ms)`)
  const entry = second.store.list('ServiceEntry').find(({ metadata }) => metadata.name === NAME)
  t.match(entry, {
    metadata: { namespace: 'xcp-multicluster', labels: { 'app.kubernetes.io/managed-by': 'isthmus' } },
    spec: {
      hosts: ['productpage.bookinfo.svc.cluster.local'],
      endpoints: [{ address: '203.0.113.10', ports: { http: 15443 }, locality: 'region-of-cluster-1' }],
      subjectAltNames: ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'],
    },
  })
  await second.until('the import', () =>
    (second.discovery.model?.imports ?? []).some(({ name }) => name === 'productpage'),
  )
  t.strictSame(entriesOf(first), [], 'the relation is directed: cluster-1 has no entries')

  await first.apply(setting([{ app: 'details' }]))
  await second.until('only details', () => imported(second) === 1)
  await first.store.delete(SETTING)
  await second.until('none', () => imported(second) === 0)
  t.strictSame(entriesOf(second), ['my-own'], "the user's own entry is untouched")
})

t.test('either copy of the reachability can refuse, and both sides say that they disagree', async (t) => {
  const [first, second] = await pair()
  t.teardown(() => Promise.all([first.stop(), second.stop()]))
  await first.apply(setting())
  await second.until('both entries', () => imported(second) === 2)
  await second.until('agreement', () => agreed(second, 'cluster-1')?.status === true)

  // The client's copy narrows.
  await second.apply(reachability(['cluster-1', 'cluster-2'], {}))
  await second.until('no entry', () => imported(second) === 0)
  await second.until('disagreement', () => agreed(second, 'cluster-1')?.status === false)
  await first.until('disagreement', () => agreed(first, 'cluster-2')?.status === false)
  t.match(
    agreed(first, 'cluster-2')?.message,
    /calls from cluster-2: the two clusters disagree: this one allows it/,
  )
  t.match(agreed(second, 'cluster-1')?.message, /calls to cluster-1: .*this one refuses it/)
  await first.poll('status of the Cluster object', () =>
    first.store
      .list('Cluster')
      .some(
        ({ metadata, conditions }) =>
          metadata.name === 'cluster-2' &&
          conditions.some(({ type, status }) => type === 'Agreed' && status === 'False'),
      ),
  )
  await second.apply(networks)
  await second.until('both entries again', () => imported(second) === 2)

  // The server's copy decides.
  await first.apply(reachability(['cluster-1', 'cluster-2'], {}))
  await second.until('no entry', () => imported(second) === 0)
  await second.until('disagreement', () => agreed(second, 'cluster-1')?.status === false)
  t.match(second.process.status().peers, [
    { cluster: 'cluster-1', connected: true, allowed: false, reason: /nothing allows|no entry/ },
  ])
})

t.test('what a peer says about calling it is heard although it offers nothing', async (t) => {
  const [first, second] = await pair()
  t.teardown(() => Promise.all([first.stop(), second.stop()]))
  await second.until('agreement', () => agreed(second, 'cluster-1')?.status === true)
  await first.apply(reachability(['cluster-1', 'cluster-2'], {}))
  await second.until('disagreement', () => agreed(second, 'cluster-1')?.status === false)
  await first.apply(networks)
  await second.until('agreement again', () => agreed(second, 'cluster-1')?.status === true)
  t.match(second.process.status().peers, [{ allowed: true }])
})

t.test('a network renamed on both sides is agreed on, although the verdict stays', async (t) => {
  const [first, second] = await pair()
  t.teardown(() => Promise.all([first.stop(), second.stop()]))
  await first.apply(setting())
  await second.until('both entries', () => imported(second) === 2)
  const renamed = networks.replaceAll('cluster-2-network', 'other-network')
  let fewest = 2
  const end = second.store.watch(() => {
    fewest = Math.min(fewest, imported(second))
  })
  const namesDiffer = () => /it says that it is on network/.test(agreed(first, 'cluster-2')?.message ?? '')
  await first.apply(renamed)
  await first.until('the names differ', namesDiffer)
  await second.apply(renamed)
  await first.until('the names agree', () => !namesDiffer())
  end()
  // The objects are applied one by one, and for a moment the new name has no rule yet.
  t.equal(fewest, 2, 'no entry was taken away meanwhile')
})

t.test(
  'a peer that goes away leaves its entries in force; what it deleted meanwhile goes when it is back',
  async (t) => {
    const [first, second] = await pair()
    t.teardown(() => second.stop())
    await first.apply(setting())
    await second.until('both entries', () => imported(second) === 2)
    const { port, folder } = first
    await first.stop(true)
    await second.until('stale', () => second.process.status().peers[0]?.stale === true)
    t.equal(imported(second), 2)

    // We restart as well, while the peer is away.
    await second.stop(true)
    const restarted = await TestCluster.start('cluster-2', { ca: second.ca, folder: second.folder })
    t.teardown(() => restarted.stop())
    await restarted.poll('an attempt', () => (restarted.process.status().peers[0]?.error ?? '') !== '')
    t.equal(imported(restarted), 2)
    t.match(restarted.process.status().peers[0], { connected: false, stale: true, entries: 2 })

    const back = await TestCluster.start('cluster-1', {
      ca: first.ca,
      folder,
      port,
      yaml: setting([{ app: 'details' }]),
    })
    t.teardown(() => back.stop())
    await restarted.until('only details', () => imported(restarted) === 1, 15_000)
    t.match(restarted.process.status().peers[0], { connected: true, stale: false, entries: 1 })
  },
)

t.test('how long the entries of a peer that is gone stay is what its Cluster object says now', async (t) => {
  const [first, second] = await pair()
  t.teardown(() => second.stop())
  const policy = (onLoss: string, lease: string) =>
    second.apply(
      networks.replace(
        '"name":"cluster-1"',
        `"name":"cluster-1","annotations":{"isthmus.io/on-peer-loss":"${onLoss}","isthmus.io/peer-lease":"${lease}"}`,
      ),
    )
  await first.apply(setting())
  await second.until('both entries', () => imported(second) === 2)
  await policy('keep', '1ms')
  await first.stop()
  await second.until('stale', () => second.process.status().peers[0]?.stale === true)
  // What is seen afterwards is from after the lease.
  const staleMs = performance.now()
  await second.poll('more than the lease', () => performance.now() > staleMs + 50)
  t.equal(imported(second), 2)
  await policy('withdraw', '10m')
  await second.until('the policy', () =>
    second.store
      .list('Cluster')
      .some(({ spec }) => spec.peerLeaseMs === 600_000 && spec.onPeerLoss === 'withdraw'),
  )
  t.equal(imported(second), 2)
  await policy('withdraw', '1ms')
  await second.until('none', () => imported(second) === 0)
})

t.test('the server of another identity is not believed', async (t) => {
  const [first, second] = await pair()
  t.teardown(() => Promise.all([first.stop(), second.stop()]))
  await first.apply(setting())
  await second.until('both entries', () => imported(second) === 2)
  const stranger = await createCa({ trustDomain: 'cluster-1.local' })
  await second.apply(peer('cluster-1', stranger.bundlePem, `127.0.0.1:${first.port}`))
  await second.until('an error', () => (second.process.status().peers[0]?.error ?? '') !== '')
  t.equal(imported(second), 2, 'what was heard from the right one stays')
  await second.apply(peer('cluster-1', 'no PEM', `127.0.0.1:${first.port}`))
  await second.until('the problem', () =>
    second.process.problems().some(({ object }) => object.includes('peer-cluster-1')),
  )
  t.equal(imported(second), 2)
})
