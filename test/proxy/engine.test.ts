import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { create } from '@bufbuild/protobuf'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { freePort } from '../../src/lib/loopback-port.ts'
import type { Resolved } from '../../src/proxy/resolve.ts'
import { OutlierDetectionSchema } from '../../src/xds/gen/envoy/config/cluster/v3/outlier_detection_pb.js'
import { rawResource } from '../../src/xds/resource.ts'
import { TYPE } from '../../src/xds/types.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  gatewayListener,
  gone,
  OUTBOUND,
  readAll,
  sidecarListener,
  TestProxy,
  trustSecret,
  upstream,
} from './support.ts'

async function dial(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}

function serving(port: number): TestProxy {
  const proxy = new TestProxy()
  proxy.put(TYPE.cluster, upstream(OUTBOUND))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port }]))
  return proxy
}

t.test(
  'a bad resource is refused by name and field; the last good one and the others serve on',
  async (t) => {
    const target = await backend((socket) => socket.end('good'))
    const proxy = serving(target.port)
    proxy.put(TYPE.listener, sidecarListener())
    const port = await proxy.port('productpage_9080')
    const garbage = (name: string) => rawResource(name, TYPE.listener, Buffer.from([0xff, 0xff]))
    const problems = proxy.engine.update(
      TYPE.listener,
      [garbage('productpage_9080'), sidecarListener({ name: 'other' }), garbage('third')],
      [],
    )
    t.same(
      problems.map(({ object }) => object),
      ['Listener productpage_9080', 'Listener third'],
    )
    t.same(proxy.engine.status().problems.length, 2)
    t.equal((await readAll(await dial(port))).toString(), 'good')
    t.equal(
      (await readAll(await dial(await proxy.port('other')))).toString(),
      'good',
      'the good one of the batch',
    )
    t.same(proxy.engine.update(TYPE.endpoints, [endpoints(OUTBOUND, [{ port: 0 }])], []), [
      {
        object: `ClusterLoadAssignment ${OUTBOUND}`,
        field: 'endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value',
        message: 'expected a port number, found 0',
      },
    ])
    t.equal((await readAll(await dial(port))).toString(), 'good')
    t.match(proxy.engine.update(TYPE.cluster, [upstream('BlackHole')], []), [{ object: 'Cluster BlackHole' }])
    proxy.put(TYPE.listener, sidecarListener())
    t.equal(
      proxy.engine.status().problems.filter(({ object }) => object === 'Listener productpage_9080').length,
      0,
      'mended',
    )
    t.same(
      proxy.engine.update('type.googleapis.com/istio.networking.nds.v1.NameTable', [garbage('x')], []),
      [],
      'not ours',
    )
    await Promise.all([proxy.engine.close(), target.close()])
  },
)

t.test('an address that is taken is told by name, and bound once it is free', async (t) => {
  const target = await backend((socket) => socket.end('good'))
  const proxy = serving(target.port)
  const squatter = createServer().listen(0, '127.0.0.1')
  await once(squatter, 'listening')
  const { port } = squatter.address() as AddressInfo
  proxy.put(TYPE.listener, sidecarListener({ port }), sidecarListener({ name: 'free' }))
  const problems = await proxy.engine.whenBound()
  t.same(problems, [
    {
      object: 'Listener productpage_9080',
      field: 'address',
      message: `127.0.0.1:${port} cannot be bound: EADDRINUSE`,
    },
  ])
  const status = proxy.engine.status()
  t.same(
    status.listeners.map(({ name, phase }) => [name, phase]),
    [
      ['free', 'listening'],
      ['productpage_9080', 'failed'],
    ],
  )
  squatter.close()
  while (proxy.engine.status().problems.length > 0) await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal((await readAll(await dial(port))).toString(), 'good')
  await Promise.all([proxy.engine.close(), target.close()])
})

