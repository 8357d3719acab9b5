import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { allow, backend, gateway, gone, readAll, SNI, uriPrincipal } from './support.ts'

const SERVICE = 'productpage.bookinfo.svc.cluster.local:9080'

t.test('counted by service, caller and ending; bytes of open connections too', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const client = await world.connect()
  client.write('hello')
  await once(client, 'data')
  t.match(world.proxy.engine.stats(), {
    accepted: 1,
    open: 1,
    traffic: [{ service: SERVICE, peerTrustDomain: 'cluster-1.example', bytesIn: 5, bytesOut: 5, open: 1 }],
  })
  client.end()
  await readAll(client)
  await world.proxy.lines(1)
  const stats = world.proxy.engine.stats()
  t.match(stats, {
    ended: 1,
    open: 0,
    traffic: [
      {
        service: SERVICE,
        ended: { '-': 1 },
        bytesIn: 5,
        bytesOut: 5,
        open: 0,
        peerTrustDomain: 'cluster-1.example',
      },
    ],
  })
  for (const { counts } of [stats.handshake, stats.connect, stats.duration])
    t.equal(
      counts.reduce((sum, count) => sum + count, 0),
      1,
    )
  await world.proxy.engine.close()
  await target.close()
})

t.test('a denied caller counts for the service that he asked for', async (t) => {
  const target = await backend()
  const rbac = allow({ nobody: [uriPrincipal('exact', 'spiffe://cluster-1.example/ns/x/sa/nobody')] })
  const world = await gateway(target, { rbac })
  await gone(await world.connect())
  await world.proxy.lines(1)
  t.match(world.proxy.engine.stats().traffic, [
    { service: SERVICE, peerTrustDomain: 'cluster-1.example', ended: { RBAC_DENIED: 1 } },
  ])
  const stranger = await (await createCa({ trustDomain: 'evil.example' })).issue({
    namespace: 'x',
    serviceAccount: 'y',
  })
  await gone(world.open({ cert: stranger.certificatePem, key: stranger.privateKeyPem }))
  await world.proxy.lines(2)
  const unverified = world.proxy.engine.stats().traffic.find(({ peerTrustDomain }) => peerTrustDomain === '')
  t.match(
    unverified,
    { service: SERVICE, ended: { ID_REFUSED: 1 } },
    'a name that nobody vouches for is none',
  )
  await world.proxy.engine.close()
  await target.close()
})

t.test('names that somebody merely asks for are not told apart', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  for (let n = 0; n < 20; n += 1) {
    const probe = world.open({ servername: `outbound_.80_._.guess-${n}.bookinfo.svc.cluster.local` })
    await gone(probe)
  }
  const silent = connect(world.port, '127.0.0.1')
  silent.end('GET / HTTP/1.1\r\n\r\n')
  await gone(silent.resume())
  await world.proxy.lines(21)
  const { traffic } = world.proxy.engine.stats()
  t.equal(traffic.length, 1)
  t.match(traffic, [{ service: '', peerTrustDomain: '', ended: { TLS_SNI: 20, TLS_HELLO: 1 } }])
  t.ok(!JSON.stringify(traffic).includes(SNI))
  await world.proxy.engine.close()
  await target.close()
})
