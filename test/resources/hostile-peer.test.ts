// What a peer sends is worth what it may say: it speaks for its own services through its own gateways, and harms nobody else's.
import t from 'tap'
import { computeModel } from '../../src/model/compute.ts'
import { renderManifest } from '../../src/objects/manifest-edit.ts'
import { parseManifest } from '../../src/objects/parse.ts'
import type { KubeObject, Manifest } from '../../src/objects/types.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'
import { decodeNameTable } from '../../src/resources/name-table.ts'
import { decodeEntry, type EntryConfig, encodeEntry } from '../../src/resources/service-entry.ts'
import { acceptEntry } from '../../src/resources/service-entry-accept.ts'
import { entryManifest } from '../../src/resources/service-entry-manifest.ts'
import { mergeOffers } from '../../src/resources/service-entry-merge.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { type Snapshot, TYPE } from '../../src/xds/types.ts'
import { listOf, parseYaml, service } from './world.ts'

const parsed = parseBindRange('127.240.0.0/16')
if (!parsed.ok) throw new Error(parsed.error)
const bind = parsed.value
const PEER = { cluster: 'cluster-1', trustDomain: 'cluster-1.local', network: 'n1' }
const ENDPOINT = {
  address: '203.0.113.10',
  ports: { http: 15443 },
  labels: {},
  network: '',
  locality: '',
  weight: 1,
}
const ENTRY: EntryConfig = {
  namespace: 'xcp-multicluster',
  name: 'x',
  labels: {},
  annotations: {},
  hosts: ['productpage.bookinfo.svc.cluster.local'],
  location: 'MESH_INTERNAL',
  resolution: 'STATIC',
  ports: [{ name: 'http', number: 80, protocol: 'HTTP' }],
  endpoints: [ENDPOINT],
  exportTo: ['*'],
  subjectAltNames: ['spiffe://cluster-1.local/ns/eastwest/sa/gateway'],
}

/** The whole way: from the wire into the store's YAML, the model, and what a sidecar is sent. Undefined: refused. */
function takeOver(change: Partial<EntryConfig>, more = ''): Snapshot | undefined {
  const decoded = decodeEntry(encodeEntry({ ...ENTRY, ...change }))
  const accepted = decoded.ok ? acceptEntry(decoded.value, PEER) : decoded
  if (!accepted.ok) return undefined
  const offers = new Map([[PEER.cluster, new Map([[accepted.value.hosts[0] ?? '', accepted.value]])]])
  const objects: KubeObject[] = mergeOffers(offers).flatMap((entry) => {
    const manifest = entryManifest(entry)
    renderManifest(manifest as Manifest)
    const object = parseManifest(manifest, 'generated')
    if (!object.ok) throw new Error(`accepted, but the store refuses it: ${JSON.stringify(object.error)}`)
    return object.value === undefined ? [] : [object.value]
  })
  return sidecarOf([...objects, ...parseYaml(more)])
}

function sidecarOf(objects: readonly KubeObject[]): Snapshot {
  const model = computeModel({ cluster: 'cluster-2', trustDomain: 'cluster-2.local', list: listOf(objects) })
  return sidecarResources(model, {
    bind,
    bundles: [],
    secrets: false,
    hostNames: true,
    credentialFile: '',
  }).snapshot()
}

function namesOf(snapshot: Snapshot | undefined): string[] {
  const table = snapshot?.get(TYPE.nameTable)?.get('nametable')
  return table === undefined ? [] : [...decodeNameTable(table.body).keys()].sort()
}

