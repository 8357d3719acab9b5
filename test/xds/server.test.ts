// The server on real sockets, against @grpc/grpc-js as client.
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import * as http2 from 'node:http2'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { type Logger, silentLogger } from '../../src/lib/log.ts'
import { fail, ok } from '../../src/lib/result.ts'
import { encodeRequest } from '../../src/xds/codec-request.ts'
import { messagePrefix } from '../../src/xds/grpc.ts'
import { ADS_PATH } from '../../src/xds/methods.ts'
import { SnapshotCache, type ViewSource } from '../../src/xds/snapshot-cache.ts'
import { TYPE } from '../../src/xds/types.ts'
import { byName, cluster, endpoints, listener, NODE, plain, request } from './fixtures.ts'
import { RawStream, serve } from './wire.ts'

type Options = Parameters<typeof serve>[0]

async function start(t: { teardown(end: () => unknown): void }, options: Options = {}) {
  const served = serve(options)
  const at = await served.server.listen({ host: '127.0.0.1', port: 0 })
  const target = 'port' in at ? `127.0.0.1:${at.port}` : ''
  t.teardown(() => served.server.close(0))
  const open = (variant: 'sotw' | 'delta' = 'delta', path?: string) => {
    const stream = new RawStream(target, variant, path)
    t.teardown(() => stream.close())
    return stream
  }
  return { ...served, target, open }
}

t.test('SotW and Delta clients get the view and its changes', async (t) => {
  const { cache, open, server } = await start(t)
  cache.set(
    new Map([
      [TYPE.cluster, byName(cluster('a'))],
      [TYPE.endpoints, byName(endpoints('a'))],
    ]),
  )
  for (const variant of ['sotw', 'delta'] as const) {
    const stream = open(variant)
    stream.send({ typeUrl: TYPE.cluster })
    const first = await stream.next()
    t.match(first, {
      typeUrl: TYPE.cluster,
      identifier: 'test',
      resources: [{ name: 'a', version: cluster('a').version }],
    })
    stream.ack(first)
    stream.send({ typeUrl: TYPE.endpoints, names: ['a'] })
    stream.ack(await stream.next(), variant === 'sotw' ? { names: ['a'] } : {})
    cache.setType(TYPE.endpoints, byName(endpoints('a', 81)))
    t.match(await stream.next(), {
      typeUrl: TYPE.endpoints,
      resources: [{ version: endpoints('a', 81).version }],
    })
    cache.setType(TYPE.endpoints, byName(endpoints('a')))
    stream.close()
  }
  t.ok(server)
})

t.test('a per-type stream needs no type URL', async (t) => {
  const { cache, open } = await start(t)
  cache.setType(TYPE.cluster, byName(cluster('a')))
  const stream = open('delta', '/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters')
  stream.send({ typeUrl: '' })
  t.match(await stream.next(), { typeUrl: TYPE.cluster, resources: [{ name: 'a' }] })
  const wrong = open('delta', '/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters')
  wrong.send({ typeUrl: TYPE.listener })
  t.match(await wrong.status, { code: 3, details: /type_url .*Listener on a stream of .*Cluster/ })
})

t.test('what a client does wrong ends its stream with a status that says what', async (t) => {
  const { open, server } = await start(t, { limits: { maxNames: 3, maxTypes: 2, maxMessageBytes: 1_000 } })
  const cases = [
    { say: [{ typeUrl: TYPE.cluster, node: { ...NODE, id: '' } }], code: 3, details: /node.id/ },
    { say: [{ typeUrl: '' }], code: 3, details: /type_url/ },
    { say: [{ typeUrl: 'a' }, { typeUrl: 'b' }, { typeUrl: 'c' }], code: 8, details: /more than 2 types/ },
    {
      say: [
        { typeUrl: 'a', names: ['1', '2'] },
        { typeUrl: 'a', names: ['3', '4'] },
      ],
      code: 8,
      details: /more than 3 resource names/,
    },
    { say: [{ typeUrl: 'a', names: ['1', '2', '3', '4'] }], code: 3, details: /more than 3 resource names/ },
    {
      say: [{ typeUrl: 'a', names: ['x'.repeat(2_000)] }],
      code: 8,
      details: /message of \d+ bytes, at most 1000/,
    },
  ]
  for (const { say, code, details } of cases) {
    const stream = open()
    for (const fields of say) stream.send(fields)
    t.match(await stream.status, { code, details })
  }
  const garbage = open()
  garbage.call.write(Buffer.from([0x0a, 0xff]))
  t.match(await garbage.status, { code: 3, details: /malformed request/ })
  t.match(await open('delta', '/some.Service/Method').status, { code: 12, details: /unknown method/ })
  while (server.clients().length > 0) await nextTurn()
  t.pass('and nothing of it stays')
})

