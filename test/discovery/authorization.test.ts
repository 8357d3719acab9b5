// Whatever a client says of itself, asks for by name or by type URL, over whichever method: only what its certificate allows leaves. On
// real connections, one for each identity; three clusters under one trust domain and one root.
import { X509Certificate } from 'node:crypto'
import { type ClientHttp2Session, connect } from 'node:http2'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { connect as tlsConnect } from 'node:tls'
import fc from 'fast-check'
import t from 'tap'
import { readCertificate } from '../../src/credentials/sds-secret.ts'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { encodeRequest } from '../../src/xds/codec-request.ts'
import { decodeResponse } from '../../src/xds/codec-response.ts'
import { MessageReader, messagePrefix } from '../../src/xds/grpc.ts'
import type { Variant, XdsRequest } from '../../src/xds/messages.ts'
import { METHODS } from '../../src/xds/methods.ts'
import { isMcpType, type NodeInfo, TYPE, type XdsResource } from '../../src/xds/types.ts'
import { gateway, peer, reachability, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { request } from '../xds/fixtures.ts'
import { TestCluster } from './cluster.ts'

const trustDomain = 'cluster.local'
const root = await createCa({ trustDomain })
const under = () => createCa({ trustDomain, parent: root })
const [own, second, third, stranger] = await Promise.all([under(), under(), under(), under()])
const local = (yaml: string): string => yaml.replaceAll(/"cluster-\d\.local"/g, `"${trustDomain}"`)
const cluster = await TestCluster.start('cluster-1', {
  ca: own,
  signing: true,
  yaml:
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    service({ name: 'vault', pods: ['10.0.1.20:8080'] }) +
    gateway('203.0.113.10') +
    gateway('203.0.113.11', 'payments') +
    workspace +
    setting([{ app: 'productpage' }]) +
    local(
      reachability(['cluster-1', 'cluster-2', 'cluster-3'], { 'cluster-2-network': 'cluster-1-network' }) +
        peer('cluster-2', second.bundlePem) +
        peer('cluster-3', third.bundlePem),
    ),
})
const sessions: ClientHttp2Session[] = []
t.teardown(async () => {
  for (const session of sessions) session.destroy()
  await cluster.stop()
})

interface Who {
  readonly name: string
  readonly session: ClientHttp2Session
  /** `node.id` as it would be if he did not lie. */
  readonly id: string
  /** What may leave towards him, said without a look at how it is decided. */
  readonly mayHave: (typeUrl: string, resource: XdsResource) => boolean
}

const text = ({ body }: XdsResource): string => Buffer.from(body).toString('latin1')
const ofGateway = ({ name }: XdsResource): boolean => name === 'eastwest' || name.startsWith('outbound_.')

/** A Secret is trust, or this very identity's own certificate. */
function secretOf(resource: XdsResource, namespace: string, serviceAccount: string): boolean {
  if (!text(resource).includes('PRIVATE KEY')) return true
  const read = readCertificate(resource)
  const uri = read.ok ? new X509Certificate(read.value.certificate).subjectAltName : ''
  return uri === `URI:spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`
}

async function open(ca: Ca, namespace: string, serviceAccount: string): Promise<ClientHttp2Session> {
  const svid = await ca.issue({ namespace, serviceAccount })
  const session = connect(`https://127.0.0.1:${cluster.port}`, {
    createConnection: () =>
      tlsConnect({
        ...{ host: '127.0.0.1', port: cluster.port, ALPNProtocols: ['h2'], ca: root.rootPem },
        ...{ cert: svid.certificatePem, key: svid.privateKeyPem, checkServerIdentity: () => undefined },
      }),
  })
  session.on('error', () => {})
  sessions.push(session)
  return session
}

const clear = connect(`http://127.0.0.1:${cluster.plainPort}`)
sessions.push(clear)
const peerId = ['isthmus-system', 'isthmus-discovery'] as const
const PARTIES: readonly Who[] = [
  {
    name: 'a workload',
    id: 'sidecar~1~sleep-1.bookinfo~x',
    session: await open(own, 'bookinfo', 'sleep'),
    mayHave: (typeUrl, one) => !isMcpType(typeUrl) && !ofGateway(one) && secretOf(one, 'bookinfo', 'sleep'),
  },
  {
    name: 'a gateway',
    id: 'router~1~eastwest-gateway.bookinfo~x',
    session: await open(own, 'bookinfo', 'eastwest-gateway'),
    mayHave: (typeUrl, one) =>
      !isMcpType(typeUrl) &&
      secretOf(one, 'bookinfo', 'eastwest-gateway') &&
      !(ofGateway(one) && text(one).includes('vault')),
  },
  {
    name: 'the peer that may call',
    id: 'discovery~~cluster-2',
    session: await open(second, ...peerId),
    mayHave: (typeUrl, one) =>
      isMcpType(typeUrl) && text(one).includes('productpage') && !text(one).includes('vault'),
  },
  {
    name: 'the peer that may not',
    id: 'discovery~~cluster-3',
    session: await open(third, ...peerId),
    mayHave: () => false,
  },
  {
    name: 'a cluster without a link',
    id: 'discovery~~cluster-4',
    session: await open(stranger, ...peerId),
    mayHave: () => false,
  },
  {
    name: 'a workload of a peer',
    id: 'sidecar~1~sleep-1.bookinfo~x',
    session: await open(second, 'bookinfo', 'sleep'),
    mayHave: () => false,
  },
  {
    name: 'in clear',
    id: 'sidecar~1~sleep-1.bookinfo~x',
    session: clear,
    mayHave: (typeUrl, one) => typeUrl !== TYPE.secret && !text(one).includes('PRIVATE KEY'),
  },
]

const NAMESPACES = ['bookinfo', 'payments', 'istio-system', 'isthmus-system', 'kube-system', '..', '']
const nodeId = fc.oneof(
  // What another one would say of himself.
  {
    weight: 4,
    arbitrary: fc.constantFrom(...PARTIES.map(({ id }) => id), 'router~1~eastwest-gateway.payments~x'),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        fc.constantFrom('sidecar', 'router', 'discovery', 'waypoint', ''),
        fc.constantFrom('eastwest-gateway', 'sleep-1', 'istiod-1', '*'),
        fc.constantFrom(...NAMESPACES),
      )
      .map(
        ([kind, name, namespace]) => `${kind}~10.0.0.1~${name}.${namespace}~${namespace}.svc.cluster.local`,
      ),
  },
  { weight: 1, arbitrary: fc.string() },
)
const claimed = fc.dictionary(
  fc.constantFrom(
    'CLUSTER_ID',
    'NETWORK',
    'NAMESPACE',
    'GENERATOR',
    'ISTHMUS_BIND',
    'ISTHMUS_DNS',
    '__proto__',
  ),
  fc.oneof(
    fc.constantFrom<unknown>(
      'cluster-1',
      'cluster-2',
      'cluster-1-network',
      'bookinfo',
      'api',
      '127.1.0.0/16',
    ),
    fc.constantFrom<unknown>('0.0.0.0:15443', '127.0.0.1:53', '', 7, null),
    fc.string(),
  ),
  { maxKeys: 2 },
)
const TRUE_CLAIMS = { CLUSTER_ID: 'cluster-1', NETWORK: 'cluster-1-network' }
const metadata = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom({}, TRUE_CLAIMS, { CLUSTER_ID: 'cluster-2' }) },
  { weight: 1, arbitrary: claimed },
)
const userAgentName = fc.constantFrom('isthmus', 'envoy', 'gRPC Go', 'gRPC C-core', 'istio', '')
const node: fc.Arbitrary<NodeInfo> = fc.record({
  id: nodeId,
  cluster: fc.constantFrom('cluster-1', 'cluster-2', 'x'),
  metadata,
  locality: fc.constant({ region: '', zone: '' }),
  userAgentName,
})
const typeUrl = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...Object.values(TYPE)) },
  fc.constantFrom(
    'istio.io/debug/configz',
    'istio.io/debug',
    'type.googleapis.com/istio.workload.Workload',
    'networking.istio.io/v1alpha3/DestinationRule',
    'security.istio.io/v1beta1/AuthorizationPolicy',
    'core/v1alpha1/MeshConfig',
    '__proto__',
    '*',
  ),
  fc.string(),
)
const someNames = fc.array(
  fc.oneof(
    fc.constantFrom(
      '*',
      'default',
      'ROOTCA',
      'ROOTCA/cluster-2',
      'eastwest',
      '__proto__',
      'kubernetes://secret',
    ),
    fc.constantFrom('productpage.bookinfo:9080', 'vault.bookinfo:9080', 'bookinfo/vault'),
    fc.constantFrom(
      ...['vault', 'productpage'].flatMap((name) => [
        `outbound|9080||${name}.bookinfo.svc.cluster.local`,
        `outbound_.9080_._.${name}.bookinfo.svc.cluster.local`,
        `xcp-multicluster/global-gwinternal-${name}-bookinfo-svc-cluster-local`,
      ]),
    ),
    fc.constantFrom(`spiffe://${trustDomain}/ns/bookinfo/sa/eastwest-gateway`),
    fc.string(),
  ),
  { maxLength: 4 },
)
const names = fc.oneof(fc.constantFrom<string[]>([], ['*']), someNames)
const HOSTS = ['productpage', 'vault'].map((name) => `${name}.bookinfo.svc.cluster.local`)
/** What real clients ask for, be they allowed to or not. */
const usual = fc.constantFrom(
  ...[TYPE.cluster, TYPE.listener, TYPE.nameTable, TYPE.serviceEntry].map((type) => ({
    typeUrl: type,
    names: [] as string[],
  })),
  { typeUrl: TYPE.secret, names: ['ROOTCA', 'default'] },
  {
    typeUrl: TYPE.endpoints,
    names: HOSTS.flatMap((host) => [`outbound|9080||${host}`, `outbound_.9080_._.${host}`]),
  },
)
const asked = fc.oneof(usual, fc.record({ typeUrl, names }))
const [ads, perType] = ['Aggregated', ''].map((word) =>
  [...METHODS.keys()].filter((path) => path.includes(word)),
)
/** A method, and what is asked over it: first what fits the method, as a rule. */
const stream = fc
  .tuple(
    fc.oneof({ weight: 2, arbitrary: fc.constantFrom(...(ads ?? [])) }, fc.constantFrom(...(perType ?? []))),
    fc.array(asked, { minLength: 1, maxLength: 4 }),
    fc.boolean(),
  )
  .map(([path, [first = { typeUrl: '', names: [] }, ...more], fitting]) => {
    const only = METHODS.get(path)?.onlyType
    const begins = fitting && only !== undefined ? { ...first, typeUrl: only } : first
    return { path, questions: [begins, ...more] }
  })

