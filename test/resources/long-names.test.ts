// A server name of TLS has room for 255 characters and labels of 63: what is longer has an alias, the same at both ends.
import t from 'tap'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { entryManifest } from '../../src/resources/service-entry-manifest.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, modelOf, reachability, service, setting, workspace, yamlOf } from './world.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const SUBSET = 's'.repeat(63)
const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
const parsed = parseBindRange('127.240.0.0/16')
if (!parsed.ok) throw new Error(parsed.error)
const bind = parsed.value

/** Server names that a sidecar asks for, by upstream. */
function asked(yaml: string): Map<string, string> {
  const options = { bind, bundles: [], secrets: false, hostNames: true, credentialFile: '' }
  const clusters =
    sidecarResources(modelOf(yaml, 'cluster-2'), options).snapshot().get(TYPE.cluster) ?? new Map()
  return new Map(
    [...clusters.values()].map((resource) => {
      const upstream = acceptUpstream(resource)
      if (!upstream.ok) throw new Error(JSON.stringify(upstream.error))
      const [match] = upstream.value.socketMatches
      return [resource.name, match?.socket.kind === 'tls' ? match.socket.tls.sni : '']
    }),
  )
}

t.test('a subset whose label would be too long: the sidecar asks for what the gateway serves', async (t) => {
  const rule = yamlOf({
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name: 'productpage', namespace: 'bookinfo' },
    spec: { host: HOST, subsets: [{ name: SUBSET, labels: { version: 'v1' } }] },
  })
  const serving = modelOf(
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
      rule +
      gateway('203.0.113.10') +
      workspace +
      setting() +
      networks,
  )
  const options = {
    bind: { address: '0.0.0.0', port: 15443 },
    bundles: [],
    secrets: false,
    credentialFile: '',
  }
  const names = [
    ...(gatewayResources(serving, serving.gateways[0], options).snapshot().get(TYPE.cluster)?.keys() ?? []),
  ]
  t.equal(names.length, 2)
  const name = names.find((each) => !each.includes('_._.')) ?? ''
  t.ok(
    name.split('.').every((label) => label.length <= 63),
    name,
  )
  const entries = exportEntries([...serving.exposures.values()], serving.gateways, serving.self)
  const snis = asked(networks + yamlOf(...entries.map(entryManifest)))
  t.equal(snis.get(`outbound|9080|${SUBSET}|${HOST}`), name)
})

t.test('a host that is too long is asked for by its alias, and is called by its own name', async (t) => {
  const host = `${`${'a'.repeat(62)}.`.repeat(3)}${'b'.repeat(60)}`
  const entry = yamlOf({
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'long', namespace: 'bookinfo' },
    spec: {
      hosts: [host],
      resolution: 'STATIC',
      ports: [{ name: 'http', number: 9080, protocol: 'HTTP' }],
      subjectAltNames: ['spiffe://cluster-1.local/ns/a/sa/b'],
      endpoints: [
        { address: '203.0.113.10', ports: { http: 15443 }, labels: { 'security.istio.io/tlsMode': 'istio' } },
      ],
    },
  })
  const sni = asked(entry).get(`outbound|9080||${host}`) ?? ''
  t.ok(sni.length <= 255 && sni.startsWith('outbound_.9080_._.') && sni.endsWith(`.${'b'.repeat(60)}`), sni)
})
