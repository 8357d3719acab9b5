import t from 'tap'
import { exportsFor } from '../../src/model/export-of.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { acceptSecret } from '../../src/resources/accept-secret.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import type { SnapshotBuilder } from '../../src/resources/snapshot-builder.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import {
  bundlesOf,
  gateway,
  modelOf,
  peer,
  reachability,
  service,
  setting,
  workspace,
  yamlOf,
} from './world.ts'

const NAME = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'
const bundles = await bundlesOf('cluster-1', 'cluster-2', 'cluster-3')
const bind = { address: '0.0.0.0', port: 15443 }
const peers = peer('cluster-2', bundles[1]?.pem ?? '') + peer('cluster-3', bundles[2]?.pem ?? '')
const story =
  service({ name: 'productpage', pods: ['10.0.1.10:8080', '10.0.1.11:8080!'] }) +
  service({ name: 'details', pods: ['10.0.1.20:9080'] }) +
  gateway('203.0.113.10') +
  workspace +
  setting() +
  reachability(['cluster-1', 'cluster-2', 'cluster-3'], { 'cluster-2-network': 'cluster-1-network' }) +
  peers

function build(yaml: string, secrets = true, previous?: SnapshotBuilder): SnapshotBuilder {
  const model = modelOf(yaml)
  const options = { bind, bundles, secrets, credentialFile: '', issuers: true }
  return gatewayResources(model, model.gateways[0], options, previous)
}

function names(builder: SnapshotBuilder, type: string): string[] {
  return [...(builder.snapshot().get(type)?.keys() ?? [])].sort()
}

function resource(builder: SnapshotBuilder, type: string, name: string): XdsResource {
  const found = builder.snapshot().get(type)?.get(name)
  if (found === undefined) throw new Error(`no ${name}`)
  return found
}

t.test('every exposed port has an upstream and endpoints under its server name', async (t) => {
  const built = build(story)
  const expected = ['details', 'productpage'].map(
    (name) => `outbound_.9080_._.${name}.bookinfo.svc.cluster.local`,
  )
  t.strictSame(names(built, TYPE.cluster), expected)
  t.strictSame(names(built, TYPE.endpoints), expected)
  const upstream = acceptUpstream(resource(built, TYPE.cluster, NAME))
  t.match(upstream, { ok: true, value: { type: 'EDS', endpointsName: NAME, defaultSocket: { kind: 'raw' } } })
})

t.test('ready endpoints are healthy, draining ones are said to be', async (t) => {
  const accepted = acceptEndpoints(resource(build(story), TYPE.endpoints, NAME))
  if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
  const found = accepted.value.localities.flatMap(({ endpoints }) => endpoints)
  t.strictSame(
    found.map(({ address, healthStatus }) => [address.host, address.port, healthStatus]),
    [
      ['10.0.1.10', 8080, 'HEALTHY'],
      ['10.0.1.11', 8080, 'DRAINING'],
    ],
  )
  t.equal(accepted.value.localities[0]?.region, 'region-of-cluster-1')
})

t.test('where nobody is ready, draining endpoints are the last resort', async (t) => {
  const leaving = service({ name: 'leaving', pods: ['10.0.1.30:8080!'] })
  const name = 'outbound_.9080_._.leaving.bookinfo.svc.cluster.local'
  t.match(acceptEndpoints(resource(build(story + leaving), TYPE.endpoints, name)), {
    ok: true,
    value: { localities: [{ endpoints: [{ address: { host: '10.0.1.30' }, healthStatus: 'HEALTHY' }] }] },
  })
})

t.test('a Service without endpoints keeps its upstream, with an empty assignment', async (t) => {
  const built = build(story.replace('10.0.1.20', '10.0.1.20').concat(service({ name: 'empty' })))
  const name = 'outbound_.9080_._.empty.bookinfo.svc.cluster.local'
  t.ok(built.snapshot().get(TYPE.cluster)?.has(name))
  t.match(acceptEndpoints(resource(built, TYPE.endpoints, name)), { ok: true, value: { localities: [] } })
})