t.test('what must be refused', async (t) => {
  const endpoint = (change: object): Partial<EntryConfig> => ({ endpoints: [{ ...ENDPOINT, ...change }] })
  const cases: Record<string, Partial<EntryConfig>> = {
    'kube-dns': { hosts: ['kube-dns.kube-system.svc.cluster.local'] },
    'the API server': { hosts: ['kubernetes.default.svc.cluster.local'] },
    discovery: { hosts: ['isthmus-discovery.isthmus-system.svc.cluster.local'] },
    wildcard: { hosts: ['*.svc.cluster.local'] },
    'upper case': { hosts: ['Productpage.bookinfo.svc.cluster.local'] },
    'a site': { hosts: ['github.com'] },
    'an id that is none': { subjectAltNames: ['spiffe://cluster-1.local/ns/../sa/x'] },
    'an id of the whole trust domain': { subjectAltNames: ['spiffe://cluster-1.local'] },
    'an id of ours': { subjectAltNames: [...ENTRY.subjectAltNames, 'spiffe://cluster-2.local/ns/a/sa/b'] },
    'an id with a prefix of its own': { subjectAltNames: ['spiffe://cluster-1.local.example/ns/a/sa/b'] },
    loopback: endpoint({ address: '127.0.0.1' }),
    'loopback in IPv6': endpoint({ address: '::1' }),
    'loopback in disguise': endpoint({ address: '::ffff:127.0.0.1' }),
    localhost: endpoint({ address: 'localhost' }),
    'cloud metadata': endpoint({ address: '169.254.169.254' }),
    'this network': endpoint({ address: '0.0.0.0' }),
    multicast: endpoint({ address: '224.0.0.1' }),
    'link-local': endpoint({ address: 'fe80::1' }),
    'with a zone': endpoint({ address: 'fe80::1%lo' }),
    'a label that is none': endpoint({ labels: { 'a/b/c': 'x' } }),
    'a locality that is a text': endpoint({ locality: 'x'.repeat(100_000) }),
    'a port name that is none': { ports: [{ name: 'a\nb', number: 80, protocol: 'TCP' }] },
    'too many endpoints': { endpoints: Array.from({ length: 257 }, () => ENDPOINT) },
    'too many ports': {
      ports: Array.from({ length: 257 }, (_, i) => ({ name: `p${i}`, number: i + 1, protocol: 'TCP' })),
    },
  }
  for (const [name, change] of Object.entries(cases)) t.equal(takeOver(change), undefined, name)
  t.ok(takeOver({}), 'and the entry as it is, is good')
  t.ok(
    acceptEntry(
      { ...ENTRY, endpoints: [{ ...ENDPOINT, address: '127.9.1.1' }] },
      { ...PEER, adsAddress: '127.9.1.2:15012' },
    ).ok,
    'a peer on this machine may have its gateways here',
  )
})

t.test('no port name and no weight keeps the sidecars from being told of everything else', async (t) => {
  const names = ['constructor', 'valueof', 'tostring', 'hasownproperty']
  for (const name of names) {
    const snapshot = takeOver({
      ports: [{ name, number: 80, protocol: 'TCP' }],
      endpoints: [{ ...ENDPOINT, ports: {} }],
    })
    t.ok(snapshot?.get(TYPE.listener)?.has('productpage.bookinfo.svc.cluster.local_80'), name)
  }
  const heavy = takeOver({
    endpoints: [1, 2, 3].map((i) => ({ ...ENDPOINT, address: `203.0.113.${i}`, weight: 2 ** 32 - 1 })),
  })
  const upstream = heavy?.get(TYPE.endpoints)?.get('outbound|80||productpage.bookinfo.svc.cluster.local')
  t.ok(upstream && acceptEndpoints(upstream).ok)
  // The same from a user's own ServiceEntry, which no peer's rules hold.
  const own = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'mine', namespace: 'client' },
    spec: {
      hosts: ['db.example'],
      resolution: 'STATIC',
      ports: ['constructor', '__proto__'].map((name, i) => ({ name, number: 80 + i, protocol: 'TCP' })),
      endpoints: [1, 2, 3].map((i) => ({ address: `10.0.0.${i}`, weight: 2 ** 31 - 1 })),
    },
  }
  t.equal(sidecarOf(parseYaml(JSON.stringify(own))).get(TYPE.endpoints)?.size, 2)
})

t.test('a namespace that is called like a top-level domain does not take over a site', async (t) => {
  t.strictSame(namesOf(takeOver({ hosts: ['github.com.svc.cluster.local'] })), [
    'github.com.svc',
    'github.com.svc.cluster.local',
  ])
  t.strictSame(namesOf(takeOver({ hosts: ['pay.dev.svc.cluster.local'] })), [
    'pay.dev.svc',
    'pay.dev.svc.cluster.local',
  ])
  const namespace = JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'dev' } })
  t.ok(
    namesOf(takeOver({ hosts: ['pay.dev.svc.cluster.local'] }, namespace)).includes('pay.dev'),
    'a namespace of our own is ours to name',
  )
  t.ok(namesOf(takeOver({})).includes('productpage.bookinfo'), 'the others keep their short names')
})