interface Sent {
  readonly typeUrl: string
  readonly resource: XdsResource
}

/** One stream from its first request to its end: everything that came on it. Good at answering, so that nothing is held back. */
async function ask(
  session: ClientHttp2Session,
  path: string,
  claims: NodeInfo,
  questions: readonly { readonly typeUrl: string; readonly names: readonly string[] }[],
  enough: (came: readonly Sent[]) => boolean = () => true,
): Promise<Sent[]> {
  const variant: Variant = METHODS.get(path)?.variant ?? 'delta'
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  const closed = new Promise<void>((resolve) => stream.once('close', resolve))
  stream.on('error', () => {})
  const wanted = new Map(questions.map((one) => [one.typeUrl, one.names]))
  const send = (fields: Partial<XdsRequest> & { typeUrl: string }): void => {
    const bytes = encodeRequest(variant, request(fields))
    if (stream.writable) stream.write(Buffer.concat([messagePrefix(bytes.length), bytes]))
  }
  const reader = new MessageReader(16 * 1024 * 1024)
  const came: Sent[] = []
  stream.on('data', (chunk: Buffer) => {
    const messages = reader.push(chunk)
    for (const message of messages.ok ? messages.value : []) {
      const response = decodeResponse(variant, message)
      if (!response.ok) throw new Error(response.error)
      const { typeUrl, nonce, version, resources } = response.value
      for (const resource of resources) came.push({ typeUrl, resource })
      const again = variant === 'sotw' ? { names: wanted.get(typeUrl) ?? [], versionInfo: version } : {}
      send({ typeUrl, responseNonce: nonce, ...again })
    }
  })
  const turn = () =>
    new Promise<void>((resolve) => {
      if (!session.ping(() => resolve())) resolve()
    })
  // One after the other: what is refused ends the stream, and with it what would have been answered.
  for (const [index, question] of questions.entries()) {
    const other = { ...claims, id: 'router~1~eastwest-gateway.bookinfo~x' }
    send({ ...question, node: index === 0 ? claims : other })
    // As long as something comes, and some turns more: of the server's loop too, which is this one.
    for (let before = -1, quiet = 0; quiet < 3 && !stream.closed; ) {
      await turn()
      await nextTurn()
      quiet = came.length === before ? quiet + 1 : 0
      before = came.length
    }
  }
  while (!enough(came)) await nextTurn()
  stream.end()
  await closed
  return came
}

