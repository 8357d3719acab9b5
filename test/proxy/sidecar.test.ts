import { once } from 'node:events'
import { request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { TYPE } from '../../src/xds/types.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  gateway,
  gone,
  OUTBOUND,
  readAll,
  sidecarListener,
  TestProxy,
  trustSecret,
  upstream,
} from './support.ts'

const GATEWAY_ID = 'spiffe://cluster-2.example/ns/eastwest/sa/gateway'

async function dial(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}

/** A sidecar of cluster-1 whose service is `specs`; the gateway's world gives the identities. */
async function sidecar(
  specs: Parameters<typeof endpoints>[1],
  options: Parameters<typeof sidecarListener>[0] & { upstream?: Parameters<typeof upstream>[1] } = {},
) {
  const proxy = new TestProxy()
  proxy.put(TYPE.cluster, upstream(OUTBOUND, options.upstream))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, specs))
  proxy.put(TYPE.listener, sidecarListener(options))
  const port = await proxy.port(options.name ?? 'productpage_9080')
  return { proxy, port }
}

async function get(port: number): Promise<{ status: number; body: string }> {
  const req = request({ host: '127.0.0.1', port, path: '/productpage', agent: false })
  req.end()
  const [res] = await once(req, 'response')
  return { status: res.statusCode, body: (await readAll(res)).toString() }
}

t.test('two hops: sidecar, mTLS with pinned gateway, backend', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const { proxy, port } = await sidecar([{ port: world.port, tls: true }], {
    upstream: { pins: [GATEWAY_ID] },
  })
  proxy.put(TYPE.secret, credentialSecret(world.client), trustSecret([world.home, world.peer]))
  const client = await dial(port)
  client.end('through two proxies')
  t.equal((await readAll(client)).toString(), 'through two proxies')
  t.match((await proxy.lines(1))[0], {
    host: 'productpage.bookinfo.svc.cluster.local',
    port: 9080,
    upstream: OUTBOUND,
    endpoint: `127.0.0.1:${world.port}`,
    flag: '-',
  })
  t.match((await world.proxy.lines(1))[0], {
    peerId: 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep',
    flag: '-',
    alpn: 'istio',
  })
  await Promise.all([proxy.engine.close(), world.proxy.engine.close(), target.close()])
})

t.test('a server that is not the pinned one gets no byte', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const { proxy, port } = await sidecar([{ port: world.port, tls: true }], {
    protocol: 'tcp',
    upstream: { pins: ['spiffe://cluster-2.example/ns/eastwest/sa/other'] },
  })
  proxy.put(TYPE.secret, credentialSecret(world.client), trustSecret([world.home, world.peer]))
  const client = await dial(port)
  client.end('secret')
  t.equal((await readAll(client)).length, 0)
  const [line] = await proxy.lines(1)
  t.match(line, { flag: 'ID_REFUSED', reason: /the server is spiffe:.*gateway; expected .*other/ })
  t.equal(target.accepts, 0)

  const impostor = await createCa({ trustDomain: 'cluster-2.example' })
  proxy.put(TYPE.cluster, upstream(OUTBOUND, { pins: [GATEWAY_ID] }))
  proxy.put(TYPE.secret, trustSecret([impostor, world.peer]))
  const second = await dial(port)
  t.equal((await readAll(second)).length, 0)
  t.match((await proxy.lines(2))[1], { flag: 'UF', reason: /TLS handshake failed/ })
  await Promise.all([proxy.engine.close(), world.proxy.engine.close(), target.close()])
})

t.test('a name that the gateway does not expose is told in words', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const { proxy, port } = await sidecar([{ port: world.port, tls: true }], {
    upstream: { pins: [GATEWAY_ID], sni: 'hidden.example' },
  })
  proxy.put(TYPE.secret, credentialSecret(world.client), trustSecret([world.home, world.peer]))
  const { status, body } = await get(port)
  t.equal(status, 503)
  t.match(body, /refused the server name hidden\.example: it is not exposed there/)
  t.match((await proxy.lines(1))[0], { flag: 'UF' })
  await Promise.all([proxy.engine.close(), world.proxy.engine.close(), target.close()])
})

