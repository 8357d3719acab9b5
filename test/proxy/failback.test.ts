import { once } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import type { AccessLogEntry } from '../../src/proxy/access-log.ts'
import { Connection } from '../../src/proxy/connection.ts'
import type { Endpoint } from '../../src/proxy/endpoint.ts'
import { Failback } from '../../src/proxy/failback.ts'
import type { Pump } from '../../src/proxy/pump.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { TYPE } from '../../src/xds/types.ts'
import { HandClock } from './hand-clock.ts'
import { dial } from './raw-client.ts'
import {
  backend,
  echo,
  endpoints,
  OUTBOUND,
  readAll,
  sidecarListener,
  TestProxy,
  upstream,
} from './support.ts'
import { clusterOf } from './upstream-resource.ts'

/** A sidecar with a near and a far server; `near(false)` says that the near one is not well. */
async function sidecar(far: { readonly port: number }, near: { readonly port: number }, deadlineMs: number) {
  const proxy = new TestProxy()
  const put = (well: boolean) =>
    proxy.put(
      TYPE.endpoints,
      endpoints(OUTBOUND, [
        { port: near.port, priority: 0, unhealthy: !well },
        { port: far.port, priority: 1 },
      ]),
    )
  proxy.put(TYPE.cluster, upstream(OUTBOUND, { failback: { quiet_ms: 250, deadline_ms: deadlineMs } }))
  put(false)
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const port = await proxy.port('productpage_9080')
  return { proxy, near: put, dial: () => dial(port) }
}

const said = async (socket: Socket): Promise<string> => String((await once(socket, 'data'))[0])

t.test('connections go home once they rest, an answer that is owed comes first', async (t) => {
  const [far, near] = [await backend((socket) => void socket.on('data', answer)), await backend(echo)]
  function answer(this: Socket, chunk: Buffer) {
    if (!String(chunk).startsWith('slow')) this.write(chunk)
  }
  const world = await sidecar(far, near, 600_000)
  const [resting, waiting] = [await world.dial(), await world.dial()]
  resting.write('hello')
  t.equal(await said(resting), 'hello')
  waiting.write('slow')
  while (far.bytes < 'helloslow'.length) await once(far.sockets.at(-1) as Socket, 'data')
  t.equal(near.accepts, 0, 'while the near one is not well, the far one serves')

  world.near(true)
  t.equal((await readAll(resting)).length, 0, 'ended in order, with nothing lost')
  resting.end()
  const [moved] = await world.proxy.lines(1)
  t.match(moved, { flag: 'DRAIN', reason: /^moved back: a better priority .* nothing was under way$/ })
  t.equal(moved?.endpoint, `127.0.0.1:${far.port}`)
  const next = await world.dial()
  next.write('again')
  t.equal(await said(next), 'again')
  t.equal(near.accepts, 1, 'and the next call is at home')

  t.equal(world.proxy.engine.status().connections.open, 2, 'who waits for his answer stays')
  for (const socket of far.sockets) if (!socket.destroyed) socket.write('the answer')
  t.equal(await said(waiting), 'the answer')
  t.equal((await readAll(waiting)).length, 0)
  t.match((await world.proxy.lines(2))[1], { flag: 'DRAIN', reason: /nothing was under way/ })
  next.end()
  waiting.end()
  await world.proxy.engine.close()
  await Promise.all([far.close(), near.close()])
})

t.test('one that never rests is cut at the deadline, so that nobody takes it for whole', async (t) => {
  const far = await backend((socket) => {
    const timer = setInterval(() => socket.write('tick'), 50)
    socket.on('close', () => clearInterval(timer))
  })
  const near = await backend()
  const world = await sidecar(far, near, 1_000)
  const client = await world.dial()
  t.match(await said(client), /^tick/)
  client.on('error', () => undefined).resume()
  world.near(true)
  t.match((await world.proxy.lines(1))[0], { flag: 'DRAIN', reason: /well again for 1000 ms$/ })
  client.destroy()
  await world.proxy.engine.close()
  await Promise.all([far.close(), near.close()])
})

t.test('who is well again for a moment only moves nobody, and the time to rest begins anew', async (t) => {
  const clock = new HandClock()
  const ended: AccessLogEntry[] = []
  const [far, other] = [{} as Endpoint, {} as Endpoint]
  let passedOver: Endpoint[] = []
  const failback = new Failback({ clock, upstream: 'u', passedOver: () => passedOver })
  failback.configure({ quietMs: 1_000, deadlineMs: 45_000 })
  const open = (endpoint: Endpoint) => {
    const pump = {
      bytesIn: 1,
      bytesOut: 1,
      upstreamSpokeLast: true,
      close: () => undefined,
    } as unknown as Pump
    const init = { listener: 'l', service: { host: '', port: 0, protocol: '' }, remoteAddress: '' }
    const connection = new Connection(
      init as ConstructorParameters<typeof Connection>[0],
      { clock, onEnd: (_, entry) => ended.push(entry) },
      { phase: 'open', pump },
    )
    failback.watch(connection, endpoint)
    return connection
  }
  const connection = open(far)
  open(other)
  const turn = (home: boolean) => {
    passedOver = home ? [far] : []
    failback.changed()
  }
  turn(true)
  clock.advance(1_000)
  turn(false)
  clock.advance(60_000)
  t.strictSame([ended, clock.pending], [[], 0], 'nobody is looked at while everything is as it should be')
  turn(true)
  clock.advance(1_000)
  t.strictSame(ended, [])
  clock.advance(250)
  t.equal(connection.ended, true)
  t.strictSame([ended.length, clock.pending], [1, 0], 'and the one on another endpoint stays')
  t.end()
})

t.test('its field is whole numbers of milliseconds, or the Cluster is refused', async (t) => {
  const read = (failback: unknown) =>
    acceptUpstream(clusterOf('u', { metadata: { filterMetadata: { isthmus: { failback } } } } as never))
  t.match(read({ quiet_ms: 1, deadline_ms: 2 }), { value: { failback: { quietMs: 1, deadlineMs: 2 } } })
  for (const wrong of [{}, 5, { quiet_ms: 0, deadline_ms: 1 }, { quiet_ms: 1.5, deadline_ms: 1 }])
    t.match(JSON.stringify(read(wrong)), /isthmus\\*"\]\.failback.*expected quiet_ms/, JSON.stringify(wrong))
  t.match(acceptUpstream(clusterOf('u', {})), { value: { failback: undefined } })
})