t.test('nothing outside the view ever leaves, whatever the node, the names and the type URLs', async (t) => {
  const got = new Map<string, Set<string>>()
  const property = fc.asyncProperty(
    fc.constantFrom(...PARTIES),
    node,
    fc.constantFrom('about everything', 'about the cluster', 'to be another', 'not'),
    fc.constantFrom(...PARTIES),
    stream,
    async (who, lies, lying, other, { path, questions }) => {
      const id = lying === 'to be another' ? other.id : who.id
      const metadata = lying === 'about the cluster' ? lies.metadata : {}
      const claims = lying === 'about everything' ? lies : { ...lies, id, metadata }
      for (const { typeUrl, resource } of await ask(who.session, path, claims, questions)) {
        const types = got.get(who.name) ?? new Set<string>()
        got.set(who.name, types.add(typeUrl))
        if (!who.mayHave(typeUrl, resource)) throw new Error(`${who.name} got ${resource.name} of ${typeUrl}`)
      }
    },
  )
  await fc.assert(property, { numRuns: 1_000 })
  t.notOk(
    PARTIES.some(({ session }) => session.destroyed),
    'every identity could go on asking',
  )
  const answered = PARTIES.filter(({ name }) => got.has(name)).map(({ name }) => name)
  t.strictSame(
    answered,
    ['a workload', 'a gateway', 'the peer that may call', 'in clear'],
    'and was answered',
  )
})

