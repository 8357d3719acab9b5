// `validation_context.crl` beside the SPIFFE validator, where Envoy does not look at it: refused callers cost no connect, and open
// connections of whoever is revoked end within a second.
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { createServer } from 'node:tls'
import { pino } from 'pino'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { acceptSecret } from '../../src/resources/accept-secret.ts'
import { TYPE } from '../../src/xds/types.ts'
import { type CrlOptions, caExtensions, ecKeys, mint, mintCrl, mintLeaf, mintRoot } from '../identity/mint.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  type GatewayListenerOptions,
  gateway,
  gone,
  sidecarListener,
  TestProxy,
  trustSecret,
  upstream,
} from './support.ts'

const ID = 'spiffe://cluster-8.example/ns/bookinfo/sa/sleep'
const root = mintRoot('cluster-8 root')
const issuing = mint({
  subject: 'cluster-8 issuing',
  keys: ecKeys(),
  issuer: root,
  extensions: caExtensions(0),
})
const leaf = mintLeaf(issuing, ID)
const other = mintLeaf(issuing, ID)

async function world(options: GatewayListenerOptions & { engine?: object } = {}) {
  const target = await backend((socket) => socket.write('banner'))
  const made = await gateway(target, options)
  const trust = (...lists: CrlOptions[]) =>
    trustSecret(
      [made.home, made.peer, { trustDomain: 'cluster-8.example', bundlePem: root.pem + issuing.pem }],
      'ROOTCA',
      lists.map((list) => mintCrl(list).pem).join(''),
    )
  made.proxy.put(TYPE.secret, trust())
  const open = ({ pem, keyPem }: typeof leaf) => made.open({ cert: pem + issuing.pem, key: keyPem })
  t.teardown(() => Promise.all([made.proxy.engine.close(), target.close()]))
  return { ...made, target, trust, open }
}

t.test('a CRL cuts the open connections of whom it revokes within a second, and no others', async (t) => {
  const { proxy, target, trust, open } = await world()
  const [bad, good] = [open(leaf), open(other)]
  await Promise.all([once(bad, 'data'), once(good, 'data')])
  const before = target.accepts
  const from = performance.now()
  proxy.put(TYPE.secret, trust({ issuer: issuing, revoked: [leaf] }))
  await gone(bad)
  t.ok(performance.now() - from < 1_000)
  t.match((await proxy.lines(1))[0], {
    flag: 'ID_REFUSED',
    reason: /after a change: .*\(revoked\).*serial number/,
  })
  const again = open(leaf)
  await gone(again)
  t.match((await proxy.lines(2))[1], { flag: 'ID_REFUSED', reason: /\(revoked\)/ })
  t.equal(target.accepts, before, 'no connect upstream')
  t.equal(good.destroyed, false)
  t.match(proxy.engine.status().secrets.find(({ name }) => name === 'ROOTCA')?.crls, [
    { trustDomain: 'cluster-8.example', issuer: 'CN=cluster-8 issuing', revoked: 1, expired: false },
  ])
  good.destroy()
})

t.test('a CRL that cannot count is refused by name, and the last good one stays', async (t) => {
  const { proxy, trust, open } = await world()
  proxy.put(TYPE.secret, trust({ issuer: issuing, revoked: [leaf] }))
  const bad = [
    trust({ issuer: issuing, signer: ecKeys() }),
    trustSecret([{ trustDomain: 'cluster-8.example', bundlePem: root.pem }], 'ROOTCA', 'garbage'),
  ]
  for (const secret of bad) {
    t.match(acceptSecret(secret), { ok: false, error: { field: 'validation_context.crl' } })
    t.equal(proxy.engine.update(TYPE.secret, [secret], []).length, 1)
  }
  const client = open(leaf)
  await gone(client)
  t.match((await proxy.lines(1))[0], { flag: 'ID_REFUSED', reason: /\(revoked\)/ })
})

t.test('soft-fail serves over an expired list, hard-fail cuts when it ends', async (t) => {
  const said: string[] = []
  const logger = pino({ level: 'warn' }, { write: (line: string) => void said.push(line) })
  const soft = await world({ engine: { logger } })
  const past = { thisUpdate: new Date(Date.now() - 60_000), nextUpdate: new Date(Date.now() - 2_000) }
  const secret = soft.trust({ issuer: issuing, revoked: [leaf], ...past })
  for (let i = 0; i < 2; i += 1) soft.proxy.put(TYPE.secret, secret)
  t.equal(said.length, 1, 'said once')
  t.match(
    said,
    [/"issuer":"CN=cluster-8 issuing".*a CRL has ended: whom it revoked stays revoked/],
    'said once',
  )
  const served = soft.open(other)
  t.equal(String((await once(served, 'data'))[0]), 'banner')
  const refused = soft.open(leaf)
  await gone(refused)
  t.match((await soft.proxy.lines(1))[0], { flag: 'ID_REFUSED', reason: /\(revoked\)/ })
  served.destroy()

  const hard = await world({ engine: { revocation: 'hard-fail' } })
  const without = hard.open(other)
  await gone(without)
  t.match((await hard.proxy.lines(1))[0], { reason: /\(revocation_unknown\).*no CRL here/ })
  // Times in certificates and CRLs are whole seconds.
  const nextUpdate = new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 1_000)
  hard.proxy.put(TYPE.secret, hard.trust({ issuer: issuing, nextUpdate }, { issuer: root }))
  const fresh = hard.open(other)
  t.equal(String((await once(fresh, 'data'))[0]), 'banner')
  await gone(fresh)
  t.ok(Date.now() - nextUpdate.getTime() < 1_000, 'cut within a second of its end')
  t.match((await hard.proxy.lines(2))[1], { reason: /\(revocation_unknown\).*ended at/ })
  hard.proxy.put(TYPE.secret, hard.trust({ issuer: issuing }, { issuer: root }))
  const renewed = hard.open(other)
  t.equal(String((await once(renewed, 'data'))[0]), 'banner', 'a fresh list lets it in again')
  renewed.destroy()
})

