// What a real istiod makes of what our discovery tells it. Its Kubernetes API holds the same Services and pods as the cluster's.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { fromBinary } from '@bufbuild/protobuf'
import t, { type Test } from 'tap'
import { stringify } from 'yaml'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { UpstreamTlsContextSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, peer, reachability, setting, workspace, yamlOf } from '../resources/world.ts'
import { RawStream } from '../xds/wire.ts'
import { TestCluster } from './cluster.ts'
import { startIstiod, WITHOUT_ISTIOD } from './istiod-process.ts'

const HOST = 'reviews.bookinfo.svc.cluster.local'
const GATEWAY = 'spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'

/** Service `reviews` with mesh pods of the versions given, at `10.N.0.1` and on. */
function reviews(network: number, ...versions: readonly string[]): readonly object[] {
  const pods = versions.map((version, i) => ({
    name: `reviews-${i}`,
    version,
    ip: `10.${network}.0.${i + 1}`,
  }))
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'reviews', namespace: 'bookinfo' },
      spec: {
        clusterIP: '10.96.0.1',
        selector: { app: 'reviews' },
        ports: [{ name: 'tcp', port: 9080, protocol: 'TCP' }],
      },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: 'reviews',
        namespace: 'bookinfo',
        labels: { 'kubernetes.io/service-name': 'reviews' },
      },
      addressType: 'IPv4',
      ports: [{ name: 'tcp', port: 9080, protocol: 'TCP' }],
      endpoints: pods.map(({ name, ip }) => ({
        addresses: [ip],
        conditions: { ready: true },
        targetRef: { kind: 'Pod', name, namespace: 'bookinfo' },
      })),
    },
    ...pods.map(({ name, version, ip }) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace: 'bookinfo',
        labels: { app: 'reviews', version, 'security.istio.io/tlsMode': 'istio' },
      },
      spec: { serviceAccountName: 'reviews', containers: [{ name: 'main' }] },
      status: { podIP: ip, phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
    })),
  ]
}
const RULE = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'DestinationRule',
  metadata: { name: 'reviews', namespace: 'bookinfo' },
  spec: { host: 'reviews', subsets: ['v1', 'v2'].map((version) => ({ name: version, labels: { version } })) },
}

/** A stock sidecar. */
const NODE = {
  id: 'sidecar~10.2.0.9~sleep-1.bookinfo~bookinfo.svc.cluster.local',
  cluster: 'sleep.bookinfo',
  metadata: {
    CLUSTER_ID: 'cluster-2',
    NAMESPACE: 'bookinfo',
    ISTIO_VERSION: '1.31.0',
    LABELS: { app: 'sleep' },
  },
  locality: { region: '', zone: '' },
  userAgentName: 'envoy',
}
const SETTING = {
  kind: 'WorkspaceSetting',
  namespace: '',
  organization: 'acme',
  tenant: 'eng',
  workspace: 'bookinfo-ws',
  name: 'bookinfo-ws-setting',
} as const

/** A cluster that serves reviews, and one that imports it, with `local` objects of its own. */
async function world(t: Test, local: readonly object[] = []) {
  const [home, away] = (await Promise.all(
    ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
  )) as [Ca, Ca]
  const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
  const first = await TestCluster.start('cluster-1', {
    ca: home,
    yaml:
      yamlOf(...reviews(1, 'v1', 'v2', 'v2'), RULE) +
      gateway('203.0.113.10') +
      workspace +
      setting() +
      networks +
      peer('cluster-2', away.bundlePem),
  })
  t.teardown(() => first.stop())
  const second = await TestCluster.start('cluster-2', {
    ca: away,
    yaml: yamlOf(...local) + networks + peer('cluster-1', home.bundlePem, `127.0.0.1:${first.port}`),
  })
  t.teardown(() => second.stop())
  await second.until('the import', () => second.discovery.model?.imports.length === 1)

  return { first, second }
}