t.test('the same questions, asked as oneself, are answered: there is something to leak', async (t) => {
  const ADS = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources'
  const claims = (id: string, extra: object = {}): NodeInfo => ({
    ...{ id, cluster: '', metadata: {}, locality: { region: '', zone: '' }, userAgentName: 'isthmus' },
    ...extra,
  })
  const say = async (name: string, id: string, questions: { typeUrl: string; names: string[] }[]) => {
    const who = PARTIES.find((one) => one.name === name)
    if (who === undefined) throw new Error(name)
    const certified = (came: readonly Sent[]) =>
      !questions.some(({ names }) => names.includes('default')) ||
      came.some(({ resource }) => resource.name === 'default')
    const came = await ask(who.session, ADS, claims(id), questions, certified)
    t.ok(came.every(({ typeUrl, resource }) => who.mayHave(typeUrl, resource)))
    return came.map(({ resource }) => resource.name).sort()
  }
  const all = (typeUrl: string) => ({ typeUrl, names: [] })
  const sidecar = await say('a workload', 'sidecar~1~sleep.bookinfo~x', [
    all(TYPE.cluster),
    { typeUrl: TYPE.secret, names: ['default', 'ROOTCA'] },
  ])
  for (const name of ['vault', 'productpage'])
    t.ok(sidecar.includes(`outbound|9080||${name}.bookinfo.svc.cluster.local`))
  t.ok(sidecar.includes('default') && sidecar.includes('ROOTCA'))
  t.strictSame(await say('a gateway', 'router~1~eastwest-gateway.bookinfo~x', [all(TYPE.cluster)]), [
    'outbound_.9080_._.productpage.bookinfo.svc.cluster.local',
  ])
  t.equal((await say('the peer that may call', 'discovery~~2', [all(TYPE.serviceEntry)])).length, 1)
  t.strictSame(await say('the peer that may not', 'discovery~~3', [all(TYPE.serviceEntry)]), [])
  t.ok((await say('in clear', 'sidecar~1~sleep.bookinfo~x', [all(TYPE.cluster)])).length > 1)
})