t.test('where it is and how much it takes is not for a peer to say', async (t) => {
  const endpoint = { ...ENDPOINT, locality: 'region-of-cluster-2/a', weight: 4_000_000 }
  const place = { locality: { region: 'far', zone: '' } }
  t.match(acceptEntry({ ...ENTRY, endpoints: [endpoint] }, { ...PEER, ...place }), {
    ok: true,
    value: { endpoints: [{ locality: 'far', weight: 10_000 }] },
  })
})

t.test('where two clusters serve a host, each answers only for itself', async (t) => {
  const offer = (cluster: string, addresses: readonly string[]) => {
    const entry = {
      ...ENTRY,
      subjectAltNames: [`spiffe://${cluster}.local/ns/eastwest/sa/gateway`],
      endpoints: addresses.map((address) => ({ ...ENDPOINT, address })),
    }
    const accepted = acceptEntry(entry, { ...PEER, cluster, trustDomain: `${cluster}.local` })
    if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
    return [cluster, new Map([[ENTRY.hosts[0] ?? '', accepted.value]])] as const
  }
  const shared = '203.0.113.99'
  const [merged] = mergeOffers(
    new Map([offer('cluster-1', ['203.0.113.1', shared]), offer('cluster-3', ['203.0.113.3', shared])]),
  )
  const clusters = ['cluster-1', 'cluster-3'].map((name) => ({
    apiVersion: 'api.tsb.tetrate.io/v2',
    kind: 'Cluster',
    metadata: { organization: 'acme', name },
    spec: { network: name, trustDomain: `${name}.local` },
  }))
  if (merged === undefined) throw new Error('nothing merged')
  const snapshot = sidecarOf(
    parseYaml([entryManifest(merged), ...clusters].map((doc) => JSON.stringify(doc)).join('\n---\n')),
  )
  const name = `outbound|80||${ENTRY.hosts[0]}`
  const [cds, eds] = [snapshot.get(TYPE.cluster)?.get(name), snapshot.get(TYPE.endpoints)?.get(name)]
  const [upstream, assignment] = [cds && acceptUpstream(cds), eds && acceptEndpoints(eds)]
  if (!upstream?.ok || !assignment?.ok) throw new Error('not accepted')
  const id = (cluster: string) => `spiffe://${cluster}.local/ns/eastwest/sa/gateway`
  const pinsOf = (address: string) => {
    const found = assignment.value.localities.flatMap(({ endpoints }) => endpoints)
    const metadata = found.find((endpoint) => endpoint.address.host === address)?.socketMetadata ?? {}
    const match = upstream.value.socketMatches.find((each) =>
      Object.entries(each.match).every(([key, value]) => metadata[key] === value),
    )
    return match?.socket.kind === 'tls' ? match.socket.tls.peerIds.map(({ value }) => value) : []
  }
  t.strictSame(pinsOf('203.0.113.1'), [id('cluster-1')])
  t.strictSame(pinsOf('203.0.113.3'), [id('cluster-3')])
  t.strictSame(pinsOf(shared), [id('cluster-1'), id('cluster-3')], 'whose it is shows in its certificate')
})

t.test("other clusters' hosts neither move nor displace our own", async (t) => {
  const small = parseBindRange('127.240.0.0/28')
  if (!small.ok) throw new Error(small.error)
  const ours = 'ratings.bookinfo.svc.cluster.local'
  const before = bindAddresses([ours], small.value, new Set([ours])).get(ours)
  const theirs = Array.from({ length: 100 }, (_, i) => `a${i}.a.svc.cluster.local`)
  t.equal(bindAddresses([ours, ...theirs], small.value, new Set([ours])).get(ours), before)
  const snapshot = takeOver(
    { hosts: ['aaa.bookinfo.svc.cluster.local'] },
    service({ name: 'ratings', pods: ['10.0.0.1:9080'] }),
  )
  t.ok(namesOf(snapshot).includes('ratings.bookinfo'))
})
