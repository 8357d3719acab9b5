// What is refused is refused with a reason, the reason is counted, and somebody else is served as before.
import t from 'tap'
import { ADS_PATH } from '../../src/xds/methods.ts'
import { TYPE } from '../../src/xds/types.ts'
import { byName, cluster, NODE } from './fixtures.ts'
import { RawStream, serve } from './wire.ts'

async function start(t: { teardown(end: () => unknown): void }, options: Parameters<typeof serve>[0] = {}) {
  const served = serve(options)
  const at = await served.server.listen({ host: '127.0.0.1', port: 0 })
  const target = 'port' in at ? `127.0.0.1:${at.port}` : ''
  t.teardown(() => served.server.close(0))
  served.cache.setType(TYPE.cluster, byName(cluster('a')))
  const open = (path: string = ADS_PATH.delta) => {
    const stream = new RawStream(target, 'delta', path)
    t.teardown(() => stream.close())
    return stream
  }
  return { ...served, open }
}

t.test('each limit has a reason of its own, and is counted by it', async (t) => {
  const limits = {
    maxNames: 3,
    maxTypes: 2,
    maxMessageBytes: 1_000,
    maxRequestsPerSecond: 1,
    requestBurst: 3,
  }
  const { open, server, cache } = await start(t, { limits })
  const good = open()
  good.send({ typeUrl: TYPE.cluster })
  const first = await good.next()

  const attacks: Record<string, (stream: RawStream) => void> = {
    'message-too-large': (stream) => stream.send({ typeUrl: TYPE.cluster, names: ['x'.repeat(2_000)] }),
    'too-many-names': (stream) => {
      stream.send({ typeUrl: TYPE.cluster, names: ['a', 'b', 'c'] })
      stream.send({ typeUrl: TYPE.endpoints, names: ['a'] })
    },
    'too-many-types': (stream) => {
      for (const typeUrl of ['x', 'y', 'z']) stream.send({ typeUrl })
    },
    'too-many-requests': (stream) => {
      for (let n = 0; n < 4; n++) stream.send({ typeUrl: TYPE.cluster })
    },
    'no-node': (stream) => stream.send({ typeUrl: TYPE.cluster, node: { ...NODE, id: '' } }),
    'wrong-type': (stream) => stream.send({ typeUrl: '' }),
    malformed: (stream) => stream.call.write(Buffer.from([0xff, 0xff])),
  }
  for (const [reason, attack] of Object.entries(attacks)) {
    const stream = open()
    attack(stream)
    const { code, details } = await stream.status
    t.ok(code === 3 || code === 8, `${reason}: ${code} ${details}`)
    t.equal(server.refusals.get(reason), 1, reason)
  }
  t.match(await open('/envoy.service.nothing.v3.Nothing/Stream').status, { code: 12 })
  t.equal(server.refusals.get('unknown-method'), 1)

  good.ack(first)
  cache.setType(TYPE.cluster, byName(cluster('a'), cluster('b')))
  t.match(await good.next(), { resources: [{ name: 'b' }] })
})

t.test('one identity has so many streams over all its connections; others are not touched', async (t) => {
  let who = 'spiffe://a/ns/x/sa/greedy'
  const { open, server } = await start(t, { limits: { maxStreamsPerIdentity: 3 }, identify: () => who })
  const greedy = Array.from({ length: 5 }, () => open())
  for (const stream of greedy) stream.send({ typeUrl: TYPE.cluster })
  for (const stream of greedy.slice(0, 3)) await stream.next()
  for (const stream of greedy.slice(3))
    t.match(await stream.status, { code: 8, details: /greedy has 3 streams already/ })
  t.equal(server.refusals.get('too-many-streams'), 2)
  who = 'spiffe://a/ns/x/sa/modest'
  const modest = open()
  modest.send({ typeUrl: TYPE.cluster })
  t.match(await modest.next(), { resources: [{ name: 'a' }] })
  who = 'spiffe://a/ns/x/sa/greedy'
  greedy[0]?.close()
  for (;;) {
    const again = open()
    again.send({ typeUrl: TYPE.cluster })
    const answer = await Promise.race([again.next(), again.status])
    if ('resources' in answer) break
  }
  t.pass('whoever leaves makes room')
})

t.test('not ready, and shutting down, are refused as such', async (t) => {
  let ready = false
  const { open, server } = await start(t, { ready: () => ready })
  t.match(await open().status, { code: 14, details: 'not ready yet' })
  ready = true
  const stream = open()
  stream.send({ typeUrl: TYPE.cluster })
  await stream.next()
  const closed = server.close(1_000)
  t.match(await stream.status, { code: 14, details: 'server is shutting down' })
  await closed
  t.same(
    [...server.refusals],
    [
      ['not-ready', 1],
      ['shutting-down', 1],
    ],
  )
})

t.test('names that are few and long are too many too', async (t) => {
  const { open, server } = await start(t, { limits: { maxNamesLength: 3_000 } })
  const stream = open()
  for (const n of [1, 2, 3, 4]) stream.send({ typeUrl: TYPE.cluster, names: [`${n}`.repeat(1_000)] })
  t.match(await stream.status, { code: 8, details: /names of more than 3000 characters/ })
  t.equal(server.refusals.get('too-many-names'), 1)
})