t.test(
  'what each client has is told to this machine and to this very discovery server, not to one of the same name',
  async (t) => {
    const parties = [
      ...PARTIES.map(({ name, session }) => [name, session, name === 'in clear'] as const),
      ['this discovery server', await open(own, ...peerId), true] as const,
    ]
    for (const [name, session, allowed] of parties) {
      const path = '/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus'
      const headers = { 'content-type': 'application/grpc', te: 'trailers' }
      const call = session.request({ ':method': 'POST', ':path': path, ...headers })
      call.on('error', () => {})
      let status = ''
      let bytes = 0
      for (const event of ['response', 'trailers'])
        call.on(event, (fields) => {
          status = String(fields['grpc-status'] ?? status)
        })
      call.on('data', (chunk: Buffer) => {
        bytes += chunk.length
      })
      call.end(messagePrefix(0))
      await new Promise((resolve) => call.once('close', resolve))
      t.strictSame([status, bytes > 0], allowed ? ['0', true] : ['7', false], name)
    }
  },
)

t.test('streams of one connection are two clients: each its own view and its own key', async (t) => {
  const session = await open(own, 'bookinfo', 'eastwest-gateway')
  const questions = [
    { typeUrl: TYPE.cluster, names: [] },
    { typeUrl: TYPE.secret, names: ['default'] },
  ]
  const said = { cluster: '', metadata: {}, locality: { region: '', zone: '' }, userAgentName: 'envoy' }
  const keyed = (came: readonly Sent[]) => came.some(({ resource }) => resource.name === 'default')
  const [path = ''] = ads ?? []
  const [asGateway, asSidecar] = await Promise.all(
    ['router~1~eastwest-gateway.bookinfo~x', 'sidecar~1~sleep.bookinfo~x'].map((id) =>
      ask(session, path, { id, ...said }, questions, keyed),
    ),
  )
  const keys = [asGateway, asSidecar].map((came) => {
    const read = came?.map(({ resource }) => resource).find(({ name }) => name === 'default')
    const secret = read && readCertificate(read)
    return secret?.ok === true ? secret.value.privateKey : ''
  })
  t.match(keys, [/PRIVATE KEY/, /PRIVATE KEY/])
  t.not(keys[0], keys[1])
  t.ok(asGateway?.some(({ resource }) => ofGateway(resource)))
  t.notOk(asSidecar?.some(({ resource }) => ofGateway(resource)))
})