t.test('TLS upstreams wait for their secrets and say so', async (t) => {
  const { proxy, port } = await sidecar([{ port: 1, tls: true }], { upstream: { pins: [GATEWAY_ID] } })
  const { status, body } = await get(port)
  t.equal(status, 503)
  t.match(body, /Secret default: has not been received yet/)
  await proxy.engine.close()
})

t.test('nothing healthy: 503 with the reason for plain HTTP, an end for others, UH in the log', async (t) => {
  const { proxy, port } = await sidecar([])
  proxy.put(TYPE.listener, sidecarListener({ name: 'tcp', protocol: 'tcp' }))
  const { status, body } = await get(port)
  t.equal(status, 503)
  t.match(body, /^no healthy upstream: outbound\|9080\|\|productpage.* has no endpoints\n$/)
  const other = await dial(await proxy.port('tcp'))
  t.equal((await readAll(other)).length, 0)
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: 9, unhealthy: true }]))
  t.match((await get(port)).body, /127\.0\.0\.1:9 is UNHEALTHY/)
  t.same(
    (await proxy.lines(3)).map(({ flag }) => flag),
    ['UH', 'UH', 'UH'],
  )
  const slow = await dial(port)
  slow.write('GET / HT')
  const answer = readAll(slow)
  await new Promise((resolve) => setImmediate(resolve))
  slow.write('TP/1.1\r\n\r\n')
  t.match((await answer).toString(), /^HTTP\/1\.1 503 Service Unavailable\r\n/)
  await proxy.engine.close()
})

t.test('connect failures go to the next endpoint; local ones first', async (t) => {
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const deadPort = (closed.address() as { port: number }).port
  closed.close()
  const local = await backend((socket) => socket.end('local'))
  const remote = await backend((socket) => socket.end('remote'))
  const both = await sidecar([{ port: local.port }, { port: remote.port, priority: 1 }])
  t.equal((await readAll(await dial(both.port))).toString(), 'local')
  const { proxy, port } = await sidecar([{ port: deadPort }, { port: remote.port, priority: 1 }], {
    maxConnectAttempts: 2,
  })
  t.equal((await readAll(await dial(port))).toString(), 'remote')
  const one = await sidecar([{ port: deadPort }], { protocol: 'tcp' })
  t.equal((await readAll(await dial(one.port))).length, 0)
  t.match((await one.proxy.lines(1))[0], { flag: 'UF', reason: /refused the connection/, connectMs: -1 })
  await Promise.all([
    both.proxy.engine.close(),
    proxy.engine.close(),
    one.proxy.engine.close(),
    local.close(),
    remote.close(),
  ])
})

t.test('half-close: each side may end first and still be heard', async (t) => {
  const clientFirst = await backend((socket) => {
    socket.once('end', () => socket.end('after your end'))
    socket.resume()
  })
  const serverFirst = await backend((socket) => {
    socket.end('I am done')
    socket.once('end', () => socket.destroy())
  })
  for (const tls of [false, true]) {
    const gate = tls ? await gateway(clientFirst) : undefined
    const one = gate ? await gate.connect() : await dial((await sidecarTo(clientFirst.port)).port)
    one.end('question')
    t.equal((await readAll(one)).toString(), 'after your end', `client first, tls ${tls}`)
    const gate2 = tls ? await gateway(serverFirst) : undefined
    const before = serverFirst.bytes
    const two = gate2
      ? await gate2.connect({ allowHalfOpen: true } as object)
      : await dial((await sidecarTo(serverFirst.port)).port)
    t.equal((await readAll(two)).toString(), 'I am done', `server first, tls ${tls}`)
    two.end('but I am not')
    await Promise.all([gone(two), gone(serverFirst.sockets.at(-1) as Socket)])
    t.equal(serverFirst.bytes - before, 12, `the client's rest arrived, tls ${tls}`)
    for (const world of [gate, gate2]) await world?.proxy.engine.close()
  }
  await Promise.all(open.splice(0).map((proxy) => proxy.engine.close()))
  await Promise.all([clientFirst.close(), serverFirst.close()])
})