t.test('who may see what is asked once per type, with what the transport proved', async (t) => {
  const asked: string[] = []
  const view = new SnapshotCache()
  const { open } = await start(t, {
    authorize(peer, node, typeUrl) {
      asked.push(`${peer.certificate} ${node.id === NODE.id} ${typeUrl}`)
      return typeUrl === 'secret' ? fail({ code: 7, message: 'not for you' }) : ok(view)
    },
  })
  const stream = open()
  stream.send({ typeUrl: 'open' })
  stream.ack(await stream.next())
  stream.send({ typeUrl: 'open', names: ['x'] })
  await stream.next()
  stream.send({ typeUrl: 'secret' })
  t.match(await stream.status, { code: 7, details: 'not for you' })
  t.same(asked, ['undefined true open', 'undefined true secret'])
})

t.test('authorization is asked again when the server is told so', async (t) => {
  let state: 'narrow' | 'wide' | 'none' = 'narrow'
  const views = { narrow: new SnapshotCache(), wide: new SnapshotCache() }
  views.narrow.setType('k', byName(plain('a', '1')))
  views.wide.setType('k', byName(plain('b', '1')))
  const { open, server } = await start(t, {
    authorize: () => (state === 'none' ? fail({ code: 7, message: 'revoked' }) : ok(views[state])),
  })
  const stream = open()
  stream.send({ typeUrl: 'k' })
  const first = await stream.next()
  t.match(first, { resources: [{ name: 'a' }] })
  stream.ack(first)
  state = 'wide'
  server.reauthorize()
  const second = await stream.next()
  t.match(second, { resources: [{ name: 'b' }] })
  stream.ack(second)
  t.match(await stream.next(), { removed: ['a'] })
  views.narrow.setType('k', byName(plain('hidden', '1')))
  state = 'none'
  server.reauthorize()
  t.match(await stream.status, { code: 7, details: 'revoked' })
  t.same(stream.unread, [], 'the old view is not watched any more')
})

t.test(
  'a view that is not the one that was granted ends the stream before a byte of it leaves',
  async (t) => {
    const cache = new SnapshotCache()
    cache.setType('k', byName(plain('a', '1')))
    const view: ViewSource = {
      scope: 'of another',
      current: () => cache.current(),
      watch: (callback) => cache.watch(callback),
    }
    const looked: string[] = []
    const { open } = await start(t, {
      authorize: () => ok(view),
      mayServe: (_peer, { scope }, typeUrl) => looked.push(`${scope} ${typeUrl}`) === 0,
    })
    for (const variant of ['sotw', 'delta'] as const) {
      const stream = open(variant)
      stream.send({ typeUrl: 'k' })
      t.match(await stream.status, { code: 13, details: 'the view is not of this stream' })
      t.same(stream.unread, [])
    }
    t.same(looked, ['of another k', 'of another k'])
  },
)

t.test('until it is ready the server refuses streams', async (t) => {
  let ready = false
  const { open } = await start(t, { ready: () => ready })
  t.match(await open().status, { code: 14, details: 'not ready yet' })
  ready = true
  const stream = open()
  stream.send({ typeUrl: TYPE.cluster })
  t.match(await stream.next(), { resources: [] })
})