t.test('a listener opens its port when its secrets are there, in any order', async (t) => {
  const target = await backend()
  const ca = await createCa({ trustDomain: 'one.example' })
  const proxy = new TestProxy()
  const port = await freePort()
  proxy.put(TYPE.listener, gatewayListener({ port }))
  t.match(proxy.engine.status().listeners[0], {
    phase: 'waiting',
    detail: 'waits for secret ROOTCA, default',
  })
  const refused = connect({ host: '127.0.0.1', port })
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNREFUSED', 'not open yet')
  proxy.put(TYPE.secret, trustSecret([ca]))
  t.match(proxy.engine.status().listeners[0], { phase: 'waiting' })
  const good = await ca.issue({ namespace: 'a', serviceAccount: 'b' })
  const other = await ca.issue({ namespace: 'a', serviceAccount: 'c' })
  const mismatch = { certificatePem: good.certificatePem, privateKeyPem: other.privateKeyPem }
  t.match(proxy.engine.update(TYPE.secret, [credentialSecret(mismatch)], []), [
    { object: 'Secret default', message: /does not belong/ },
  ])
  proxy.put(TYPE.secret, credentialSecret(good))
  t.equal(await proxy.port('eastwest'), port)
  t.match(proxy.engine.update(TYPE.secret, [credentialSecret(mismatch)], []).length, 1)
  t.match(
    proxy.engine.status().secrets,
    [
      { name: 'ROOTCA', kind: 'trust' },
      { name: 'default', detail: 'spiffe://one.example/ns/a/sa/b' },
    ],
    'last good kept',
  )
  t.notMatch(JSON.stringify(proxy.engine.status()), /PRIVATE KEY/)
  await Promise.all([proxy.engine.close(), target.close()])
})

t.test(
  'listeners come, move and go at run time; open connections stay until the drain is over',
  async (t) => {
    const target = await backend()
    const proxy = new TestProxy({ limits: { drainMs: 300 } })
    proxy.put(TYPE.cluster, upstream(OUTBOUND))
    proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: target.port }]))
    const [first, second] = [await freePort(), await freePort()]
    proxy.put(TYPE.listener, sidecarListener({ port: first }))
    await proxy.port('productpage_9080')
    const open = await dial(first)
    open.write('1')
    await once(open, 'data')
    proxy.put(TYPE.listener, sidecarListener({ port: first, protocol: 'tcp' }))
    open.write('2')
    await once(open, 'data')
    t.pass('a change without a new address keeps socket and connections')
    proxy.put(TYPE.listener, sidecarListener({ port: second }))
    t.equal(await proxy.port('productpage_9080'), second)
    open.write('3')
    await once(open, 'data')
    t.pass('a new address leaves the old connections alone for a while')
    // The address of one that goes is there for one that comes, in the same update.
    const problems = proxy.engine.update(
      TYPE.listener,
      [sidecarListener({ name: 'heir', port: second })],
      ['productpage_9080'],
    )
    t.same([...problems, ...(await proxy.engine.whenBound())], [])
    t.same(
      proxy.engine.status().listeners.map(({ name }) => name),
      ['heir'],
    )
    await gone(open)
    t.match((await proxy.lines(1))[0], {
      flag: 'DRAIN',
      reason: /listener productpage_9080 was removed 300 ms ago/,
    })
    await Promise.all([proxy.engine.close(), target.close()])
  },
)

t.test('an upstream that is taken away stops new connections at once and drains open ones', async (t) => {
  const target = await backend()
  const proxy = new TestProxy({ limits: { drainMs: 200 } })
  proxy.put(TYPE.cluster, upstream(OUTBOUND))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: target.port }]))
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const port = await proxy.port('productpage_9080')
  const open = await dial(port)
  open.write('1')
  await once(open, 'data')
  proxy.engine.update(TYPE.cluster, [], [OUTBOUND])
  t.equal((await readAll(await dial(port))).length, 0)
  open.write('2')
  await once(open, 'data')
  await gone(open)
  t.same(
    (await proxy.lines(2)).map(({ flag }) => flag),
    ['NR', 'DRAIN'],
  )
  await Promise.all([proxy.engine.close(), target.close()])
})

t.test('open(): the listener at an address, in this process', async (t) => {
  const target = await backend()
  const proxy = serving(target.port)
  proxy.put(TYPE.listener, sidecarListener())
  const port = await proxy.port('productpage_9080')
  const downstream = { remoteAddress: '127.0.0.1:1', host: 'productpage.bookinfo' }
  const front = createServer({ allowHalfOpen: true }, async (socket) => {
    const session = await proxy.engine.open('127.0.0.1', port, downstream)
    t.ok(session.ok)
    if (session.ok) session.value.splice(socket, Buffer.from('head '))
  }).listen(0, '127.0.0.1')
  await once(front, 'listening')
  const client = await dial((front.address() as AddressInfo).port)
  client.end('tail')
  t.equal((await readAll(client)).toString(), 'head tail')
  t.match((await proxy.lines(1))[0], { bytesIn: 9, bytesOut: 9, remoteAddress: '127.0.0.1:1', flag: '-' })
  const given = await proxy.engine.open('127.0.0.1', port, downstream)
  if (given.ok) given.value.close()
  t.match((await proxy.lines(2))[1], { flag: 'DC' })
  t.match(await proxy.engine.open('127.0.0.1', 1, downstream), { ok: false, error: { flag: 'NR' } })
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, []))
  t.match(await proxy.engine.open('127.0.0.1', port, downstream), {
    ok: false,
    error: { flag: 'UH', reason: /has no endpoints/ },
  })
  t.match((await proxy.lines(3))[2], { flag: 'UH' }, 'logged as well')
  front.close()
  await Promise.all([proxy.engine.close(), target.close()])
})