const open: TestProxy[] = []
async function sidecarTo(port: number) {
  const made = await sidecar([{ port }])
  open.push(made.proxy)
  return made
}

t.test('resets go through, both ways, with TLS and without', async (t) => {
  const resetting = await backend((socket) => socket.once('data', () => socket.resetAndDestroy()))
  const holding = await backend(() => {})
  for (const tls of [false, true]) {
    const flags: string[] = []
    const world = tls ? await gateway(resetting) : undefined
    const side = tls ? undefined : await sidecarTo(resetting.port)
    const client = world ? await world.connect() : await dial(side?.port ?? 0)
    client.write('x')
    const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException]
    t.equal(error.code, 'ECONNRESET', `upstream reset reaches the client, tls ${tls}`)
    flags.push(...((await (world?.proxy ?? side?.proxy)?.lines(1)) ?? []).map(({ flag }) => flag))

    const world2 = tls ? await gateway(holding) : undefined
    const side2 = tls ? undefined : await sidecarTo(holding.port)
    const leaver = await dial(world2?.port ?? side2?.port ?? 0)
    const count = holding.accepts
    const proxy = world2?.proxy ?? side2?.proxy
    if (world2) {
      const secure = world2.open({ socket: leaver })
      secure.on('error', () => {})
      await once(secure, 'secureConnect')
      secure.write('x')
    } else {
      leaver.write('x')
    }
    while (holding.accepts === count) await new Promise((resolve) => setImmediate(resolve))
    const upstreamSocket = holding.sockets.at(-1) as Socket
    while (upstreamSocket.bytesRead === 0) await new Promise((resolve) => setImmediate(resolve))
    const failed = new Promise<boolean>((resolve) => upstreamSocket.once('close', resolve))
    leaver.resetAndDestroy()
    const hadError = await failed
    t.ok(hadError, `client reset reaches the upstream, tls ${tls}`)
    flags.push(...((await proxy?.lines(1)) ?? []).map(({ flag }) => flag))
    t.same(flags, ['UC', 'DC'])
    for (const made of [world?.proxy, world2?.proxy]) await made?.engine.close()
  }
  await Promise.all(open.splice(0).map((proxy) => proxy.engine.close()))
  await Promise.all([resetting.close(), holding.close()])
})

t.test('idle and longest duration', async (t) => {
  const target = await backend(() => {})
  const idle = await sidecar([{ port: target.port }], { idleTimeoutS: 0.2 })
  await gone(await dial(idle.port).then((socket) => socket.resume().on('end', () => socket.end())))
  t.match((await idle.proxy.lines(1))[0], { flag: 'SI' })
  const brief = await sidecar([{ port: target.port }], { maxDurationS: 0.2 })
  await gone(await dial(brief.port))
  t.match((await brief.proxy.lines(1))[0], { flag: 'DT' })
  await Promise.all([idle.proxy.engine.close(), brief.proxy.engine.close(), target.close()])
})

t.test('a stalled reader does not fill the memory', async (t) => {
  const chunk = Buffer.alloc(1 << 20)
  let written = 0
  const target = await backend((socket) => {
    const more = () => {
      while (socket.write(chunk)) written += chunk.length
    }
    socket.on('drain', () => {
      written += chunk.length
      more()
    })
    more()
  })
  const { proxy, port } = await sidecar([{ port: target.port }])
  const client = await dial(port)
  client.pause()
  let last = -1
  while (last !== written) {
    last = written
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  t.ok(written < 32 << 20, `stopped after ${written >> 20} MB in sockets' buffers`)
  client.destroy()
  await proxy.lines(1)
  await Promise.all([proxy.engine.close(), target.close()])
})
