// Istio's usual case: every cluster is `cluster.local`, all CAs hang under one root. Clusters are told apart by the intermediate that
// signed a certificate, at discovery and at the gateway, in the resources that discovery really sends.
import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { connect, createServer, type TLSSocket } from 'node:tls'
import t from 'tap'
import { Ca, createCa } from '../../src/identity/ca.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  gone,
  readAll,
  SNI,
  sidecarListener,
  TestProxy,
} from '../proxy/support.ts'
import { gateway, peer, reachability, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { type Seen, TestCluster } from './cluster.ts'

const trustDomain = 'cluster.local'
const root = await createCa({ trustDomain })
const [ca1, ca2, ca3, ca4] = await Promise.all(
  [0, 1, 2, 3].map(() => createCa({ trustDomain, parent: root })),
)
if (ca1 === undefined || ca2 === undefined || ca3 === undefined || ca4 === undefined) throw new Error('no CA')
const direct = Ca.fromParts(
  { trustDomain, rootPem: root.rootPem, issuerPem: root.rootPem, issuerKeyPem: root.rootKeyPem ?? '' },
  'root as issuer',
)
if (!direct.ok) throw new Error(direct.error.message)

const local = (yaml: string): string => yaml.replaceAll(/"cluster-\d\.local"/g, `"${trustDomain}"`)
const peers = (bundle3 = ca3.bundlePem): string =>
  local(peer('cluster-2', ca2.bundlePem) + peer('cluster-3', bundle3) + peer('cluster-4', ca4.bundlePem))
const target = await backend((socket) => {
  socket.write('banner')
  socket.on('end', () => socket.end())
})
const cluster = await TestCluster.start('cluster-1', {
  ca: ca1,
  yaml:
    service({ name: 'productpage', pods: [`127.0.0.1:${target.port}`] }) +
    gateway('203.0.113.10') +
    workspace +
    setting() +
    local(
      reachability(['cluster-1', 'cluster-2', 'cluster-3', 'cluster-4'], {
        'cluster-2-network': 'cluster-1-network',
      }),
    ) +
    peers(),
})
const proxy = new TestProxy()
t.teardown(async () => {
  await Promise.all([cluster.stop(), proxy.engine.close()])
  await target.close()
})

/** The engine with what a gateway of this cluster is sent; follows later changes. */
async function serve(userAgentName: string): Promise<Seen> {
  const node = {
    id: 'router~10.0.0.7~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local',
    metadata: { ISTHMUS_BIND: '127.0.0.1:0' },
    userAgentName,
  }
  const seen = await cluster.client(node, { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' })
  seen.subscribe(TYPE.secret, ['ROOTCA']).start()
  await seen.until(
    'listener, upstream and trust',
    () =>
      seen.names(TYPE.listener).length + seen.names(TYPE.cluster).length + seen.names(TYPE.secret).length ===
      3,
  )
  return seen
}

const seen = await serve('isthmus')
const take = (...types: string[]): void => {
  for (const type of types)
    for (const name of seen.names(type)) proxy.put(type, seen.get(type, name) as never)
}
take(TYPE.cluster, TYPE.listener, TYPE.secret)
proxy.put(TYPE.endpoints, endpoints(SNI, [{ port: target.port }]))
proxy.put(
  TYPE.secret,
  credentialSecret(await ca1.issue({ namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' })),
)
const port = await proxy.port('eastwest')

async function call(ca: Ca): Promise<TLSSocket> {
  const svid = await ca.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
  const client = connect({
    host: '127.0.0.1',
    port,
    servername: SNI,
    cert: svid.certificatePem,
    key: svid.privateKeyPem,
    ca: root.rootPem,
    checkServerIdentity: () => undefined,
  })
  client.on('error', () => {})
  return client
}

async function refusedFor(ca: Ca): Promise<string> {
  const before = proxy.log.length
  await gone(await call(ca))
  const line = (await proxy.lines(before + 1))[before]
  return `${line?.flag} ${line?.peerId} ${line?.reason}`
}

const ID = 'spiffe://cluster.local/ns/bookinfo/sa/sleep'

t.test(
  'one id, four CAs: the gateway lets in whose cluster may call, and says why of the others',
  async (t) => {
    const open = await call(ca2)
    t.equal(String((await once(open, 'data'))[0]), 'banner', 'cluster-2 may call')
    const own = await call(ca1)
    t.equal(String((await once(own, 'data'))[0]), 'banner', 'so may this cluster')
    own.destroy()
    open.destroy()
    await proxy.lines(2)
    const before = target.accepts
    t.match(await refusedFor(ca3), `RBAC_DENIED ${ID} no policy allows`)
    t.match(await refusedFor(ca4), `RBAC_DENIED ${ID} no policy allows`)
    const shared = await refusedFor(direct.value)
    t.match(
      shared,
      /RBAC_DENIED .* policy "ambiguous issuer: O=cluster.local, CN=Isthmus root is a CA of cluster-1 and cluster-2/,
    )
    const stranger = await createCa({ trustDomain, parent: root })
    t.match(
      await refusedFor(stranger),
      /ID_REFUSED .*\(untrusted\)/,
      'an intermediate of the root that no link knows',
    )
    t.equal(target.accepts, before)
  },
)

t.test('discovery knows by the CA which cluster asks, whatever it claims', async (t) => {
  const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' }
  const node = (name: string) => ({ id: `discovery~~${name}`, metadata: { CLUSTER_ID: name } })
  const second = (await cluster.client(node('cluster-2'), { ...discovery, ca: ca2 })).start(TYPE.serviceEntry)
  await second.until('the export', () => second.names(TYPE.serviceEntry).length === 1)
  second.stop()
  const third = (await cluster.client(node('cluster-3'), { ...discovery, ca: ca3 })).start(TYPE.serviceEntry)
  await third.until('an answer', () => third.identifier !== '')
  t.strictSame(third.names(TYPE.serviceEntry), [])
  third.stop()
  const router = { id: 'router~10.0.0.7~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local' }
  const rows: [string, object, object, RegExp][] = [
    [
      'cluster-3 as cluster-2',
      node('cluster-2'),
      { ...discovery, ca: ca3 },
      /certificate is of cluster cluster-3/,
    ],
    [
      'a CA that is all of theirs',
      node('cluster-2'),
      { ...discovery, ca: direct.value },
      /issuer is ambiguous: .*cluster-4/,
    ],
    [
      "a gateway of ours by another cluster's CA",
      router,
      { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway', ca: ca2 },
      /is of cluster cluster-2; only .*isthmus-discovery of it may subscribe/,
    ],
  ]
  for (const [what, claims, identity, expected] of rows) {
    const liar = (await cluster.client(claims, identity as never)).start(TYPE.serviceEntry)
    await liar.until(what, ({ lastError }) => expected.test(lastError))
    t.equal(liar.identifier, '', what)
    liar.stop()
  }
})

t.test('an Envoy gateway gets no policy for clusters that it could not tell apart', async (t) => {
  const envoy = await serve('envoy')
  const listener = Buffer.from(envoy.get(TYPE.listener, 'eastwest')?.body ?? []).toString('latin1')
  const ours = Buffer.from(seen.get(TYPE.listener, 'eastwest')?.body ?? []).toString('latin1')
  t.match(ours, /isthmus\.rbac\.principals\.issuer/)
  t.match(ours, /cluster-2: /)
  t.notMatch(listener, /isthmus\.rbac/)
  t.notMatch(listener, /cluster-2: /)
  envoy.stop()
})

t.test(
  "a sidecar takes a gateway by its own cluster's CA only, though all gateways have one id",
  async (t) => {
    const id = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
    const gateways = await Promise.all(
      [ca2, ca3, ca1].map(async (ca) => {
        const svid = await ca.issue(id)
        const options = { cert: svid.certificatePem, key: svid.privateKeyPem }
        const server = createServer(options, (socket) => {
          socket.on('error', () => {})
          socket.end('reviews')
        })
        server.listen(0, '127.0.0.1')
        await once(server, 'listening')
        t.teardown(() => server.close())
        return (server.address() as AddressInfo).port
      }),
    )
    const entry = (port: number) =>
      yamlOf({
        apiVersion: 'networking.istio.io/v1',
        kind: 'ServiceEntry',
        metadata: { name: 'reviews', namespace: 'bookinfo' },
        spec: {
          hosts: ['reviews.bookinfo.svc.cluster.local'],
          ports: [{ number: 9080, name: 'tcp', protocol: 'TCP' }],
          resolution: 'STATIC',
          location: 'MESH_INTERNAL',
          subjectAltNames: ['spiffe://cluster.local/ns/bookinfo/sa/eastwest-gateway'],
          endpoints: [
            {
              address: '127.0.0.1',
              ports: { tcp: port },
              network: 'cluster-2-network',
              labels: { 'security.istio.io/tlsMode': 'istio', 'xcp.tetrate.io/cluster': 'cluster-2' },
            },
          ],
        },
      })
    const node = {
      id: 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local',
      userAgentName: 'isthmus',
    }
    const sleep = await cluster.client(node, { namespace: 'bookinfo', serviceAccount: 'sleep' })
    const upstream = 'outbound|9080||reviews.bookinfo.svc.cluster.local'
    sleep.subscribe(TYPE.secret, ['ROOTCA', 'ROOTCA/cluster-2']).start(TYPE.cluster)
    sleep.subscribe(TYPE.endpoints, [upstream])
    const engine = new TestProxy()
    t.teardown(() => engine.engine.close())
    engine.put(
      TYPE.secret,
      credentialSecret(await ca1.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })),
    )
    engine.put(TYPE.listener, sidecarListener({ cluster: upstream, protocol: 'tcp' }))
    const local = await engine.port('productpage_9080')
    const answers: string[] = []
    for (const at of gateways) {
      await cluster.apply(entry(at))
      await sleep.until('its endpoint', () => {
        const assignment = sleep.get(TYPE.endpoints, upstream)
        const accepted = assignment === undefined ? undefined : acceptEndpoints(assignment)
        return (
          sleep.names(TYPE.secret).length === 2 &&
          sleep.names(TYPE.cluster).includes(upstream) &&
          accepted?.ok === true &&
          accepted.value.localities[0]?.endpoints[0]?.address.port === at
        )
      })
      for (const type of [TYPE.secret, TYPE.cluster, TYPE.endpoints])
        for (const name of sleep.names(type)) engine.put(type, sleep.get(type, name) as XdsResource)
      const client = connectTcp(local, '127.0.0.1')
      answers.push(String(await readAll(client)))
      client.destroy()
    }
    t.same(answers, ['reviews', '', ''])
    t.match(engine.log.at(-1), { flag: 'ID_REFUSED', reason: /\(untrusted\)/ })
    sleep.stop()
  },
)

t.test('an intermediate that two clusters claim speaks for neither: open connections end', async (t) => {
  const open = await call(ca2)
  await once(open, 'data')
  const lines = proxy.log.length
  await cluster.apply(peers(ca3.bundlePem + ca2.issuerPem))
  await seen.until('a new listener', () => {
    const body = Buffer.from(seen.get(TYPE.listener, 'eastwest')?.body ?? []).toString('latin1')
    return /is a CA of cluster-2 and cluster-3\b/.test(body)
  })
  take(TYPE.secret, TYPE.listener)
  await gone(open)
  t.match((await proxy.lines(lines + 1))[lines], { flag: 'RBAC_DENIED', reason: /ambiguous issuer/ })
  t.match(await refusedFor(ca2), /ambiguous issuer/)
  const said = cluster.discovery.conditions().filter(({ reason }) => reason === 'AmbiguousIssuer')
  t.match(
    said.map(({ object }) => object),
    ['Cluster/acme/cluster-2', 'Cluster/acme/cluster-3'],
  )
  t.match(
    said[0]?.message,
    /is a CA of cluster-2 and cluster-3.* callers whom it signed cannot be told apart/,
  )
  const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', ca: ca2 }
  const second = (await cluster.client({ id: 'discovery~~cluster-2' }, discovery)).start(TYPE.serviceEntry)
  await second.until('the refusal', ({ lastError }) => /issuer is ambiguous/.test(lastError))
  second.stop()
})
