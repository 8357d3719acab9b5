import t from 'tap'
import type { Manifest } from '../../src/objects/types.ts'
import {
  gateway,
  gatewayService,
  manifests,
  modelOf,
  pod,
  said,
  service,
  setting,
  workspace,
} from './build.ts'

const NAME = 'IngressGateway/gw/east'
const east = gateway('east', 'gw')

/** The gateway `east` with the Service given (merged over a LoadBalancer without address) and one pod. */
function withService(over: { metadata?: object; spec?: object; status?: object }) {
  const base = gatewayService('east', 'gw', [])
  const merged: Manifest = {
    ...base,
    metadata: { name: 'east', namespace: 'gw', ...over.metadata },
    spec: { ...(base['spec'] as object), ...over.spec },
    status: { loadBalancer: { ingress: [] }, ...over.status },
  }
  const model = modelOf(manifests(east, merged, pod('east-1', 'gw', { app: 'east' }, 'east')))
  const [found] = model.gateways
  if (found === undefined) throw new Error('no gateway')
  return { model, gateway: found, at: found.addresses.map(({ address, port }) => `${address} ${port}`) }
}

const annotation = (value: string) => ({
  annotations: { 'xcp.tetrate.io/cluster-external-addresses': value },
})
const ingress = (...list: object[]) => ({ status: { loadBalancer: { ingress: list } } })

t.test('addresses: annotation, then load balancer, then externalIPs, then nodes', async (t) => {
  const all = { ...ingress({ ip: '192.0.2.1' }), spec: { externalIPs: ['192.0.2.2'] } }
  t.same(withService({ ...all, metadata: annotation('192.0.2.7, 192.0.2.8') }).at, [
    '192.0.2.7 15443',
    '192.0.2.8 15443',
  ])
  t.same(withService({ metadata: annotation('gw.example.com') }).at, ['gw.example.com 15443'])
  t.same(withService(all).at, ['192.0.2.1 15443'])
  t.same(withService(ingress({ hostname: 'lb.example.com' })).at, ['lb.example.com 15443'])
  t.same(
    withService(ingress({ hostname: 'lb.example.com' }, { ip: 'fd00::1' })).at,
    ['fd00::1 15443'],
    'never mixed',
  )
  t.same(withService({ spec: { externalIPs: ['192.0.2.2'] } }).at, ['192.0.2.2 15443'])
  const ports = [{ name: 'tls', port: 15443, nodePort: 31443 }]
  t.same(withService({ spec: { type: 'NodePort', ports } }).at, ['198.51.100.1 31443'])
  t.same(
    withService({ spec: { type: 'LoadBalancer', ports } }).at,
    [],
    'the nodes are used for type NodePort only',
  )
})

t.test('the port: 15443, else the one named tls, else as the label says', async (t) => {
  const label = (value: string) => ({ labels: { 'networking.istio.io/gatewayPort': value } })
  t.same(withService({ ...ingress({ ip: '192.0.2.1' }), spec: { ports: [{ name: 'tls', port: 443 }] } }).at, [
    '192.0.2.1 443',
  ])
  t.same(withService({ ...ingress({ ip: '192.0.2.1' }), metadata: label('31000') }).at, ['192.0.2.1 31000'])
  const ports = [
    { name: 'tls', port: 15443, nodePort: 31443 },
    { name: 'alt', port: 8443, nodePort: 31844 },
  ]
  t.same(withService({ spec: { type: 'NodePort', ports }, metadata: label('8443') }).at, [
    '198.51.100.1 31844',
  ])
  t.match(
    said(withService({ ...ingress({ ip: '192.0.2.1' }), metadata: label('x') }).model, NAME).join('\n'),
    /Programmed=False InvalidPort: .*gatewayPort"\]: found "x"/,
  )
})

t.test('an annotation that cannot be read withholds the address', async (t) => {
  for (const bad of ['', '192.0.2.7,gw.example.com', 'a.example.com,b.example.com', '1.2.3', 'no good']) {
    const { at, model } = withService({ ...ingress({ ip: '192.0.2.1' }), metadata: annotation(bad) })
    t.same(at, [], bad)
    t.match(
      said(model, NAME).join('\n'),
      /Programmed=False InvalidAddress: Service\/gw\/east metadata.annotations/,
      bad,
    )
  }
})