t.test('the listener terminates mutual TLS and admits only who may reach this network', async (t) => {
  const accepted = acceptListener(resource(build(story), TYPE.listener, 'eastwest'))
  if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
  const [chain] = accepted.value.chains
  t.strictSame(accepted.value.address, { host: '0.0.0.0', port: 15443 })
  t.match(chain, { sniCluster: true, maxConnectAttempts: 3 })
  t.match(chain?.tls, {
    credentialSecret: 'default',
    trustSecret: 'ROOTCA',
    alpn: ['h2', 'http/1.1', 'istio'],
  })
  const [rbac] = chain?.rbac ?? []
  t.equal(rbac?.rules?.action, 'ALLOW')
  t.strictSame(
    rbac?.rules?.policies.map(({ name }) => name.split(':')[0]),
    ['cluster-1', 'cluster-2'],
    'not cluster-3, which no rule lets in',
  )
  t.match(
    rbac?.rules?.policies[1]?.name,
    /OrganizationSetting\/acme\/default .*networkReachability\["cluster-2-network"\]/,
  )
})

t.test(
  'advertise: who is not told of the services is let in, where his cluster writes the ServiceEntry itself',
  async (t) => {
    const advertising = story.replace(
      '"name":"default"',
      '"name":"default","annotations":{"isthmus.io/reachability":"advertise"}',
    )
    const accepted = acceptListener(resource(build(advertising), TYPE.listener, 'eastwest'))
    if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
    t.strictSame(
      accepted.value.chains[0]?.rbac[0]?.rules?.policies.map(({ name }) => name.split(':')[0]),
      ['cluster-1', 'cluster-2', 'cluster-3'],
    )
    const model = modelOf(advertising)
    const told = (cluster: string) =>
      exportsFor(model, model.clusters.get(cluster) ?? model.self).services.map(
        ({ service: { name } }) => name,
      )
    t.equal(told('cluster-2').length, 2)
    t.strictSame(told('cluster-3'), [])

    const byHand = yamlOf({
      apiVersion: 'networking.istio.io/v1',
      kind: 'ServiceEntry',
      metadata: { name: 'by-hand', namespace: 'client' },
      spec: {
        hosts: ['productpage.bookinfo.svc.cluster.local'],
        location: 'MESH_INTERNAL',
        resolution: 'STATIC',
        ports: [{ name: 'http', number: 9080, protocol: 'HTTP' }],
        endpoints: [
          {
            address: '203.0.113.10',
            ports: { http: 15443 },
            labels: { 'security.istio.io/tlsMode': 'istio', 'xcp.tetrate.io/cluster': 'cluster-1' },
          },
        ],
        subjectAltNames: ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'],
      },
    })
    const range = parseBindRange('127.240.0.0/16')
    if (!range.ok) throw new Error(range.error)
    const there = modelOf(byHand + reachability(['cluster-1', 'cluster-3'], {}), 'cluster-3')
    const sidecar = sidecarResources(there, {
      bind: range.value,
      bundles,
      secrets: true,
      hostNames: true,
      credentialFile: '',
    })
    const name = 'outbound|9080||productpage.bookinfo.svc.cluster.local'
    t.match(acceptEndpoints(resource(sidecar, TYPE.endpoints, name)), {
      value: {
        localities: [
          { endpoints: [{ address: { host: '203.0.113.10', port: 15443 }, healthStatus: 'HEALTHY' }] },
        ],
      },
    })
    t.match(acceptUpstream(resource(sidecar, TYPE.cluster, name)), {
      value: { socketMatches: [{ socket: { kind: 'tls', tls: { sni: NAME } } }, {}] },
    })
  },
)

