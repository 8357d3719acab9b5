import t from 'tap'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { decodeNameTable } from '../../src/resources/name-table.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { entryManifest } from '../../src/resources/service-entry-manifest.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { bundlesOf, gateway, modelOf, reachability, service, setting, workspace, yamlOf } from './world.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const UPSTREAM = `outbound|9080||${HOST}`
const bundles = await bundlesOf('cluster-1', 'cluster-2')
const parsed = parseBindRange('127.240.0.0/16')
if (!parsed.ok) throw new Error(parsed.error)
const bind = parsed.value

const serving = modelOf(
  service({ name: 'productpage', pods: ['10.0.1.10:8080', '10.0.1.11:8080'] }) +
    gateway('203.0.113.10') +
    workspace +
    setting() +
    reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }),
)
const exported = exportEntries([...serving.exposures.values()], serving.gateways, serving.self)
const imported = yamlOf(...exported.map(entryManifest))

function build(yaml: string, hostNames = true): Map<string, XdsResource> {
  const model = modelOf(yaml, 'cluster-2')
  const snapshot = sidecarResources(model, {
    bind,
    bundles,
    secrets: true,
    hostNames,
    credentialFile: '',
  }).snapshot()
  return new Map(
    [...snapshot].flatMap(([type, all]) => [...all].map(([name, each]) => [`${type} ${name}`, each])),
  )
}

function endpointsOf(resources: Map<string, XdsResource>) {
  const accepted = acceptEndpoints(need(resources, TYPE.endpoints, UPSTREAM))
  if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
  return accepted.value
}

function need(resources: Map<string, XdsResource>, type: string, name: string): XdsResource {
  const found = resources.get(`${type} ${name}`)
  if (found === undefined) throw new Error(`no ${type} ${name} in ${[...resources.keys()].join(', ')}`)
  return found
}

t.test(
  'an imported service is called through the remote gateway, pinned, with its server name',
  async (t) => {
    const resources = build(imported)
    const upstream = acceptUpstream(need(resources, TYPE.cluster, UPSTREAM))
    t.match(upstream, {
      ok: true,
      value: {
        endpointsName: UPSTREAM,
        socketMatches: [
          {
            match: { tlsMode: 'istio' },
            socket: {
              kind: 'tls',
              tls: {
                sni: `outbound_.9080_._.${HOST}`,
                alpn: ['istio'],
                trustSecret: 'ROOTCA',
                peerIds: [
                  { kind: 'exact', value: 'spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway' },
                ],
              },
            },
          },
          { match: {}, socket: { kind: 'raw' } },
        ],
      },
    })
    t.match(endpointsOf(resources).localities, [
      {
        region: 'region-of-cluster-1',
        priority: 0,
        weight: 2,
        endpoints: [
          {
            address: { host: '203.0.113.10', port: 15443 },
            healthStatus: 'HEALTHY',
            socketMetadata: { tlsMode: 'istio' },
          },
        ],
      },
    ])
  },
)

t.test(
  'a Service that asks for the PROXY protocol gets it from sidecars too, and remote gateways do not',
  async (t) => {
    const local = service({
      name: 'productpage',
      pods: ['10.0.2.10:8080'],
      annotations: { 'isthmus.io/proxy-protocol': 'v2' },
    })
    t.match(acceptUpstream(need(build(imported + local), TYPE.cluster, UPSTREAM)), {
      value: {
        socketMatches: [
          { match: { tlsMode: 'istio' }, socket: { kind: 'tls', proxyProtocol: undefined } },
          { match: {}, socket: { kind: 'raw', proxyProtocol: { version: 'V2' } } },
        ],
      },
    })
  },
)

t.test('its listener has an address of the range, its name leads there', async (t) => {
  const resources = build(imported)
  const accepted = acceptListener(need(resources, TYPE.listener, `${HOST}_9080`))
  if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
  const { address, service: metadata, chains } = accepted.value
  t.match(address, { host: /^127\.240\./, port: 9080 })
  t.strictSame(metadata, { host: HOST, port: 9080, protocol: 'http' })
  t.match(chains, [{ upstream: UPSTREAM, tls: undefined, maxConnectAttempts: 6 }])
  const names = decodeNameTable(need(resources, TYPE.nameTable, 'nametable').body)
  t.strictSame(
    Object.fromEntries(names),
    Object.fromEntries(
      [HOST, 'productpage.bookinfo', 'productpage.bookinfo.svc'].map((name) => [name, [address.host]]),
    ),
  )
})

t.test(
  'local endpoints come first, the gateway after them; no traffic spills over while one is healthy',
  async (t) => {
    const local = service({
      name: 'productpage',
      pods: ['10.0.2.10:8080', '10.0.2.11:8080', '10.0.2.12:8080'],
    })
    const { localities, overprovisioningFactor } = endpointsOf(build(imported + local))
    t.strictSame(
      localities.map(({ priority, endpoints }) => [priority, endpoints.length, endpoints[0]?.socketMetadata]),
      [
        [0, 3, {}],
        [1, 1, { tlsMode: 'istio' }],
      ],
    )
    t.ok((overprovisioningFactor * 1) / 3 >= 100, 'one of three healthy keeps everything')
  },
)

