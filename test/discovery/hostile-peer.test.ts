// A peer's discovery server that is what it says it is, and sends what it should not.
import { once } from 'node:events'
import { connect, constants } from 'node:http2'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { serverTlsOptions } from '../../src/identity/tls.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { ok } from '../../src/lib/result.ts'
import { type EntryConfig, encodeEntry } from '../../src/resources/service-entry.ts'
import { XdsServer } from '../../src/xds/server.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { TYPE } from '../../src/xds/types.ts'
import { firstDer, mintRoot } from '../identity/mint.ts'
import { peer, reachability } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const ca1 = await createCa({ trustDomain: 'cluster-1.local' })
const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })

const entry = (name: string, change: Partial<EntryConfig> = {}): EntryConfig => ({
  namespace: 'xcp-multicluster',
  name,
  labels: {},
  annotations: {},
  hosts: [`${name}.bookinfo.svc.cluster.local`],
  location: 'MESH_INTERNAL',
  resolution: 'STATIC',
  ports: [{ name: 'http', number: 80, protocol: 'HTTP' }],
  endpoints: [
    { address: '203.0.113.10', ports: { http: 15443 }, labels: {}, network: '', locality: '', weight: 1 },
  ],
  exportTo: ['*'],
  subjectAltNames: ['spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'],
  ...change,
})

async function hostile(entries: readonly EntryConfig[]) {
  const issued = await ca1.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
  const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'test')
  if (!credential.ok) throw new Error(credential.error.message)
  const cache = new SnapshotCache({ identifier: JSON.stringify({ allowed: true, reason: '' }) })
  const server = new XdsServer({ authorize: () => ok(cache), ready: () => true, logger: silentLogger })
  const pem = (await createCa({ trustDomain: 'cluster-2.local' })).bundlePem
  const any = TrustBundle.parse('cluster-2.local', pem, 'test')
  if (!any.ok) throw new Error(any.error.message)
  const tls = {
    ...serverTlsOptions(credential.value, new TrustBundles([any.value])),
    rejectUnauthorized: false,
  }
  const at = await server.listen({ host: '127.0.0.1', port: 0, tls })
  const put = (all: readonly EntryConfig[]) =>
    cache.setType(TYPE.serviceEntry, new Map(all.map(encodeEntry).map((each) => [each.name, each])))
  put(entries)
  return { server, put, port: 'port' in at ? at.port : 0 }
}

t.test('what it may not say is refused, by entry, and said at its Cluster object', async (t) => {
  const bad = entry('theirs', {
    subjectAltNames: ['spiffe://cluster-2.local/ns/bookinfo/sa/eastwest-gateway'],
  })
  const dns = entry('dns', { hosts: ['kube-dns.kube-system.svc.cluster.local'] })
  const heavy = entry('heavy', { ports: [{ name: 'constructor', number: 80, protocol: 'TCP' }] })
  const world = await hostile([entry('good'), bad, dns, heavy])
  const cluster = await TestCluster.start('cluster-2', {
    yaml: networks + peer('cluster-1', ca1.bundlePem, `127.0.0.1:${world.port}`),
  })
  t.teardown(() => Promise.all([cluster.stop(), world.server.close(0)]))
  const hosts = () => cluster.store.list('ServiceEntry').map(({ spec }) => spec.hosts[0])
  await cluster.until('the good ones', () => hosts().length === 2)
  t.strictSame(hosts().sort(), ['good.bookinfo.svc.cluster.local', 'heavy.bookinfo.svc.cluster.local'])
  const condition = () =>
    cluster.discovery
      .conditions()
      .find(({ object, type }) => type === 'OffersAccepted' && object === 'Cluster/acme/cluster-1')
  t.match(condition(), {
    status: false,
    reason: 'EntriesRefused',
    message:
      /spec\.subjectAltNames: is spiffe:\/\/cluster-2\.local.*expected ids of trust domain cluster-1\.local/,
  })
  t.match(condition()?.message, /kube-dns\.kube-system.*another's is not taken/)
  t.match(
    cluster.discovery.problems().map(({ object }) => object),
    [/theirs of peer cluster-1/, /dns of peer/],
  )
  world.put([entry('good')])
  await cluster.until('mended', () => condition()?.status === true && hosts().length === 1)
})

t.test('a bundle with a CA that is called like ours does not lock out our own proxies', async (t) => {
  const ca2 = await createCa({ trustDomain: 'cluster-2.local' })
  const [intermediate] = ca2.bundle.certificates.filter(({ root }) => !root)
  // It has the name of the CA that issues our leaves, no key id, and comes first in the pool.
  const evil = mintRoot('x', { subjectDer: intermediate?.certificate.subject })
  const cluster = await TestCluster.start('cluster-2', {
    ca: ca2,
    yaml: networks + peer('cluster-1', evil.pem),
  })
  t.teardown(() => cluster.stop())
  t.ok(firstDer(evil.pem).length > 0)
  const node = {
    id: 'sidecar~10.0.0.1~sleep.client~client.svc.cluster.local',
    metadata: { CLUSTER_ID: 'cluster-2' },
  }
  const seen = await cluster.client(node, { namespace: 'client', serviceAccount: 'sleep' })
  await seen
    .start(TYPE.secret)
    .until('an answer', () => seen.names(TYPE.secret).length > 0 || seen.lastError !== '')
  t.strictSame(seen.names(TYPE.secret), ['ROOTCA'], seen.lastError)
  // No sieve before us now: who shows nothing is refused all the same, and is no client in clear.
  const session = connect(`https://127.0.0.1:${cluster.port}`, { rejectUnauthorized: false })
  session.on('error', () => {})
  const request = session.request({
    [constants.HTTP2_HEADER_METHOD]: 'POST',
    [constants.HTTP2_HEADER_PATH]:
      '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    'content-type': 'application/grpc',
  })
  request.on('error', () => {})
  const [headers] = await once(request, 'response')
  t.match(headers, { 'grpc-status': '16', 'grpc-message': /certificate/ })
  session.destroy()
})

t.test('a stream does not outlive the certificate that opened it', async (t) => {
  const cluster = await TestCluster.start('cluster-2', { yaml: networks })
  t.teardown(() => cluster.stop())
  const node = { id: 'sidecar~10.0.0.1~sleep.client~client.svc.cluster.local', metadata: {} }
  // Whole seconds in a certificate: at least one is left of two.
  const short = { namespace: 'client', serviceAccount: 'sleep', lifetimeMs: 2_000 }
  const long = { ...short, lifetimeMs: 60_000 }
  const [brief, lasting] = await Promise.all([cluster.client(node, short), cluster.client(node, long)])
  for (const seen of [brief, lasting])
    await seen.start(TYPE.nameTable).until('the names', () => seen.updates > 0)
  await brief.until('its end', () => brief.lastError !== '')
  t.match(brief.lastError, /expired/)
  t.equal(lasting.lastError, '')
})