t.test(
  'a Service that asks for the PROXY protocol gets it, with the caller; what is no version is said',
  async (t) => {
    const plain = { name: 'productpage', pods: ['10.0.1.10:8080', '10.0.1.11:8080!'] }
    const annotated = (version: string) =>
      story.replace(
        service(plain),
        service({ ...plain, annotations: { 'isthmus.io/proxy-protocol': version } }),
      )
    const socketOf = (yaml: string) => {
      const accepted = acceptUpstream(resource(build(yaml), TYPE.cluster, NAME))
      return accepted.ok ? accepted.value.defaultSocket : accepted.error
    }
    t.same(socketOf(story), { kind: 'raw' })
    t.match(socketOf(annotated('v2')), { kind: 'raw', proxyProtocol: { version: 'V2', passTlvs: 'all' } })
    t.match(socketOf(annotated('v1')), { kind: 'raw', proxyProtocol: { version: 'V1', passTlvs: 'none' } })
    t.same(socketOf(annotated('v3')), { kind: 'raw' })
    t.match(
      modelOf(annotated('v3')).conditions.filter(({ object }) => object === 'Service/bookinfo/productpage'),
      [{ reason: 'InvalidProxyProtocol', message: /expected v1 or v2, found "v3"/ }],
    )
    const listener = acceptListener(resource(build(annotated('v2')), TYPE.listener, 'eastwest'))
    t.match(listener, {
      value: {
        chains: [
          {
            proxyProtocolTlvs: [
              { type: 0x02, format: '%REQUESTED_SERVER_NAME%' },
              { type: 0xe0, format: '%DOWNSTREAM_PEER_URI_SAN%' },
            ],
          },
        ],
      },
    })
  },
)

t.test('a policy asks for its trust domain and excludes every other federated one', async (t) => {
  const accepted = acceptListener(resource(build(story), TYPE.listener, 'eastwest'))
  if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
  const principal = accepted.value.chains[0]?.rbac[0]?.rules?.policies[1]?.principals[0]
  const id = (cluster: string) => ({
    kind: 'id',
    match: { kind: 'prefix', value: `spiffe://${cluster}.local/` },
  })
  t.match(principal, {
    kind: 'and',
    rules: [id('cluster-2'), { kind: 'not', rule: id('cluster-1') }, { kind: 'not', rule: id('cluster-3') }],
  })
})

t.test('trust bundles are sent apart, one per trust domain, and not to clients in clear', async (t) => {
  const accepted = acceptSecret(resource(build(story), TYPE.secret, 'ROOTCA'))
  if (!accepted.ok || accepted.value.kind !== 'trust') throw new Error('no trust')
  t.strictSame(accepted.value.bundles.trustDomains, ['cluster-1.local', 'cluster-2.local', 'cluster-3.local'])
  t.equal(build(story, false).snapshot().has(TYPE.secret), false)
})

t.test('what a limited setting no longer exposes is gone, the rest is the same object', async (t) => {
  const before = build(story)
  const limited = story.replace(setting(), setting([{ app: 'details' }]))
  const after = build(limited, true, before)
  t.strictSame(names(after, TYPE.cluster), ['outbound_.9080_._.details.bookinfo.svc.cluster.local'])
  t.equal(resource(after, TYPE.listener, 'eastwest'), resource(before, TYPE.listener, 'eastwest'))
  t.equal(resource(after, TYPE.secret, 'ROOTCA'), resource(before, TYPE.secret, 'ROOTCA'))
})

t.test('an endpoint that changes makes one new resource', async (t) => {
  const before = build(story)
  const after = build(story.replace('10.0.1.20', '10.0.1.21'), true, before)
  const changed = [...after.snapshot()].flatMap(([type, resources]) =>
    [...resources.values()].filter((now) => now !== before.snapshot().get(type)?.get(now.name)),
  )
  t.strictSame(
    changed.map(({ name, anyTypeUrl }) => [name, anyTypeUrl]),
    [['outbound_.9080_._.details.bookinfo.svc.cluster.local', TYPE.endpoints]],
  )
})

t.test('a gateway that is gone has nothing left', async (t) => {
  const model = modelOf(story)
  const snapshot = gatewayResources(model, undefined, {
    bind,
    bundles,
    secrets: true,
    credentialFile: '',
  }).snapshot()
  t.strictSame(
    [...snapshot.values()].map(({ size }) => size),
    [0, 0, 0, 0],
  )
})