t.test('what is awaited is said', async (t) => {
  const state = (over: Parameters<typeof withService>[0]) => said(withService(over).model, NAME).join('\n')
  t.match(
    state({}),
    /Programmed=False AwaitingAddress: Service\/gw\/east has no status.loadBalancer.ingress yet/,
  )
  t.match(
    state({ spec: { type: 'ClusterIP' } }),
    /AwaitingAddress: .*spec.type: ClusterIP is not reachable from outside/,
  )
  t.match(
    state({ spec: { ports: [{ port: 80 }] } }),
    /ResolvedRefs=False NoService: no Service in its namespace selects the pods of gw\/east and has port 15443/,
  )
  t.match(
    state(ingress({ ip: '192.0.2.1' })),
    /Programmed=True Programmed: 192.0.2.1 port 15443, from Service\/gw\/east status.loadBalancer.ingress/,
  )
  const alone = modelOf(manifests(east))
  t.match(
    said(alone, NAME).join('\n'),
    /ResolvedRefs=False NoService: .*; no pod in its namespace carries app=east yet/,
  )
})

t.test('SPIFFE ids are those of its pods, before there are any that of its name', async (t) => {
  t.same(modelOf(manifests(east)).gateways[0]?.spiffeIds, ['spiffe://c1.local/ns/gw/sa/east'])
  const pods = [
    pod('a', 'gw', { app: 'east' }, 'two'),
    pod('b', 'gw', { app: 'east' }, 'one'),
    pod('c', 'gw', { app: 'other' }, 'no'),
  ]
  t.same(modelOf(manifests(east, ...pods)).gateways[0]?.spiffeIds, [
    'spiffe://c1.local/ns/gw/sa/one',
    'spiffe://c1.local/ns/gw/sa/two',
  ])
})

t.test('an EGRESS gateway serves nobody; the newer kind wins over the older of one name', async (t) => {
  const newer = (type: string) => ({
    apiVersion: 'install.tetrate.io/v1alpha1',
    kind: 'Gateway',
    metadata: { name: 'east', namespace: 'gw' },
    spec: { type, connectionDrainDuration: '7s' },
  })
  const egress = modelOf(manifests(newer('EGRESS')))
  t.same(egress.gateways, [])
  t.match(said(egress, 'Gateway/gw/east'), [/Accepted=True NotEastWest/])
  const both = modelOf(manifests(east, newer('EASTWEST')))
  t.match(both.gateways, [{ name: 'east', drainMs: 7_000 }])
  t.match(said(both, NAME), [/Accepted=False Conflicted: .*Gateway\/gw\/east has the same name/])
})

t.test('pods that a selector finds are a gateway although no object describes them', async (t) => {
  const labels = { app: 'istio-eastwestgateway', istio: 'eastwestgateway' }
  const its = {
    ...gatewayService('istio-eastwestgateway', 'istio-system'),
    metadata: { name: 'ew', namespace: 'istio-system' },
  }
  const model = modelOf(
    manifests(
      pod('gw-1', 'istio-system', labels, 'ew-sa'),
      its,
      workspace('w', '*/a'),
      setting('s', 'w', { gateway: 'istio-system', labels: { istio: 'eastwestgateway' } }),
      service('one', 'a'),
    ),
  )
  t.match(model.gateways, [
    {
      name: 'istio-eastwestgateway',
      namespace: 'istio-system',
      labelSets: [labels],
      spiffeIds: ['spiffe://c1.local/ns/istio-system/sa/ew-sa'],
      addresses: [{ address: '192.0.2.1', port: 15443 }],
    },
  ])
  t.equal(model.exposures.get('one.a.svc.cluster.local')?.gateway, 'istio-system/istio-eastwestgateway')
})

t.test('a selector may use other labels of the gateway pods', async (t) => {
  const world = (...more: Manifest[]) =>
    modelOf(
      manifests(
        east,
        workspace('w', '*/a'),
        setting('s', 'w', { gateway: 'gw', labels: { tier: 'edge' } }),
        service('one', 'a'),
        ...more,
      ),
    ).exposures.get('one.a.svc.cluster.local')
  t.equal(world()?.decision.allowed, false)
  t.equal(world(pod('p', 'gw', { app: 'east', tier: 'edge' }))?.gateway, 'gw/east')
})
