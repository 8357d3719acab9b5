// What a hostile client can do to the server below gRPC and above it: each flood is cut or capped, and a good client beside it
// is served as before.
import { once } from 'node:events'
import t from 'tap'
import { type Logger, silentLogger } from '../../src/lib/log.ts'
import { encodeRequest } from '../../src/xds/codec-request.ts'
import { messagePrefix } from '../../src/xds/grpc.ts'
import type { XdsServerLimits } from '../../src/xds/server.ts'
import { TYPE } from '../../src/xds/types.ts'
import { byName, cluster, NODE, request } from './fixtures.ts'
import { CALL, connection, END_HEADERS, FRAME, frame, literal, pour } from './raw-http2.ts'
import { RawStream, serve } from './wire.ts'

interface Scope {
  teardown(end: () => unknown): void
}

/** A server, and a good client that can be asked whether it is still served. */
async function start(t: Scope, options: { logger?: Logger; limits?: Partial<XdsServerLimits> } = {}) {
  const served = serve(options)
  const at = await served.server.listen({ host: '127.0.0.1', port: 0 })
  const port = 'port' in at ? at.port : 0
  t.teardown(() => served.server.close(0))
  served.cache.setType(TYPE.cluster, byName(cluster('a')))
  const open = () => {
    const stream = new RawStream(`127.0.0.1:${port}`)
    t.teardown(() => stream.close())
    return stream
  }
  const good = open()
  good.send({ typeUrl: TYPE.cluster })
  good.ack(await good.next())
  let changes = 0
  return {
    ...served,
    port,
    open,
    async serves(): Promise<boolean> {
      const name = `change-${++changes}`
      served.cache.setType(TYPE.cluster, byName(cluster('a'), cluster(name)))
      for (;;) {
        const response = await good.next()
        good.ack(response)
        if (response.resources.some((resource) => resource.name === name)) return true
      }
    },
  }
}

const FLOODS: Readonly<Record<string, { rounds: number; reads: boolean; chunk: (round: number) => Buffer }>> =
  {
    'rapid reset: streams that are opened and taken back at once': {
      rounds: 2_000,
      reads: true,
      chunk: (round) =>
        Buffer.concat(
          Array.from({ length: 100 }, (_, i) => {
            const stream = (round * 100 + i) * 2 + 1
            const cancel = frame(FRAME.reset, 0, stream, Buffer.from([0, 0, 0, 8]))
            return Buffer.concat([frame(FRAME.headers, END_HEADERS, stream, CALL), cancel])
          }),
        ),
    },
    'CONTINUATION flood: headers without an end': {
      rounds: 4_000,
      reads: true,
      chunk: (round) =>
        round === 0
          ? frame(FRAME.headers, 0, 1, CALL)
          : frame(FRAME.continuation, 0, 1, literal('x-flood', 'y'.repeat(8_000))),
    },
    'SETTINGS flood, its acknowledgements not read': {
      rounds: 4_000,
      reads: false,
      chunk: () => Buffer.concat(Array.from({ length: 1_000 }, () => frame(FRAME.settings, 0, 0))),
    },
    'PING flood, its answers not read': {
      rounds: 4_000,
      reads: false,
      chunk: () =>
        Buffer.concat(Array.from({ length: 1_000 }, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)))),
    },
    'WINDOW_UPDATE beyond what a window can be': {
      rounds: 2_000,
      reads: true,
      chunk: () =>
        Buffer.concat(
          Array.from({ length: 1_000 }, () =>
            frame(FRAME.windowUpdate, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff])),
          ),
        ),
    },
  }

for (const [name, { rounds, reads, chunk }] of Object.entries(FLOODS)) {
  t.test(name, async (t) => {
    const server = await start(t)
    const socket = await connection(server.port)
    t.teardown(() => socket.destroy())
    if (!reads) socket.pause()
    await pour(socket, rounds, chunk)
    t.notOk(socket.writable, `cut off after ${socket.bytesWritten} of ${rounds * chunk(1).length} bytes`)
    t.ok(await server.serves(), 'a good client is served')
  })
}

t.test('HPACK bomb: one stored header, referred to thousands of times', async (t) => {
  const server = await start(t)
  const socket = await connection(server.port)
  t.teardown(() => socket.destroy())
  socket.write(
    frame(FRAME.headers, END_HEADERS, 1, Buffer.concat([CALL, literal('x-bomb', 'y'.repeat(3_000), true)])),
  )
  // 15,000 times 3 KB in 15 KB: index 62 is the newest entry of the dynamic table.
  const bomb = Buffer.concat([CALL, Buffer.alloc(15_000, 0x80 | 62)])
  const before = process.memoryUsage.rss()
  await pour(socket, 200, (round) => frame(FRAME.headers, END_HEADERS, 3 + 2 * round, bomb))
  t.ok(await server.serves(), 'a good client is served')
  t.ok(server.server.clients().length <= 2, 'no stream of the bomb is served')
  const grown = process.memoryUsage.rss() - before
  t.ok(grown < 200 * 1_048_576, `memory grew by ${Math.round(grown / 1_048_576)} MB for 9 GB of headers`)
})