t.test(
  'three clusters under one trust domain and root: the third, which no link names, is refused by name',
  async (t) => {
    const identity = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' }
    for (const claimed of ['cluster-1', 'cluster-2', 'cluster-3']) {
      const metadata = { CLUSTER_ID: claimed, NETWORK: `${claimed}-network` }
      const seen = await cluster.client(
        { id: `discovery~~${claimed}`, metadata },
        { ...identity, ca: stranger },
      )
      seen.start(TYPE.serviceEntry)
      await seen.until('the refusal', ({ lastError }) => /certificate refused \(untrusted\)/.test(lastError))
      t.equal(seen.identifier, '')
      seen.stop()
    }
  },
)

t.test(
  'a peer of a trust domain that nobody knows does not get past the handshake, and is counted',
  async (t) => {
    const unknown = await createCa({ trustDomain: 'unknown.example' })
    const counted = () => cluster.discovery.counters.refusals.get('tls-handshake') ?? 0
    const before = counted()
    const seen = await cluster.client(
      { id: 'discovery~~cluster-2', metadata: { CLUSTER_ID: 'cluster-2' } },
      { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', ca: unknown },
    )
    seen.start(TYPE.serviceEntry)
    await cluster.poll('the refusal', () => counted() > before)
    t.strictSame(seen.names(TYPE.serviceEntry), [])
    seen.stop()
  },
)

t.test('what node says of cluster, network and namespace must be what the certificate says', async (t) => {
  const sleep = { namespace: 'bookinfo', serviceAccount: 'sleep' }
  const sidecar = 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local'
  const rows: [Partial<NodeInfo>, RegExp][] = [
    [
      { metadata: { CLUSTER_ID: 'cluster-2' } },
      /CLUSTER_ID is "cluster-2", the certificate is of cluster cluster-1/,
    ],
    [
      { metadata: { NETWORK: 'cluster-2-network' } },
      /NETWORK is "cluster-2-network", the certificate is of cluster cluster-1, which is on network "cluster-1-network"/,
    ],
    [{ id: sidecar.replaceAll('bookinfo', 'payments') }, /sa\/sleep is not a workload of namespace payments/],
    [{ id: 'router~1~eastwest-gateway.payments~x' }, /sa\/sleep is not gateway payments\/eastwest-gateway/],
  ]
  for (const [claims, expected] of rows) {
    const liar = (await cluster.client({ id: sidecar, ...claims }, sleep)).start(TYPE.cluster)
    await liar.until(String(expected), ({ lastError }) => expected.test(lastError))
    t.notOk(liar.answered(TYPE.cluster))
    liar.stop()
  }
  const metadata = { CLUSTER_ID: 'cluster-1', NETWORK: 'cluster-1-network' }
  const honest = (await cluster.client({ id: sidecar, metadata }, sleep)).start(TYPE.cluster)
  await honest.until('its view', () => honest.answered(TYPE.cluster))
})

t.test('while networks are being renamed a client may still say the old name', async (t) => {
  const metadata = { organization: 'acme', name: 'cluster-1' }
  const spec = { network: 'renamed', trustDomain, locality: { region: 'region-of-cluster-1' } }
  await cluster.apply(yamlOf({ apiVersion: 'api.tsb.tetrate.io/v2', kind: 'Cluster', metadata, spec }))
  await cluster.until('the new name', () => cluster.discovery.model?.self.network === 'renamed')
  t.ok((cluster.discovery.model?.transition.pending.length ?? 0) > 0, 'the rules do not know it yet')
  const say = async (network: string) =>
    (
      await cluster.client(
        { id: 'sidecar~1~sleep.bookinfo~x', metadata: { NETWORK: network } },
        { namespace: 'bookinfo', serviceAccount: 'sleep' },
      )
    ).start(TYPE.cluster)
  for (const network of ['cluster-1-network', 'renamed']) {
    const served = await say(network)
    await served.until(network, () => served.answered(TYPE.cluster))
    served.stop()
  }
  const refused = await say('cluster-2-network')
  await refused.until('the refusal', ({ lastError }) => /which is on network "renamed"/.test(lastError))
})
