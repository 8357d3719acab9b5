// An Istio control plane that reads its configuration from our discovery (MCP over xDS).
import t, { type Test } from 'tap'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { isMcpType, TYPE } from '../../src/xds/types.ts'
import { gateway, peer, reachability, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'
import { McpClient, REQUESTED } from './mcp-client.ts'

const [ca1, ca2] = (await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)) as [Ca, Ca]
const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
const DASHED = 'productpage-bookinfo-svc-cluster-local'
const ENTRY = `xcp-multicluster/global-gwinternal-${DASHED}`
const RULE = `xcp-multicluster/global-drinternal-${DASHED}`

/** A cluster that serves productpage, and one that imports it. */
async function world(t: Test, exposed = true): Promise<[TestCluster, TestCluster]> {
  const first = await TestCluster.start('cluster-1', {
    ca: ca1,
    yaml:
      service({ name: 'productpage', pods: ['10.0.1.10:8080', '10.0.1.11:8080'] }) +
      gateway('203.0.113.10') +
      workspace +
      (exposed ? setting() : '') +
      networks +
      peer('cluster-2', ca2.bundlePem),
  })
  t.teardown(() => first.stop())
  const yaml = networks + peer('cluster-1', first.ca.bundlePem, `127.0.0.1:${first.port}`)
  const second = await TestCluster.start('cluster-2', { ca: ca2, yaml })
  t.teardown(() => second.stop())
  if (exposed) await second.until('the import', () => second.discovery.model?.imports.length === 1)
  return [first, second]
}

/** Pods of productpage in the importing cluster, `mesh` or in clear. */
const local = (mesh: boolean): string =>
  service({ name: 'productpage', pods: ['10.0.2.10:8080'] }).replace(
    '"conditions"',
    '"targetRef":{"kind":"Pod","name":"productpage-0"},"conditions"',
  ) +
  yamlOf({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'productpage-0',
      namespace: 'bookinfo',
      labels: { app: 'productpage', ...(mesh ? { 'security.istio.io/tlsMode': 'istio' } : {}) },
    },
    spec: { serviceAccountName: 'bookinfo-productpage', containers: [{ name: 'app' }] },
  })

t.test('every type that is asked for is answered, even where there is nothing of it', async (t) => {
  const [first, second] = await world(t, false)
  const istiod = new McpClient(`127.0.0.1:${second.plainPort}`)
  t.teardown(() => istiod.close())
  await istiod.until('synced', () => istiod.synced && istiod.received.size === REQUESTED.length)
  for (const type of REQUESTED) {
    t.equal(istiod.received.get(type), 1, type)
    t.equal(istiod.list(type.slice(type.lastIndexOf('/') + 1)).size, 0)
  }
  t.ok(REQUESTED.every(isMcpType))

  await first.apply(setting())
  await istiod.until('the entry', () => istiod.list('ServiceEntry').has(ENTRY))
  await istiod.until('its rule', () => istiod.list('DestinationRule').has(RULE))
  const entry = istiod.list('ServiceEntry').get(ENTRY)
  t.match(entry, {
    bodyType: 'type.googleapis.com/istio.networking.v1alpha3.ServiceEntry',
    labels: { 'app.kubernetes.io/managed-by': 'isthmus' },
    annotations: { 'isthmus.io/exposed-by': /bookinfo-ws/ },
    createTime: undefined,
  })
  t.match(entry?.version, /^[0-9a-f]{16}$/)
  t.equal(istiod.received.get('networking.istio.io/v1/Gateway'), 1, 'what did not change is not told again')

  await first.store.delete({
    kind: 'WorkspaceSetting',
    namespace: '',
    organization: 'acme',
    tenant: 'eng',
    workspace: 'bookinfo-ws',
    name: 'bookinfo-ws-setting',
  })
  await istiod.until(
    'both gone',
    () => istiod.list('ServiceEntry').size + istiod.list('DestinationRule').size === 0,
  )
})

t.test('one whose Istio is older asks for older versions, and is told the same', async (t) => {
  const [, second] = await world(t)
  const older = REQUESTED.map((type) =>
    type.replace('networking.istio.io/v1/', 'networking.istio.io/v1alpha3/'),
  )
  const istiod = new McpClient(`127.0.0.1:${second.plainPort}`, older)
  t.teardown(() => istiod.close())
  await istiod.until('the entry', () => istiod.list('ServiceEntry').has(ENTRY))
})

t.test(
  'a host that is a Service here has its gateways as WorkloadEntries beside its own endpoints',
  async (t) => {
    const [, second] = await world(t)
    const istiod = new McpClient(`127.0.0.1:${second.plainPort}`)
    t.teardown(() => istiod.close())
    await istiod.until('the entry', () => istiod.list('ServiceEntry').has(ENTRY))

    await second.apply(local(true))
    await istiod.until('a WorkloadEntry', () => istiod.list('WorkloadEntry').size === 1)
    await istiod.until('no ServiceEntry', () => istiod.list('ServiceEntry').size === 0)
    t.match([...istiod.list('WorkloadEntry').keys()][0], /^bookinfo\/k-productpage-[0-9a-f]{16}$/)
    await istiod.until(
      'its rule',
      () => [...istiod.list('DestinationRule').keys()].join() === `bookinfo/global-drinternal-${DASHED}`,
    )

    await second.apply(local(false))
    await istiod.until('none', () => istiod.list('WorkloadEntry').size === 0)
    t.equal(istiod.list('ServiceEntry').size, 0, 'TLS cannot be pinned for some of the endpoints only')
  },
)

