import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const upstream = (name: string): string => `outbound_.9080_._.${name}.bookinfo.svc.cluster.local`
const routerNode = { id: 'router~10.0.0.7~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local' }
const sidecarNode = { id: 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local' }
const gatewayIdentity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
const sleepIdentity = { namespace: 'bookinfo', serviceAccount: 'sleep' }

const cluster2 = await createCa({ trustDomain: 'cluster-2.local' })
const cluster3 = await createCa({ trustDomain: 'cluster-3.local' })
const story =
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  service({ name: 'details', pods: ['10.0.1.20:9080'] }) +
  gateway('203.0.113.10') +
  workspace +
  reachability(['cluster-1', 'cluster-2', 'cluster-3'], { 'cluster-2-network': 'cluster-1-network' }) +
  peer('cluster-2', cluster2.bundlePem) +
  peer('cluster-3', cluster3.bundlePem)

const cluster = await TestCluster.start('cluster-1', { yaml: story })
t.teardown(() => cluster.stop())

t.test(
  'a gateway is told of an exposure as it appears, and of what a limited setting takes away',
  async (t) => {
    const seen = (await cluster.client(routerNode, gatewayIdentity)).start()
    await seen.until('the listener', () => seen.names(TYPE.listener).length === 1)
    t.strictSame(seen.names(TYPE.cluster), [], 'nothing is exposed yet')
    await cluster.apply(setting())
    await seen.until('both services', () => seen.names(TYPE.cluster).length === 2)
    t.strictSame(seen.names(TYPE.cluster), [upstream('details'), upstream('productpage')])
    await cluster.apply(setting([{ app: 'details' }]))
    await seen.until('only details', () => seen.names(TYPE.cluster).length === 1)
    t.strictSame(seen.names(TYPE.cluster), [upstream('details')])
    await cluster.apply(setting())
    await seen.until('both again', () => seen.names(TYPE.cluster).length === 2)
    seen.stop()
  },
)

t.test('one changed endpoint is one response with one resource', async (t) => {
  const seen = (await cluster.client(routerNode, gatewayIdentity)).subscribe(TYPE.endpoints, [
    upstream('details'),
    upstream('productpage'),
  ])
  seen.start()
  await seen.until(
    'endpoints',
    () => seen.names(TYPE.endpoints).length === 2 && seen.names(TYPE.listener).length === 1,
  )
  const before = seen.get(TYPE.endpoints, upstream('productpage'))
  const updates = seen.updates
  await cluster.apply(service({ name: 'details', pods: ['10.0.1.21:9080'] }))
  await seen.until('the new endpoint', () => {
    const resource = seen.get(TYPE.endpoints, upstream('details'))
    const accepted = resource && acceptEndpoints(resource)
    return accepted?.ok === true && accepted.value.localities[0]?.endpoints[0]?.address.host === '10.0.1.21'
  })
  t.equal(seen.updates, updates + 1)
  t.equal(seen.get(TYPE.endpoints, upstream('productpage')), before)
  seen.stop()
})

t.test('the trust bundles come with mutual TLS', async (t) => {
  const seen = (await cluster.client(routerNode, gatewayIdentity)).subscribe(TYPE.secret, [
    'ROOTCA',
    'default',
  ])
  seen.start()
  await seen.until('the secret', () => seen.names(TYPE.secret).length > 0)
  t.strictSame(seen.names(TYPE.secret), ['ROOTCA'], 'never `default`: a proxy has its own key')
  seen.stop()
})

t.test('a sidecar gets listeners, names and upstreams', async (t) => {
  const seen = (await cluster.client(sidecarNode, sleepIdentity)).start(
    TYPE.cluster,
    TYPE.listener,
    TYPE.nameTable,
  )
  await seen.until('names', () => seen.names(TYPE.nameTable).length === 1)
  t.ok(seen.names(TYPE.listener).includes('productpage.bookinfo.svc.cluster.local_9080'))
  seen.stop()
})

t.test('a gRPC client gets what it names, in its own form', async (t) => {
  const name = 'productpage.bookinfo:9080'
  const client = await cluster.client({ ...sidecarNode, userAgentName: 'gRPC Go' }, sleepIdentity)
  client.subscribe(TYPE.listener, [name]).subscribe(TYPE.secret, ['ROOTCA']).start(TYPE.cluster)
  await client.until('the listener', () => client.names(TYPE.listener).length > 0)
  t.strictSame(client.names(TYPE.listener), [name])
  t.strictSame(client.names(TYPE.secret), [], 'it has its CAs from its own bootstrap')
  client.stop()
})

t.test('clients of one view share one computation, and the last to leave takes it away', async (t) => {
  const clients = [0, 1, 2].map(() => cluster.client(sidecarNode, sleepIdentity))
  const all = (await Promise.all(clients)).map((seen) => seen.start())
  for (const seen of all) await seen.until('listeners', () => seen.names(TYPE.listener).length > 0)
  t.equal(cluster.discovery.counters.views, 1)
  for (const seen of all) seen.stop()
  await cluster.poll('no view left', () => cluster.discovery.counters.views === 0)
})

t.test('a peer that may reach this network is told of the exports, a third cluster of nothing', async (t) => {
  const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' }
  const node = (name: string) => ({ id: `discovery~~${name}`, metadata: { CLUSTER_ID: name } })
  const second = (await cluster.client(node('cluster-2'), { ...discovery, ca: cluster2 })).start(
    TYPE.serviceEntry,
  )
  const third = (await cluster.client(node('cluster-3'), { ...discovery, ca: cluster3 })).start(
    TYPE.serviceEntry,
  )
  await second.until('entries', () => second.names(TYPE.serviceEntry).length === 2)
  t.match(
    second.names(TYPE.serviceEntry)[0],
    'xcp-multicluster/global-gwinternal-details-bookinfo-svc-cluster-local',
  )
  await third.until('an answer', () => third.identifier !== '')
  t.strictSame(third.names(TYPE.serviceEntry), [])
  t.match(JSON.parse(third.identifier), {
    cluster: 'cluster-1',
    allowed: false,
    reason: /OrganizationSetting/,
  })
  t.match(JSON.parse(second.identifier), {
    cluster: 'cluster-1',
    network: 'cluster-1-network',
    allowed: true,
  })
  second.stop()
  third.stop()
})

t.test('who is not what he claims is refused by name', async (t) => {
  const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', ca: cluster2 }
  const cases: [
    string,
    object,
    { namespace: string; serviceAccount: string; ca?: typeof cluster2 },
    string,
    RegExp,
  ][] = [
    [
      'a workload as gateway',
      routerNode,
      sleepIdentity,
      TYPE.cluster,
      /sa\/sleep is not gateway bookinfo\/eastwest-gateway/,
    ],
    [
      'another namespace',
      { id: 'sidecar~1~a.default~b' },
      sleepIdentity,
      TYPE.cluster,
      /is not a workload of namespace default/,
    ],
    [
      'another cluster',
      { ...sidecarNode, metadata: { CLUSTER_ID: 'cluster-2' } },
      sleepIdentity,
      TYPE.cluster,
      /certificate is of cluster cluster-1/,
    ],
    [
      'a gRPC client as gateway',
      { ...routerNode, userAgentName: 'gRPC Go' },
      gatewayIdentity,
      TYPE.listener,
      /a gRPC client is a sidecar~…, not a gateway/,
    ],
    [
      'an Envoy that wants DNS nowhere',
      { ...sidecarNode, userAgentName: 'envoy', metadata: { ISTHMUS_DNS: 'dns' } },
      sleepIdentity,
      TYPE.listener,
      /node\.metadata\.ISTHMUS_DNS "dns": expected IP:PORT/,
    ],
    ['no proxy', { id: 'whoever' }, sleepIdentity, TYPE.cluster, /node\.id "whoever": expected/],
    [
      'a workload for exports',
      sidecarNode,
      sleepIdentity,
      TYPE.serviceEntry,
      /for the discovery servers of peers/,
    ],
    ['a peer for clusters', sidecarNode, discovery, TYPE.cluster, /may subscribe to networking\.istio\.io/],
    [
      'a peer as another',
      { id: 'x', metadata: { CLUSTER_ID: 'cluster-1' } },
      discovery,
      TYPE.serviceEntry,
      /certificate is of cluster cluster-2/,
    ],
    [
      'a workload of a peer',
      sidecarNode,
      { ...sleepIdentity, ca: cluster2 },
      TYPE.serviceEntry,
      /only spiffe:\/\/cluster-2\.local\/ns\/isthmus-system\/sa\/isthmus-discovery/,
    ],
    [
      'a wrong range',
      { ...sidecarNode, metadata: { ISTHMUS_BIND: 'x' } },
      sleepIdentity,
      TYPE.cluster,
      /ISTHMUS_BIND "x": expected/,
    ],
    [
      'a gateway that is not there',
      { id: 'router~1~no.bookinfo~x' },
      gatewayIdentity,
      TYPE.cluster,
      /eastwest-gateway is not gateway bookinfo\/no/,
    ],
  ]
  for (const [name, node, identity, type, message] of cases) {
    const seen = (await cluster.client(node, identity)).start(type)
    await seen.until(`refusal of ${name}`, () => seen.lastError !== '')
    t.match(seen.lastError, message, name)
    t.strictSame(seen.names(type), [])
    seen.stop()
  }
})

t.test('a client in clear gets the own views without secrets', async (t) => {
  const seen = cluster.plainClient({ ...sidecarNode, metadata: { CLUSTER_ID: 'cluster-1' } }).start()
  await seen.until('listeners', () => seen.names(TYPE.listener).length > 0)
  seen.stop()
  const elsewhere = cluster.plainClient({ ...sidecarNode, metadata: { CLUSTER_ID: 'cluster-9' } }).start()
  await elsewhere.until('the refusal', ({ lastError }) =>
    /node.metadata.CLUSTER_ID is "cluster-9", this is cluster cluster-1/.test(lastError),
  )
  elsewhere.stop()
  const secrets = cluster.plainClient(sidecarNode).subscribe(TYPE.secret, ['ROOTCA'])
  secrets.start(TYPE.cluster)
  await secrets.until('clusters', () => secrets.names(TYPE.cluster).length > 0)
  await secrets.until('the answer that there is no such secret', () => secrets.answered(TYPE.secret))
  t.strictSame(secrets.names(TYPE.secret), [])
  t.equal(secrets.lastError, '', 'the stream goes on')
  secrets.stop()
})

t.test('a broken object leaves what was good in force and is in the status', async (t) => {
  const seen = (await cluster.client(routerNode, gatewayIdentity)).start()
  await seen.until('both services', () => seen.names(TYPE.cluster).length === 2)
  await writeFile(join(cluster.folder, 'yaml', 'broken.yaml'), 'kind: [')
  const broken = () => cluster.process.status().problems.some(({ object }) => object.includes('broken.yaml'))
  await cluster.poll('the problem', broken)
  t.equal(seen.names(TYPE.cluster).length, 2)
  await rm(join(cluster.folder, 'yaml', 'broken.yaml'))
  await cluster.poll('no problem any more', () => !broken())
  seen.stop()
})

t.test('a renewed certificate serves the next stream and ends none that is open', async (t) => {
  const open = (await cluster.client(sidecarNode, sleepIdentity)).start()
  await open.until('listeners', () => open.names(TYPE.listener).length > 0)
  const first = open.serverFingerprint
  await cluster.issue()
  let next = open
  while (next.serverFingerprint === first) {
    if (next !== open) next.stop()
    next = (await cluster.client(sidecarNode, sleepIdentity)).start()
    await next.until('listeners', () => next.names(TYPE.listener).length > 0)
  }
  t.equal(open.lastError, '')
  await cluster.apply(service({ name: 'later' }))
  await open.until('the news', () => open.names(TYPE.listener).some((name) => name.startsWith('later.')))
  open.stop()
  next.stop()
})

t.test('a peer that is taken out loses its stream', async (t) => {
  const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', ca: cluster2 }
  const seen = (await cluster.client({ id: 'discovery~~cluster-2' }, discovery)).start(TYPE.serviceEntry)
  await seen.until('an answer', () => seen.identifier !== '')
  const ref = { kind: 'Secret' as const, organization: '', tenant: '', workspace: '' }
  await cluster.store.delete({ ...ref, namespace: 'isthmus-system', name: 'peer-cluster-2' })
  await seen.until('the end', () => seen.lastError !== '')
  t.match(seen.lastError, /certificate refused \(unknown_trust_domain\)/)
  seen.stop()
})

t.test('a gateway that goes takes its listener, nothing else', async (t) => {
  const router = (await cluster.client(routerNode, gatewayIdentity)).start()
  const sidecar = (await cluster.client(sidecarNode, sleepIdentity)).start()
  await router.until('the listener', () => router.names(TYPE.listener).length === 1)
  await sidecar.until('listeners', () => sidecar.names(TYPE.listener).length > 0)
  const ref = { kind: 'IngressGateway' as const, organization: '', tenant: '', workspace: '' }
  await cluster.store.delete({ ...ref, namespace: 'bookinfo', name: 'eastwest-gateway' })
  await router.until(
    'the end',
    () => router.names(TYPE.listener).length + router.names(TYPE.cluster).length === 0,
  )
  t.equal(router.lastError, '', 'it is told so on its stream')
  t.ok(sidecar.names(TYPE.listener).length > 0)
  router.stop()
  sidecar.stop()
})