t.test('status per client: sent, acknowledged, refused', async (t) => {
  const warnings: Record<string, unknown>[] = []
  const logger = {
    ...silentLogger,
    warn: (fields: Record<string, unknown>) => warnings.push(fields),
    info() {},
    debug() {},
  }
  const { cache, open, server } = await start(t, { logger: logger as never })
  cache.setType(TYPE.cluster, byName(cluster('a')))
  const stream = open()
  stream.send({ typeUrl: TYPE.cluster })
  const first = await stream.next()
  stream.ack(first)
  cache.setType(TYPE.cluster, byName(cluster('a', 2)))
  const second = await stream.next()
  stream.ack(second, { errorDetail: 'a: connect_timeout is silly' })
  // The next answer proves that the refusal was read.
  stream.send({ typeUrl: 'other' })
  await stream.next()
  t.match(server.clients(), [
    {
      nodeId: NODE.id,
      address: /^127\.0\.0\.1:\d+$/,
      variant: 'delta',
      blocked: false,
      types: {
        [TYPE.cluster]: {
          sentVersion: second.version,
          ackedVersion: first.version,
          nackedVersion: second.version,
          lastError: 'a: connect_timeout is silly',
          subscribed: '*',
        },
      },
    },
  ])
  t.match(warnings, [{ node: NODE.id, typeUrl: TYPE.cluster, nonce: second.nonce, detail: /silly/ }])
})

t.test('a client that does not read delays nobody, and gets the latest when it reads again', async (t) => {
  const { cache, open, target, server } = await start(t)
  const big = (mark: string) => plain('big', mark.repeat(500_000))
  cache.setType('k', byName(big('0')))
  const session = http2.connect(`http://${target}`, { settings: { initialWindowSize: 65_535 } })
  t.teardown(() => session.destroy())
  const slow = session.request({
    ':method': 'POST',
    ':path': ADS_PATH.delta,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  const first = encodeRequest('delta', request({ typeUrl: 'k', node: NODE }))
  slow.write(Buffer.concat([messagePrefix(first.length), first]))
  await once(slow, 'response')
  slow.pause()

  const quick = open()
  quick.send({ typeUrl: 'k' })
  let last = await quick.next()
  for (const mark of ['1', '2', '3', '4', '5']) {
    quick.ack(last)
    cache.setType('k', byName(big(mark)))
    last = await quick.next()
  }
  t.match(last.resources, [{ version: big('5').version }])
  const stalled = server.clients().find((one) => one.blocked)
  t.equal(stalled?.pushes, 1, 'one response is held for the slow one')

  const chunks: Buffer[] = []
  let size = 0
  const whole = big('0').body.length
  await new Promise<void>((resolve) => {
    slow.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      if (size < whole || chunks.length === 0) return
      resolve()
    })
    slow.resume()
  })
  const ack = encodeRequest('delta', request({ typeUrl: 'k', responseNonce: '1' }))
  slow.write(Buffer.concat([messagePrefix(ack.length), ack]))
  await new Promise<void>((resolve) => {
    slow.on('data', () => {
      if (Buffer.concat(chunks).includes(big('5').version)) resolve()
    })
  })
  t.notOk(Buffer.concat(chunks).includes(big('3').version), 'what was overtaken is never sent')
})