t.test(
  'a sidecar leaves a gateway that is revoked, or whose certificate ends, as a gateway leaves its clients',
  async (t) => {
    const gatewayId = 'spiffe://cluster-8.example/ns/eastwest/sa/gateway'
    const ends = { notAfter: new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 2_000) }
    const home = await createCa({ trustDomain: 'cluster-1.example' })
    const trust = (crl = '') =>
      trustSecret(
        [home, { trustDomain: 'cluster-8.example', bundlePem: root.pem + issuing.pem }],
        'ROOTCA',
        crl,
      )
    const proxy = new TestProxy()
    proxy.put(
      TYPE.secret,
      credentialSecret(await home.issue({ namespace: 'a', serviceAccount: 'b' })),
      trust(),
    )
    const gateways = [
      mintLeaf(issuing, gatewayId),
      mintLeaf(issuing, gatewayId),
      mintLeaf(issuing, gatewayId, {}, ends),
    ]
    const clients = await Promise.all(
      gateways.map(async ({ pem, keyPem }, index) => {
        const server = createServer({ cert: pem + issuing.pem, key: keyPem }, (socket) => {
          socket.on('error', () => {})
          socket.write('banner')
        })
        server.listen(0, '127.0.0.1')
        await once(server, 'listening')
        t.teardown(() => server.close())
        const { port } = server.address() as AddressInfo
        const name = `outbound|${index}||x`
        proxy.put(TYPE.cluster, upstream(name, { pins: [gatewayId] }))
        proxy.put(TYPE.endpoints, endpoints(name, [{ port, tls: true }]))
        proxy.put(TYPE.listener, sidecarListener({ name: `to-${index}`, cluster: name, protocol: 'tcp' }))
        const client = connect(await proxy.port(`to-${index}`), '127.0.0.1')
        t.equal(String((await once(client, 'data'))[0]), 'banner')
        return client
      }),
    )
    t.teardown(() => proxy.engine.close())
    const [revoked, kept, ended] = clients
    if (revoked === undefined || kept === undefined || ended === undefined) throw new Error('no client')
    const from = performance.now()
    proxy.put(TYPE.secret, trust(mintCrl({ issuer: issuing, revoked: gateways.slice(0, 1) }).pem))
    await gone(revoked)
    t.ok(performance.now() - from < 1_000)
    t.match((await proxy.lines(1))[0], {
      flag: 'ID_REFUSED',
      reason: /after a change: the server's certificate .*\(revoked\)/,
    })
    t.equal(kept.destroyed, false)
    await gone(ended)
    t.ok(Date.now() - ends.notAfter.getTime() < 1_000)
    t.match((await proxy.lines(2))[1], {
      flag: 'ID_EXPIRED',
      reason: /certificate of the server .*gateway ended/,
    })
    t.equal(kept.destroyed, false)
    proxy.put(TYPE.secret, trustSecret([home]))
    await gone(kept)
    t.match((await proxy.lines(3))[2], {
      flag: 'ID_REFUSED',
      reason: /no bundle for the trust domain cluster-8.example/,
    })
  },
)

t.test('a server whose upstream is taken away is not refused with the secrets that go with it', async (t) => {
  const home = await createCa({ trustDomain: 'cluster-1.example' })
  const id = 'spiffe://cluster-1.example/ns/eastwest/sa/gateway'
  const { certificatePem, privateKeyPem } = await home.issue({
    namespace: 'eastwest',
    serviceAccount: 'gateway',
  })
  const server = createServer({ cert: certificatePem, key: privateKeyPem }, (socket) => {
    socket.on('error', () => {})
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const proxy = new TestProxy()
  t.teardown(() => proxy.engine.close())
  const own = credentialSecret(await home.issue({ namespace: 'a', serviceAccount: 'b' }))
  proxy.put(TYPE.secret, own, trustSecret([home]))
  proxy.put(TYPE.cluster, upstream('x', { pins: [id] }))
  proxy.put(TYPE.endpoints, endpoints('x', [{ port: (server.address() as AddressInfo).port, tls: true }]))
  proxy.put(TYPE.listener, sidecarListener({ name: 'to-x', cluster: 'x', protocol: 'tcp' }))
  const client = connect(await proxy.port('to-x'), '127.0.0.1')
  const echoed = async (text: string) => {
    client.write(text)
    return String((await once(client, 'data'))[0])
  }
  t.equal(await echoed('before'), 'before')
  proxy.engine.update(TYPE.cluster, [], ['x'])
  proxy.engine.update(TYPE.secret, [], ['default', 'ROOTCA'])
  t.same(proxy.engine.status().secrets, [])
  t.equal(await echoed('after'), 'after')
  client.destroy()
})