t.test('a connection gets so many streams, and no more', async (t) => {
  const server = await start(t, { limits: { maxStreams: 5 } })
  const socket = await connection(server.port)
  t.teardown(() => socket.destroy())
  await pour(socket, 20, (round) => frame(FRAME.headers, END_HEADERS, 1 + 2 * round, CALL))
  t.ok(await server.serves(), 'a good client is served')
  t.ok(server.server.clients().length <= 6, `${server.server.clients().length} streams of two clients`)
})

t.test('a message of 64 MB is refused by its first 5 bytes', async (t) => {
  const server = await start(t)
  const stream = server.open()
  stream.send({ typeUrl: TYPE.cluster })
  stream.ack(await stream.next())
  const socket = await connection(server.port)
  t.teardown(() => socket.destroy())
  socket.write(frame(FRAME.headers, END_HEADERS, 1, CALL))
  const ended = once(socket, 'data')
  socket.write(frame(FRAME.data, 0, 1, messagePrefix(64 * 1_048_576)))
  await ended
  const part = frame(FRAME.data, 0, 1, Buffer.alloc(16_000))
  const before = process.memoryUsage.rss()
  await pour(socket, 200, () => part)
  t.ok(process.memoryUsage.rss() - before < 64 * 1_048_576, 'nothing of it is kept')
  t.ok(await server.serves(), 'a good client is served')
  while (server.server.clients().length > 2) await new Promise(setImmediate)
  t.pass('its stream has ended')
})

t.test('a million resource names are refused, in one message and in many', async (t) => {
  const server = await start(t)
  const names = (from: number, count: number) => Array.from({ length: count }, (_, i) => `n-${from + i}`)
  const one = server.open()
  one.send({ typeUrl: TYPE.endpoints, names: names(0, 1_000_000) })
  t.match(await one.status, { details: /more than 100000 resource names|message of \d+ bytes/ })
  const many = server.open()
  for (let from = 0; from < 1_000_000; from += 50_000)
    many.send({ typeUrl: TYPE.endpoints, names: names(from, 50_000) })
  t.match(await many.status, { code: 8, details: /more than 100000 resource names/ })
  t.ok(await server.serves(), 'a good client is served')
})

t.test('wrong and stale nonces change nothing and are not answered', async (t) => {
  const server = await start(t)
  const stream = server.open()
  stream.send({ typeUrl: TYPE.cluster })
  const first = await stream.next()
  stream.ack(first)
  server.cache.setType(TYPE.cluster, byName(cluster('a'), cluster('b')))
  const second = await stream.next()
  for (let i = 0; i < 2_000; i += 1) {
    stream.send({ typeUrl: TYPE.cluster, responseNonce: first.nonce })
    stream.send({ typeUrl: TYPE.cluster, responseNonce: `wrong-${i}` })
  }
  stream.ack(second)
  server.cache.setType(TYPE.cluster, byName(cluster('a'), cluster('b'), cluster('c')))
  t.match(await stream.next(), { resources: [{ name: 'c' }] }, 'the next response is the next change')
})

t.test(
  'a client that refuses everything again and again is sent nothing twice, and does not fill the log',
  async (t) => {
    let lines = 0
    const logger = Object.assign(Object.create(silentLogger) as Logger, {
      warn() {
        lines += 1
      },
    })
    const server = await start(t, { logger })
    const stream = server.open()
    stream.send({ typeUrl: TYPE.cluster })
    const response = await stream.next()
    for (let i = 0; i < 5_000; i += 1) {
      const errorDetail = `no, for the ${i}th time`
      stream.send({ typeUrl: TYPE.cluster, responseNonce: response.nonce, errorDetail })
    }
    server.cache.setType(TYPE.cluster, byName(cluster('a'), cluster('b')))
    t.match(await stream.next(), { resources: [{ name: 'b' }] }, 'the next response is the next change')
    t.ok(lines <= 100, `${lines} lines for 5,000 refusals`)
    t.ok(await server.serves(), 'a good client is served')
  },
)

t.test('who a client is cannot change on an open stream', async (t) => {
  const asked: string[] = []
  const server = await start(t)
  t.teardown(() => asked)
  const stream = server.open()
  stream.send({ typeUrl: TYPE.cluster })
  stream.ack(await stream.next())
  stream.call.write(
    Buffer.from(
      encodeRequest(
        'delta',
        request({ typeUrl: TYPE.endpoints, names: ['a'], node: { ...NODE, id: 'somebody-else' } }),
      ),
    ),
  )
  await stream.next()
  t.same(
    server.server.clients().map(({ nodeId }) => nodeId),
    [NODE.id, NODE.id],
  )
})
