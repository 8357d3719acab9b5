import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { create } from '@bufbuild/protobuf'
import t from 'tap'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import type { Principal } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { PrincipalSchema } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import { dial, helloOf } from './raw-client.ts'
import {
  allow,
  backend,
  credentialSecret,
  deny,
  endpoints,
  gone,
  listenerOf,
  type PassthroughOptions,
  passthroughChain,
  readAll,
  SNI,
  TestProxy,
  TLS_INSPECTOR,
  terminateChain,
  trustSecret,
  upstream,
  uriPrincipal,
} from './support.ts'

const MESH = 'outbound_.9080_._.reviews.bookinfo.svc.cluster.local'
const UNKNOWN = '15030300020270'

const [home, peer] = await Promise.all([
  createCa({ trustDomain: 'cluster-2.example' }),
  createCa({ trustDomain: 'cluster-1.example' }),
])

interface Options extends Partial<PassthroughOptions> {
  /** What the assignment says of the endpoint; default: a mesh workload. */
  readonly mesh?: boolean
  /** The upstream speaks TLS of its own. */
  readonly pins?: readonly string[]
}

/** One listener: `MESH` is passed through to `target`, everything else is terminated; `SNI` leads to `target` too. */
async function world(target: { readonly port: number }, options: Options = {}) {
  const proxy = new TestProxy()
  const { mesh = true, pins } = options
  proxy.put(TYPE.cluster, upstream(MESH, pins === undefined ? {} : { pins }), upstream(SNI))
  proxy.put(
    TYPE.endpoints,
    endpoints(MESH, [{ port: target.port, tls: mesh }]),
    endpoints(SNI, [{ port: target.port }]),
  )
  const put = (over: Options = {}) =>
    proxy.put(
      TYPE.listener,
      listenerOf([terminateChain(), passthroughChain({ serverNames: [MESH], ...options, ...over })], {
        listenerFilters: [TLS_INSPECTOR],
      }),
    )
  put()
  proxy.put(
    TYPE.secret,
    credentialSecret(await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })),
    trustSecret([home, peer]),
  )
  return { proxy, put, port: await proxy.port('eastwest') }
}