t.test('listeners in clear are for loopback and unix sockets only', async (t) => {
  const { server, cache } = serve()
  t.teardown(() => server.close(0))
  await t.rejects(server.listen({ host: '0.0.0.0', port: 0 }), {
    message: /loopback address or a unix socket only, not on 0.0.0.0/,
  })
  const folder = mkdtempSync(join(tmpdir(), 'xds-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'xds.sock')
  t.same(await server.listen({ path }), { path })
  t.equal(statSync(path).mode & 0o777, 0o600)
  cache.setType(TYPE.listener, byName(listener('l')))
  const stream = new RawStream(`unix:${path}`)
  t.teardown(() => stream.close())
  stream.send({ typeUrl: TYPE.listener })
  t.match(await stream.next(), { resources: [{ name: 'l' }] })
  t.match(server.clients(), [{ address: 'unix' }])
  const second = serve()
  t.teardown(() => second.server.close(0))
  await t.rejects(second.server.listen({ path }), { code: 'EADDRINUSE' }, 'a socket in use is not taken away')
})

t.test('a socket file that nobody serves is replaced', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xds-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'stale.sock')
  // A process that was killed leaves its file: a handle closed underneath the server does the same.
  const { spawnSync } = await import('node:child_process')
  spawnSync(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ])
  t.ok(statSync(path).isSocket())
  const { server } = serve()
  t.teardown(() => server.close(0))
  t.same(await server.listen({ path }), { path })
})

t.test('what is no gRPC is told so, and closing ends streams with UNAVAILABLE', async (t) => {
  const { server, target, open } = await start(t)
  const session = http2.connect(`http://${target}`)
  session.on('error', () => {})
  for (const [headers, status] of [
    [{ ':method': 'GET', ':path': '/' }, 405],
    [{ ':method': 'POST', ':path': ADS_PATH.delta, 'content-type': 'text/html' }, 415],
  ] as const) {
    const stream = session.request(headers)
    stream.end()
    const [answer] = await once(stream, 'response')
    t.equal(answer[':status'], status)
    stream.resume()
  }
  session.close()
  const stream = open()
  stream.send({ typeUrl: TYPE.cluster })
  await stream.next()
  await server.close(1_000)
  t.match(await stream.status, { code: 14 })
  const taken = createServer().listen(Number(target.split(':')[1]), '127.0.0.1')
  await once(taken, 'listening')
  taken.close()
})

t.test('a connection that never says anything does not hold up closing', async (t) => {
  const { server } = serve()
  const at = await server.listen({ host: '127.0.0.1', port: 0, tls: {} })
  const socket = connect('port' in at ? at.port : 0, '127.0.0.1')
  await once(socket, 'connect')
  await server.close(0)
  await once(socket, 'close')
  t.pass()
})

t.test('a client that does not answer pings is cut, one that does is not', async (t) => {
  const { open, target } = await start(t, { limits: { pingIntervalMs: 20, pingTimeoutMs: 200 } })
  const alive = open()
  alive.send({ typeUrl: 'k' })
  alive.ack(await alive.next())
  const dead = connect(Number(target.split(':')[1]), '127.0.0.1')
  // The preface and an empty SETTINGS frame, and then silence.
  dead.write(
    Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    ]),
  )
  dead.resume()
  await once(dead, 'close')
  alive.send({ typeUrl: 'other' })
  t.match(await alive.next(), { typeUrl: 'other' })
})

t.test(
  'SotW: a complete state that is too large for a gRPC client is sent whole, and said so once',
  async (t) => {
    const warnings: Record<string, unknown>[] = []
    const logger = { ...silentLogger, warn: (fields: object) => warnings.push({ ...fields }) } as Logger
    const { cache, open } = await start(t, { logger })
    const large = Array.from({ length: 5 }, (_, n) => plain(`c${n}`, 'x'.repeat(1024 * 1024), TYPE.cluster))
    cache.setType(TYPE.cluster, byName(...large))
    const sotw = open('sotw')
    sotw.send({ typeUrl: TYPE.cluster })
    t.match(await sotw.status, { code: 8 }, 'this client takes 4 MiB')
    t.match(warnings, [{ node: NODE.id, typeUrl: TYPE.cluster }])
    const delta = open('delta')
    delta.send({ typeUrl: TYPE.cluster })
    const names: string[] = []
    while (names.length < 5) {
      const response = await delta.next()
      names.push(...response.resources.map(({ name }) => name))
      delta.ack(response)
    }
    t.same(
      names.sort(),
      large.map(({ name }) => name),
      'in Delta it comes in parts',
    )
    t.equal(warnings.length, 1)
  },
)