t.test('a local service with nothing ready leaves the gateway at the first priority', async (t) => {
  const { localities } = endpointsOf(build(imported + service({ name: 'productpage' })))
  t.match(localities, [{ priority: 0, endpoints: [{ address: { host: '203.0.113.10' } }] }])
})

t.test('draining local endpoints are used only where no gateway is there', async (t) => {
  const local = service({ name: 'productpage', pods: ['10.0.2.10:8080!'] })
  const statuses = (yaml: string) =>
    endpointsOf(build(yaml)).localities.flatMap(({ endpoints }) =>
      endpoints.map(({ healthStatus }) => healthStatus),
    )
  t.strictSame(statuses(imported + local), ['DRAINING', 'HEALTHY'])
  t.strictSame(statuses(local), ['HEALTHY'])
})

t.test('a gateway with nobody ready behind it is known, but not to be chosen', async (t) => {
  const idle = modelOf(
    service({ name: 'productpage' }) +
      gateway('203.0.113.10') +
      workspace +
      setting() +
      reachability(['cluster-1'], {}),
  )
  const [entry] = exportEntries([...idle.exposures.values()], idle.gateways, idle.self)
  t.equal(entry?.endpoints[0]?.labels['isthmus.io/not-ready'], '9080')
  const { localities } = endpointsOf(build(yamlOf(entry === undefined ? {} : entryManifest(entry))))
  t.match(localities, [{ endpoints: [{ address: { host: '203.0.113.10' }, healthStatus: 'UNHEALTHY' }] }])
})

t.test('a service nobody serves keeps its upstream, its listener and its name', async (t) => {
  const resources = build(service({ name: 'productpage' }))
  t.strictSame(endpointsOf(resources).localities, [])
  t.ok(resources.has(`${TYPE.listener} ${HOST}_9080`))
  t.match(acceptUpstream(need(resources, TYPE.cluster, UPSTREAM)), {
    ok: true,
    value: { socketMatches: [{ match: {} }] },
  })
})

t.test('a gateway known by host name is left out for an Envoy', async (t) => {
  const byName = imported.replace('203.0.113.10', 'lb.example.com').replace('"STATIC"', '"DNS"')
  t.match(endpointsOf(build(byName)).localities, [{ endpoints: [{ address: { host: 'lb.example.com' } }] }])
  t.strictSame(endpointsOf(build(byName, false)).localities, [])
})

t.test('a name is stable, whoever serves it: here, there, both, or nobody', async (t) => {
  const addressOf = (yaml: string) =>
    decodeNameTable(need(build(yaml), TYPE.nameTable, 'nametable').body).get('productpage.bookinfo')?.[0]
  const local = service({ name: 'productpage', pods: ['10.0.2.10:8080'] })
  const [here, both, there, nobody] = [
    local,
    imported + local,
    imported,
    service({ name: 'productpage' }),
  ].map(addressOf)
  t.match(here, /^127\.240\./)
  t.strictSame([both, there, nobody], [here, here, here])
})

t.test(
  'what a listener could not serve keeps its name from ordinary DNS, and its ClusterIP is never taken',
  async (t) => {
    const dns = (namespace: string) =>
      yamlOf({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'names', namespace },
        spec: {
          clusterIP: '10.96.0.10',
          ports: [
            { name: 'dns', port: 53, protocol: 'UDP' },
            { name: 'dns-tcp', port: 53, protocol: 'TCP' },
          ],
        },
      })
    const resources = build(imported + dns('bookinfo') + dns('kube-system'))
    const names = decodeNameTable(need(resources, TYPE.nameTable, 'nametable').body)
    t.strictSame(
      [...names.keys()].filter((name) => name.startsWith('names.')),
      [],
    )
    t.ok(names.has('productpage.bookinfo'))
    t.ok(
      resources.has(`${TYPE.listener} names.bookinfo.svc.cluster.local_53`),
      'its TCP is there for who asks for it',
    )
    t.notOk(
      resources.has(`${TYPE.listener} names.kube-system.svc.cluster.local_53`),
      'a cluster’s own workings need no sidecar',
    )
    for (const [key, resource] of resources) {
      if (!key.startsWith(TYPE.listener)) continue
      const accepted = acceptListener(resource)
      t.match(accepted, { ok: true, value: { address: { host: /^127\.240\./ } } }, key)
    }
    const { conditions } = modelOf(dns('bookinfo'))
    t.match(
      conditions.find(({ reason }) => reason === 'PortsIgnored')?.message,
      /leave its name to ordinary DNS/,
    )
  },
)

t.test('mutual TLS without a pinned id is not offered', async (t) => {
  const unpinned = imported.replace(/"subjectAltNames":\[[^\]]*\]/, '"subjectAltNames":[]')
  t.not(unpinned, imported)
  t.strictSame(endpointsOf(build(unpinned)).localities, [])
})
