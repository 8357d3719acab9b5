// A gateway that is about to stop is withdrawn from those who call it from elsewhere, before it stops.
import { fromBinary } from '@bufbuild/protobuf'
import t from 'tap'
import { GatewayDrains } from '../../src/discovery/gateway-drains.ts'
import { createCa } from '../../src/identity/ca.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { HealthStatus } from '../../src/xds/gen/envoy/config/core/v3/health_check_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, peer, reachability, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { type Seen, TestCluster } from './cluster.ts'

const [ca1, ca2] = await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)
if (ca1 === undefined || ca2 === undefined) throw new Error('no CA')
const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
const first = await TestCluster.start('cluster-1', {
  ca: ca1,
  yaml:
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    gateway('203.0.113.10') +
    workspace +
    networks +
    peer('cluster-2', ca2.bundlePem) +
    setting(),
})
const second = await TestCluster.start('cluster-2', {
  ca: ca2,
  yaml: networks + peer('cluster-1', ca1.bundlePem, `127.0.0.1:${first.port}`),
})
t.teardown(() => Promise.all([first.stop(), second.stop()]))

const CLUSTER = 'outbound|9080||productpage.bookinfo.svc.cluster.local'
const gatewayIdentity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
const pod = (ip: string) => ({ id: `router~${ip}~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local` })

/** How far the gateway's end is known where it is called from: of the only endpoint, in what the caller's sidecar has. */
function health(seen: Seen): string {
  const resource = seen.get(TYPE.endpoints, CLUSTER)
  if (resource === undefined) return 'nothing'
  const [endpoint] = fromBinary(ClusterLoadAssignmentSchema, resource.body).endpoints.flatMap(
    (one) => one.lbEndpoints,
  )
  return endpoint === undefined ? 'no endpoint' : HealthStatus[endpoint.healthStatus]
}

/** What a pod that is about to stop has heard: undefined before any answer, empty until it is withdrawn. */
function heard(seen: Seen): string | undefined {
  const resource = seen.get(TYPE.withdrawal, 'withdrawal')
  return resource && Buffer.from(resource.body).toString()
}

const caller = (
  await second.client(
    { id: 'sidecar~10.0.0.8~sleep-1.default~default.svc.cluster.local' },
    { namespace: 'default', serviceAccount: 'sleep' },
  )
).start(TYPE.cluster)
caller.subscribe(TYPE.endpoints, [CLUSTER])
await caller.until('the remote endpoint', (seen) => health(seen) === 'HEALTHY')