t.test(
  "where a user's own entry stands instead of the import, Istio is told nothing beside it",
  async (t) => {
    const [, second] = await world(t)
    const istiod = new McpClient(`127.0.0.1:${second.plainPort}`)
    t.teardown(() => istiod.close())
    await istiod.until('the entry', () => istiod.list('ServiceEntry').has(ENTRY))
    const own = {
      apiVersion: 'networking.istio.io/v1',
      kind: 'ServiceEntry',
      metadata: { name: 'mine', namespace: 'bookinfo' },
      spec: {
        hosts: ['productpage.bookinfo.svc.cluster.local'],
        location: 'MESH_INTERNAL',
        resolution: 'STATIC',
        ports: [{ number: 9080, name: 'http', protocol: 'HTTP' }],
        endpoints: [{ address: '198.51.100.1' }],
      },
    }
    await second.apply(yamlOf(own))
    await istiod.until(
      'neither',
      () => istiod.list('ServiceEntry').size + istiod.list('DestinationRule').size === 0,
    )
    t.match(second.discovery.model?.imports, [{ endpoints: [{ address: '198.51.100.1' }], overrides: true }])
    await second.poll('a condition in its status', () =>
      second.store
        .list('ServiceEntry')
        .some(({ conditions }) => conditions.some(({ reason }) => reason === 'OverridesImport')),
    )
    const ref = { organization: '', tenant: '', workspace: '' }
    await second.store.delete({ kind: 'ServiceEntry', namespace: 'bookinfo', name: 'mine', ...ref })
    await istiod.until('the import again', () => istiod.list('ServiceEntry').has(ENTRY))
  },
)

t.test(
  'a peer is told of subsets as a DestinationRule too, of any other kind that there is nothing',
  async (t) => {
    const [first] = await world(t)
    const rule = {
      apiVersion: 'networking.istio.io/v1',
      kind: 'DestinationRule',
      metadata: { name: 'productpage', namespace: 'bookinfo' },
      spec: { host: 'productpage', subsets: [{ name: 'v1', labels: { version: 'v1' } }] },
    }
    const node = { id: 'discovery~~cluster-2', metadata: { CLUSTER_ID: 'cluster-2' } }
    const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', ca: ca2 }
    const other = 'security.istio.io/v1/AuthorizationPolicy'
    const peerOf = (await first.client(node, discovery)).start(
      TYPE.destinationRule,
      TYPE.workloadEntry,
      other,
    )
    for (const type of [TYPE.destinationRule, TYPE.workloadEntry, other])
      await peerOf.until(`an answer for ${type}`, () => peerOf.answered(type))
    t.strictSame(peerOf.names(TYPE.destinationRule), [])
    await first.apply(yamlOf(rule))
    await peerOf.until('the rule', () => peerOf.names(TYPE.destinationRule).includes(RULE))
  },
)

t.test('over mutual TLS it comes as istiod of its cluster; nobody else gets it', async (t) => {
  const [, second] = await world(t)
  const id = 'sidecar~10.0.0.7~istiod-1.istio-system~istio-system.svc.cluster.local'
  const istiod = (
    await second.client({ id }, { namespace: 'istio-system', serviceAccount: 'istiod-canary' })
  ).start(TYPE.serviceEntry, TYPE.workloadEntry, TYPE.destinationRule)
  await istiod.until('the entry', () => istiod.names(TYPE.serviceEntry).includes(ENTRY))
  await istiod.until('an empty answer', () => istiod.answered(TYPE.workloadEntry))
  await istiod.until('the rule', () => istiod.names(TYPE.destinationRule).includes(RULE))

  const refused = async (node: string, identity: { namespace: string; serviceAccount: string; ca?: Ca }) => {
    const seen = (await second.client({ id: node }, identity)).start(TYPE.serviceEntry)
    await seen.until('a refusal', () => seen.lastError !== '')
    t.strictSame(seen.names(TYPE.serviceEntry), [])
    return seen.lastError
  }
  t.match(
    await refused(id, { namespace: 'istio-system', serviceAccount: 'default' }),
    /for an Istio control plane of this cluster .*sa\/default is neither/,
  )
  t.match(await refused(id, { namespace: 'bookinfo', serviceAccount: 'istiod' }), /is neither/)
  t.match(
    await refused('sidecar~1~istiod.bookinfo~x', { namespace: 'istio-system', serviceAccount: 'istiod' }),
    /is not a workload of namespace bookinfo/,
  )
  t.match(
    await refused(id, { namespace: 'istio-system', serviceAccount: 'istiod', ca: ca1 }),
    /only .*isthmus-discovery of it may subscribe/,
    "another cluster's istiod",
  )
})