/** A workload that terminates mutual TLS itself, and echoes. */
async function workload(ca: Ca, clients: Ca) {
  const identity = await ca.issue({ namespace: 'bookinfo', serviceAccount: 'reviews' })
  const server = createTlsServer(
    {
      cert: identity.certificatePem,
      key: identity.privateKeyPem,
      ca: clients.bundlePem,
      requestCert: true,
      ALPNProtocols: ['istio'],
      allowHalfOpen: true,
    } as never,
    (socket) => {
      socket.on('error', () => {})
      socket.pipe(socket)
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, close: () => server.close() }
}

t.test(
  'mesh TLS goes end to end: the workload and the client see each other, the gateway nobody',
  async (t) => {
    const target = await workload(home, peer)
    const { proxy, port } = await world(target)
    const pem = await peer.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
    const client: TLSSocket = connectTls({
      host: '127.0.0.1',
      port,
      servername: MESH,
      ALPNProtocols: ['istio-peer-exchange', 'istio'],
      cert: pem.certificatePem,
      key: pem.privateKeyPem,
      ca: home.bundlePem,
      checkServerIdentity: () => undefined,
    })
    await once(client, 'secureConnect')
    t.match(client.getPeerX509Certificate()?.subjectAltName, /sa\/reviews/)
    t.equal(client.alpnProtocol, 'istio')
    client.end('hello')
    t.equal((await readAll(client)).toString(), 'hello')
    t.match((await proxy.lines(1))[0], {
      upstream: MESH,
      host: 'reviews.bookinfo.svc.cluster.local',
      sni: MESH,
      peerId: '',
      caller: 'unverified',
      handshakeMs: -1,
      endpoint: `127.0.0.1:${target.port}`,
      flag: '-',
    })
    target.close()
    await proxy.engine.close()
  },
)

t.test('exact bytes, the ClientHello first, in any segments; each side may end first', async (t) => {
  const target = await backend()
  const { proxy, port } = await world(target)
  const hello = await helloOf(MESH, ['istio'])
  const body = randomBytes(8 << 20)
  const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
  const socket = await dial(port)
  socket.setNoDelay(true)
  const answer = readAll(socket)
  for (const byte of hello) {
    socket.write(Buffer.from([byte]))
    await new Promise((resolve) => setImmediate(resolve))
  }
  socket.end(body)
  t.equal(sha(await answer), sha(Buffer.concat([hello, body])), 'all of it, although the client ended first')
  const total = hello.length + body.length
  t.match((await proxy.lines(1))[0], { bytesIn: total, bytesOut: total, flag: '-' })

  const all = Buffer.concat([hello, Buffer.from('in the same segment')])
  const second = await dial(port)
  const echoed = readAll(second)
  second.end(all)
  t.same(await echoed, all)
  await proxy.engine.close()
  await target.close()
})

t.test('the backend may end first and still be sent to; a reset goes through', async (t) => {
  let heard = 0
  const target = await backend((socket) => {
    socket.end('bye')
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.length
    })
  })
  const { proxy, port } = await world(target)
  const hello = await helloOf(MESH, ['istio'])
  const socket = await dial(port)
  socket.write(hello)
  t.equal((await readAll(socket)).toString(), 'bye')
  socket.end(Buffer.alloc(100_000))
  await proxy.lines(1)
  t.equal(heard, hello.length + 100_000)

  const again = await dial(port)
  again.write(hello)
  await once(again, 'data')
  const backendSide = target.sockets[1] as Socket
  const closed = gone(backendSide)
  again.resetAndDestroy()
  await closed
  t.match((await proxy.lines(2))[1], { flag: 'DC' })
  await proxy.engine.close()
  await target.close()
})

t.test('who offers no Istio protocol is told what an unknown name is told', async (t) => {
  const target = await backend()
  const { proxy, port } = await world(target)
  const answers = await Promise.all(
    [
      await helloOf(MESH, ['h2', 'http/1.1']),
      await helloOf(MESH, []),
      await helloOf('unknown.example', ['istio']),
    ].map(async (hello) => {
      const socket = await dial(port)
      socket.write(hello)
      return (await readAll(socket)).toString('hex')
    }),
  )
  t.strictSame(answers, [UNKNOWN, UNKNOWN, UNKNOWN])
  t.equal(target.accepts, 0)
  for (const line of await proxy.lines(3)) t.match(line, { flag: 'TLS_SNI', handshakeMs: -1, caller: '' })
  await proxy.engine.close()
  await target.close()
})

t.test('beside it other names are terminated', async (t) => {
  const target = await backend()
  const { proxy, port } = await world(target)
  const pem = await peer.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
  const client = connectTls({
    host: '127.0.0.1',
    port,
    servername: SNI,
    ALPNProtocols: ['istio'],
    cert: pem.certificatePem,
    key: pem.privateKeyPem,
    ca: home.bundlePem,
    checkServerIdentity: () => undefined,
  })
  await once(client, 'secureConnect')
  client.end('hello')
  t.equal((await readAll(client)).toString(), 'hello')
  t.match((await proxy.lines(1))[0], { caller: 'verified', peerId: /sa\/sleep/, upstream: SNI })
  await proxy.engine.close()
  await target.close()
})

t.test('nothing but a mesh workload is spliced to, and never inside TLS of ours', async (t) => {
  const target = await backend()
  const hello = await helloOf(MESH, ['istio'])
  const cases: [Options, RegExp][] = [
    [{ mesh: false }, /no mesh workload \(tlsMode istio\)/],
    [{ pins: ['spiffe://cluster-2.example/ns/bookinfo/sa/reviews'] }, /TLS of ours/],
  ]
  for (const [options, reason] of cases) {
    const { proxy, port } = await world(target, options)
    const socket = await dial(port)
    socket.write(hello)
    t.equal((await readAll(socket)).length, 0)
    t.match((await proxy.lines(1))[0], { flag: 'UF', reason })
    await proxy.engine.close()
  }
  t.equal(target.accepts, 0)
  await target.close()
})