t.test(
  'the last pod: its callers elsewhere know before it is told to stop; a successor is not touched by it',
  async (t) => {
    const leaving = (await first.client(pod('10.0.0.7'), gatewayIdentity)).start()
    await leaving.until('its listener', (seen) => seen.names(TYPE.listener).length > 0)
    leaving.subscribe(TYPE.withdrawal)
    let known = 'not said'
    await leaving.until('the withdrawal', (seen) => {
      if (!heard(seen)) return false
      known = JSON.stringify(
        second.discovery.desiredEntries()?.flatMap(({ endpoints }) => endpoints.map(({ labels }) => labels)),
      )
      return true
    })
    t.match(heard(leaving), /every client has answered/)
    t.match(known, /isthmus.io\/not-ready":"9080"/, 'the peer has it by then')
    await caller.until('unhealthy where it is called from', (seen) => health(seen) === 'UNHEALTHY')

    const successor = (await first.client(pod('10.0.0.9'), gatewayIdentity)).start()
    await caller.until('healthy again', (seen) => health(seen) === 'HEALTHY')
    leaving.stop()
    successor.stop()
  },
)

t.test('one of two pods: nobody is told anything, and it may stop at once', async (t) => {
  const [stays, leaves] = await Promise.all(
    ['10.0.0.11', '10.0.0.12'].map(async (ip) => (await first.client(pod(ip), gatewayIdentity)).start()),
  )
  if (stays === undefined || leaves === undefined) throw new Error('no clients')
  for (const one of [stays, leaves])
    await one.until('its listener', (seen) => seen.names(TYPE.listener).length > 0)
  const { models } = first.discovery.counters
  leaves.subscribe(TYPE.withdrawal)
  await leaves.until('an answer', (seen) => Boolean(heard(seen)))
  t.equal(heard(leaves), 'other pods serve')
  t.equal(first.discovery.counters.models, models)
  t.equal(health(caller), 'HEALTHY')

  stays.subscribe(TYPE.withdrawal)
  await caller.until('both leave', (seen) => health(seen) === 'UNHEALTHY')
  stays.stop()
  leaves.stop()
  await caller.until(
    'whoever is gone is the business of readiness again',
    (seen) => health(seen) === 'HEALTHY',
  )
})

t.test('a peer that calls itself a pod of the gateway does not keep it from being withdrawn', async (t) => {
  const posing = (
    await first.client(pod('10.0.0.30'), {
      ...{ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', ca: ca2 },
    })
  ).start(TYPE.serviceEntry)
  await posing.until('what is exported', (seen) => seen.names(TYPE.serviceEntry).length > 0)
  const leaving = (await first.client(pod('10.0.0.31'), gatewayIdentity)).start(TYPE.withdrawal)
  await leaving.until('an answer', (seen) => Boolean(heard(seen)))
  t.match(heard(leaving), /every client has answered/)
  await caller.until('unhealthy where it is called from', (seen) => health(seen) === 'UNHEALTHY')
  leaving.stop()
  posing.stop()
  await caller.until('healthy again', (seen) => health(seen) === 'HEALTHY')
})

t.test('a caller that never answers holds up no gateway for long', async (t) => {
  let changes = 0
  const asked: number[] = []
  const drains = new GatewayDrains({
    nodeIds: () => [pod('10.0.0.7').id],
    pods: () => [],
    changed: () => changes++,
    settled: async (timeoutMs) => {
      asked.push(timeoutMs)
      return false
    },
    clock: systemClock,
  })
  t.teardown(() => drains.stop())
  const source = drains.source(pod('10.0.0.7').id, 'bookinfo/eastwest-gateway', 'view')
  t.equal(
    drains.source(pod('10.0.0.7').id, 'bookinfo/eastwest-gateway', 'view') === source,
    false,
    'not drained yet',
  )
  const told = new Promise<string>((resolve) => {
    source.watch(() =>
      resolve(Buffer.from(source.current().get(TYPE.withdrawal)?.get('withdrawal')?.body ?? []).toString()),
    )
  })
  t.equal(
    drains.source(pod('10.0.0.7').id, 'bookinfo/eastwest-gateway', 'view'),
    source,
    'judged again, it is the same',
  )
  await first.poll('its gateway is withdrawn', () => changes === 1)
  t.same([...drains.withdrawn], ['bookinfo/eastwest-gateway'])
  drains.computed()
  t.match(await told, /some client has not answered in 2500 ms/)
  t.same(asked, [2_500])
})

t.test('a ready pod that is connected to another replica of discovery serves too', async (t) => {
  const yaml = yamlOf({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'eastwest-gateway-2', namespace: 'bookinfo', labels: { app: 'eastwest-gateway' } },
    spec: { serviceAccountName: 'eastwest-gateway', containers: [{ name: 'gateway', image: 'isthmus' }] },
    status: { podIP: '10.0.0.30', conditions: [{ type: 'Ready', status: 'True' }] },
  })
  await first.apply(yaml)
  const leaving = (await first.client(pod('10.0.0.7'), gatewayIdentity)).start()
  await leaving.until('its listener', (seen) => seen.names(TYPE.listener).length > 0)
  leaving.subscribe(TYPE.withdrawal)
  await leaving.until('an answer', (seen) => Boolean(heard(seen)))
  t.equal(heard(leaving), 'other pods serve')
  const itself = (await first.client(pod('10.0.0.30'), gatewayIdentity)).start()
  itself.subscribe(TYPE.withdrawal)
  await itself.until('an answer', (seen) => Boolean(heard(seen)))
  t.match(heard(itself), /every client has answered/, 'its own readiness is not another')
  await caller.until('unhealthy where it is called from', (seen) => health(seen) === 'UNHEALTHY')
  leaving.stop()
  itself.stop()
  await caller.until('healthy again', (seen) => health(seen) === 'HEALTHY')
})

t.test('only a gateway can be withdrawn, and only itself', async (t) => {
  const sidecar = (
    await first.client(
      { id: 'sidecar~10.0.0.21~x-1.bookinfo~bookinfo.svc.cluster.local' },
      { namespace: 'bookinfo', serviceAccount: 'x' },
    )
  ).start(TYPE.withdrawal)
  await sidecar.until('an answer', (seen) => seen.answered(TYPE.withdrawal))
  t.equal(heard(sidecar), undefined)
  const liar = (await first.client(pod('10.0.0.7'), { namespace: 'bookinfo', serviceAccount: 'x' })).start(
    TYPE.withdrawal,
  )
  await liar.until('a refusal', (seen) => seen.lastError !== '')
  t.match(liar.lastError, /PERMISSION_DENIED|not of gateway|eastwest-gateway/)
  t.equal(health(caller), 'HEALTHY')
  liar.stop()
  sidecar.stop()
})
