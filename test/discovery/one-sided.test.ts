// A link of which one side alone can dial: the exports of the dialling side travel on the connection that it has opened.
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const [ca1, ca2, ca3] = await Promise.all([
  createCa({ trustDomain: 'cluster-1.local' }),
  createCa({ trustDomain: 'cluster-2.local' }),
  createCa({ trustDomain: 'cluster-3.local' }),
])
const names = ['cluster-1', 'cluster-2', 'cluster-3']
const networks = reachability(names, { 'cluster-2-network': 'cluster-1-network' })
const serving =
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  service({ name: 'details', pods: ['10.0.1.20:9080'] }) +
  gateway('203.0.113.10') +
  workspace +
  setting() +
  networks

const imported = (cluster: TestCluster): string[] =>
  cluster.store
    .list('ServiceEntry')
    .map(({ spec }) => spec.hosts[0]?.split('.')[0] ?? '')
    .sort()
const peerOf = (cluster: TestCluster, id: string) =>
  cluster.process.status().peers.find((each) => each.cluster === id)
const condition = (cluster: TestCluster, about: string, wanted: string) =>
  cluster.discovery
    .conditions()
    .find(({ object, type }) => type === wanted && object === `Cluster/acme/${about}`)

/** Cluster-1 serves and cannot be dialled; cluster-2 calls, and has no address of it. */
async function natted(): Promise<[TestCluster, TestCluster]> {
  const second = await TestCluster.start('cluster-2', {
    ca: ca2,
    yaml: networks + peer('cluster-1', ca1.bundlePem),
  })
  const yaml = serving + peer('cluster-2', second.ca.bundlePem, `127.0.0.1:${second.port}`)
  return [await TestCluster.start('cluster-1', { ca: ca1, yaml }), second]
}

t.test(
  'the side that only dials offers its exports in reverse; changes and deletions travel at once',
  async (t) => {
    const [first, second] = await natted()
    t.teardown(() => Promise.all([first.stop(), second.stop()]))
    await second.until('both entries', () => imported(second).length === 2)
    t.match(peerOf(second, 'cluster-1'), { connected: true, reversed: true, adsAddress: '', stale: false })
    t.match(condition(second, 'cluster-1', 'Connected'), { status: true, reason: 'DialledByPeer' })
    t.match(condition(second, 'cluster-1', 'Agreed'), { status: true })
    await first.apply(setting([{ app: 'details' }]))
    await second.until('only details', () => imported(second).length === 1)
    await first.apply(setting([{ app: 'nothing' }]))
    await second.until('none: the last one was deleted and not lost', () => imported(second).length === 0)
    // Either copy can refuse, this way too.
    await first.apply(setting())
    await second.until('both again', () => imported(second).length === 2)
    await second.apply(reachability(names, {}))
    await second.until('none', () => imported(second).length === 0)
    await second.until('disagreement', () => condition(second, 'cluster-1', 'Agreed')?.status === false)
  },
)

t.test('the dialler goes away: stale; when it is back, as it is now', async (t) => {
  const [first, second] = await natted()
  t.teardown(() => second.stop())
  await second.until('both entries', () => imported(second).length === 2)
  const { folder } = first
  await first.stop(true)
  await second.until('stale', () => peerOf(second, 'cluster-1')?.stale === true)
  t.strictSame(imported(second), ['details', 'productpage'])
  t.match(condition(second, 'cluster-1', 'Connected'), { status: false, reason: 'Unreachable' })
  t.match(condition(second, 'cluster-1', 'ExportsCurrent'), { status: false, reason: 'Stale' })
  const back = await TestCluster.start('cluster-1', { ca: ca1, folder, yaml: setting([{ app: 'details' }]) })
  t.teardown(() => back.stop())
  await second.until('only details', () => imported(second).length === 1, 15_000)
  t.match(peerOf(second, 'cluster-1'), { connected: true, stale: false })
})

t.test('who is no peer offers nothing, and one whose trust is withdrawn is cut', async (t) => {
  const [first, second] = await natted()
  const yaml = serving + peer('cluster-2', second.ca.bundlePem, `127.0.0.1:${second.port}`)
  const third = await TestCluster.start('cluster-3', { ca: ca3, yaml })
  t.teardown(() => Promise.all([first.stop(), second.stop(), third.stop()]))
  await second.until('both entries', () => imported(second).length === 2)
  await third.until('its refusal', () => (peerOf(third, 'cluster-2')?.error ?? '') !== '')
  t.equal(peerOf(second, 'cluster-3'), undefined)
  const stranger = await createCa({ trustDomain: 'cluster-1.local' })
  await second.apply(peer('cluster-1', stranger.bundlePem))
  await second.until('it is cut', () => peerOf(second, 'cluster-1')?.connected === false)
  await first.until('and refused', () => (peerOf(first, 'cluster-2')?.error ?? '') !== '')
  t.equal(peerOf(second, 'cluster-1')?.connected, false)
})

t.test(
  'both sides dial: each hears the other on its own connection, and nothing is offered twice',
  async (t) => {
    const first = await TestCluster.start('cluster-1', { ca: ca1, yaml: serving })
    const second = await TestCluster.start('cluster-2', {
      ca: ca2,
      yaml: networks + peer('cluster-1', first.ca.bundlePem, `127.0.0.1:${first.port}`),
    })
    t.teardown(() => Promise.all([first.stop(), second.stop()]))
    await first.apply(peer('cluster-2', second.ca.bundlePem, `127.0.0.1:${second.port}`))
    await second.until('both entries', () => imported(second).length === 2)
    await first.until('connected', () => peerOf(first, 'cluster-2')?.connected === true)
    t.match(peerOf(second, 'cluster-1'), { connected: true, reversed: false })
    t.match(peerOf(first, 'cluster-2'), { connected: true, reversed: false })
  },
)