t.test('drain: no new ones, the open ones finish or are cut at the deadline and listed', async (t) => {
  const target = await backend()
  const proxy = serving(target.port)
  proxy.put(TYPE.listener, sidecarListener())
  const port = await proxy.port('productpage_9080')
  const [finishes, stays] = [await dial(port), await dial(port)]
  for (const socket of [finishes, stays]) {
    socket.write('x')
    await once(socket, 'data')
  }
  const report = proxy.engine.drain(500)
  const refused = connect({ host: '127.0.0.1', port })
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNREFUSED')
  finishes.end()
  const cut = gone(stays)
  t.same(await report, { finished: 1, cut: { [OUTBOUND]: 1 } })
  await cut
  t.match((await proxy.lines(2))[1], { flag: 'DRAIN' })
  t.same(await proxy.engine.drain(1_000), { finished: 0, cut: {} }, 'nothing left to drain')
  await Promise.all([proxy.engine.close(), target.close()])
})

t.test('an endpoint that fails again and again is left out, and comes back', async (t) => {
  const target = await backend((socket) => socket.end('good'))
  const dead = await freePort()
  const proxy = new TestProxy()
  const outlier = create(OutlierDetectionSchema, {
    splitExternalLocalOriginErrors: true,
    consecutiveLocalOriginFailure: 2,
    baseEjectionTime: { seconds: 0n, nanos: 300_000_000 },
    maxEjectionPercent: 100,
  })
  proxy.put(TYPE.cluster, upstream(OUTBOUND, { outlier }))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: dead }, { port: target.port, priority: 1 }]))
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const port = await proxy.port('productpage_9080')
  const ask = async () => (await readAll(await dial(port))).toString()
  t.same([await ask(), await ask(), await ask(), await ask()], ['', '', 'good', 'good'])
  t.match(proxy.engine.status().upstreams[0]?.endpoints[0], {
    healthy: false,
    detail: 'is ejected after failed connects',
  })
  const revived = await backend((socket) => socket.end('revived'), '127.0.0.1', dead)
  while ((await ask()) !== 'revived') await new Promise((resolve) => setTimeout(resolve, 20))
  t.pass('back after its time')
  await Promise.all([proxy.engine.close(), target.close(), revived.close()])
})

t.test('an endpoint may be a host name', async (t) => {
  const target = await backend((socket) => socket.end('good'), '127.0.0.2')
  let answer: (resolved: Resolved) => void = () => {}
  const proxy = new TestProxy({ resolve: () => new Promise((resolve) => (answer = resolve)) })
  proxy.put(TYPE.cluster, upstream(OUTBOUND))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ host: 'lb.example', port: target.port }]))
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const port = await proxy.port('productpage_9080')
  t.equal((await readAll(await dial(port))).length, 0)
  t.match((await proxy.lines(1))[0], { flag: 'UH', reason: /lb\.example is not resolved yet/ })
  answer({ addresses: ['127.0.0.2'], ttlMs: undefined })
  await new Promise((resolve) => setImmediate(resolve))
  t.equal((await readAll(await dial(port))).toString(), 'good')
  t.match(proxy.engine.status().upstreams[0]?.endpoints, [{ address: `127.0.0.2:${target.port}` }])
  await Promise.all([proxy.engine.close(), target.close()])
})

t.test('a throw in a callback ends one connection, not the process', async (t) => {
  const target = await backend()
  const proxy = serving(target.port)
  proxy.put(TYPE.listener, sidecarListener())
  const port = await proxy.port('productpage_9080')
  const session = await proxy.engine.open('127.0.0.1', port, { remoteAddress: 'x', host: 'x' })
  const broken = await dial(target.port)
  broken.pause = () => {
    throw new Error('a fault of ours')
  }
  broken.on = broken.pause as never
  if (session.ok) session.value.splice(broken, Buffer.from('x'))
  t.match((await proxy.lines(1))[0], { flag: 'BUG', reason: 'a fault of ours' })
  t.equal(proxy.engine.status().connections.open, 0)
  t.equal(
    (await readAll(await dial(port).then((socket) => socket.end('still here')))).toString(),
    'still here',
  )
  await Promise.all([proxy.engine.close(), target.close()])
})