t.test(
  'policy goes by address and name alone: an id that nobody verified never allows, and always denies',
  async (t) => {
    const target = await backend()
    const hello = await helloOf(MESH, ['istio'])
    const someone = uriPrincipal('prefix', 'spiffe://cluster-1.example/')
    const not = (inner: Principal) => create(PrincipalSchema, { identifier: { case: 'notId', value: inner } })
    const from = (address: string) =>
      create(PrincipalSchema, {
        identifier: {
          case: 'directRemoteIp',
          value: { addressPrefix: address, prefixLen: 8 },
        },
      })
    const attempt = async (filters: Options['filters']) => {
      const { proxy, port } = await world(target, { filters: filters ?? [] })
      const socket = await dial(port)
      socket.end(hello)
      const answer = await readAll(socket)
      const [line] = await proxy.lines(1)
      await proxy.engine.close()
      return { answer: answer.toString('hex'), flag: line?.flag, reason: line?.reason }
    }
    const denied = { answer: UNKNOWN, flag: 'RBAC_DENIED' }
    const passed = { answer: hello.toString('hex'), flag: '-' }
    t.match(await attempt([allow({ id: [someone] })]), {
      ...denied,
      reason: /no policy allows a caller without/,
    })
    t.match(await attempt([allow({ 'not id': [not(someone)] })]), denied)
    t.match(await attempt([deny({ 'no such id': [someone] })]), {
      ...denied,
      reason: /policy "no such id" denies/,
    })
    t.match(await attempt([deny({ 'but this id': [not(someone)] })]), denied)
    t.equal(target.accepts, 0)
    t.match(await attempt([allow({ here: [from('127.0.0.0')] })]), passed)
    t.match(await attempt([allow({ elsewhere: [from('10.0.0.0')] })]), denied)
    t.match(await attempt([deny({ elsewhere: [from('10.0.0.0')] })]), passed)
    t.equal(target.accepts, 2)
    await target.close()
  },
)

t.test('a policy change cuts what was passed through; a chain that goes drains', async (t) => {
  const target = await backend()
  const hello = await helloOf(MESH, ['istio'])
  const { proxy, put, port } = await world(target)
  const open = async () => {
    const socket = await dial(port)
    socket.write(hello)
    await once(socket, 'data')
    return socket
  }
  const first = await open()
  const closed = gone(first)
  put({ filters: [allow({})] })
  await closed
  t.match((await proxy.lines(1))[0], { flag: 'RBAC_DENIED', reason: /^after a change/ })
  put({ filters: [] })
  const second = await open()
  proxy.put(TYPE.listener, listenerOf([terminateChain()], { listenerFilters: [TLS_INSPECTOR] }))
  second.write('still here')
  t.equal(String((await once(second, 'data'))[0]), 'still here')
  second.destroy()
  await proxy.engine.close()
  await target.close()
})

t.test('a backend that does not read holds the client back', async (t) => {
  const target = await backend((socket) => socket.pause())
  const { proxy, port } = await world(target)
  const socket = await dial(port)
  socket.write(await helloOf(MESH, ['istio']))
  const block = Buffer.alloc(1 << 20)
  let sent = 0
  let moved = true
  while (moved && sent < 200) {
    sent += 1
    moved = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), 1_000)
      socket.write(block, () => {
        clearTimeout(timer)
        resolve(true)
      })
    })
  }
  t.ok(sent < 100, `the kernel's buffers filled up after ${sent} MB, ours did not grow`)
  socket.destroy()
  await proxy.engine.close()
  await target.close()
})