t.test(
  'local workloads come first, remote gateways behind them, whole and by subset',
  { skip: WITHOUT_ISTIOD },
  async (t) => {
    const local = reviews(2, 'v1')
    const { second } = await world(t, local)

    const istiod = await startIstiod(
      'cluster-2.local',
      second.plainPort,
      local.map((object) => stringify(object)).join('\n---\n'),
    )
    t.teardown(() => istiod.stop())
    let ready = false
    await second.poll(
      'istiod to be ready',
      () => {
        void istiod.ready().then((yes) => {
          ready ||= yes
        })
        return ready
      },
      20_000,
    )
    const sidecar = new RawStream(istiod.ads, 'sotw')
    t.teardown(() => sidecar.close())
    sidecar.send({ typeUrl: TYPE.cluster, node: NODE })
    const { resources } = await sidecar.next()
    const clusters = new Map(
      resources.map(({ body }) => fromBinary(ClusterSchema, body)).map((each) => [each.name, each]),
    )
    const names = ['', 'v1', 'v2'].map((subset) => `outbound|9080|${subset}|${HOST}`)
    for (const [i, name] of names.entries()) {
      const socket = clusters.get(name)?.transportSocket?.configType
      const tls =
        socket?.case === 'typedConfig' ? fromBinary(UpstreamTlsContextSchema, socket.value.value) : undefined
      t.equal(tls?.sni, `outbound_.9080_.${['', 'v1', 'v2'][i]}_.${HOST}`)
      const context = tls?.commonTlsContext?.validationContextType
      const pinned =
        context?.case === 'combinedValidationContext'
          ? context.value.defaultValidationContext?.matchSubjectAltNames.map(
              ({ matchPattern }) => matchPattern.value,
            )
          : []
      t.strictSame(pinned, [GATEWAY, 'spiffe://cluster-2.local/ns/bookinfo/sa/reviews'], name)
    }

    sidecar.send({ typeUrl: TYPE.endpoints, node: NODE, names })
    const found = new Map<string, [string, number][]>()
    while (found.size < names.length) {
      const response = await sidecar.next()
      if (response.typeUrl !== TYPE.endpoints) continue
      for (const { body } of response.resources) {
        const { clusterName, endpoints } = fromBinary(ClusterLoadAssignmentSchema, body)
        const addresses = endpoints.flatMap(({ priority, lbEndpoints }) =>
          lbEndpoints.map(({ hostIdentifier }): [string, number] => {
            const at = hostIdentifier.case === 'endpoint' ? hostIdentifier.value.address?.address : undefined
            return [at?.case === 'socketAddress' ? at.value.address : '', priority]
          }),
        )
        // Of one address that is there twice an Envoy takes the first.
        found.set(
          clusterName,
          [...new Map(addresses.toReversed())].sort(([, a], [, b]) => a - b),
        )
      }
    }
    t.strictSame(
      names.map((name) => found.get(name)),
      [
        [
          ['10.2.0.1', 0],
          ['203.0.113.10', 1],
        ],
        [
          ['10.2.0.1', 0],
          ['203.0.113.10', 1],
        ],
        [['203.0.113.10', 0]],
      ],
    )
  },
)

/** The name of every upstream that istiod gives to a sidecar now. */
async function upstreamsOf(ads: string): Promise<string[]> {
  const sidecar = new RawStream(ads, 'sotw')
  sidecar.send({ typeUrl: TYPE.cluster, node: NODE })
  const { resources } = await sidecar.next()
  sidecar.close()
  return resources.map(({ body }) => fromBinary(ClusterSchema, body).name)
}

t.test(
  'while discovery is away istiod keeps what it has; when it is back it takes what is new',
  { skip: WITHOUT_ISTIOD },
  async (t) => {
    const { first, second } = await world(t)
    // Between the two: discovery is away when nobody answers here.
    const open = new Set<Socket>()
    let away = false
    const relay = createServer((socket) => {
      if (away) return void socket.destroy()
      const upstream = connect({ host: '127.0.0.1', port: second.plainPort })
      for (const each of [socket, upstream]) {
        open.add(each)
        each.on('error', () => {})
        each.on('close', () => {
          open.delete(each)
          socket.destroy()
          upstream.destroy()
        })
      }
      socket.pipe(upstream).pipe(socket)
    }).listen(0, '127.0.0.1')
    await once(relay, 'listening')
    t.teardown(() => {
      relay.close()
      for (const each of open) each.destroy()
    })
    const istiod = await startIstiod('cluster-2.local', (relay.address() as AddressInfo).port)
    t.teardown(() => istiod.stop())
    const upstream = `outbound|9080||${HOST}`
    const poll = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
      let held = false
      await second.poll(
        what,
        () => {
          void holds().then((yes) => {
            held ||= yes
          })
          return held
        },
        20_000,
      )
    }
    await poll('istiod to be ready', () => istiod.ready())
    t.ok((await upstreamsOf(istiod.ads)).includes(upstream))

    away = true
    for (const each of open) each.destroy()
    await first.store.delete(SETTING)
    await second.until('no import', () => second.discovery.model?.imports.length === 0)
    t.ok((await upstreamsOf(istiod.ads)).includes(upstream), 'it keeps what it has')
    away = false
    await poll('the import to go', async () => !(await upstreamsOf(istiod.ads)).includes(upstream))
  },
)
