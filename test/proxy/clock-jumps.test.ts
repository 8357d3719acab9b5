// The wall clock is set while connections are open: what has ended by it is cut, and nothing else is.
import { once } from 'node:events'
import { connect as connectPlain } from 'node:net'
import type { TLSSocket } from 'node:tls'
import t from 'tap'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import { TYPE } from '../../src/xds/types.ts'
import {
  allow,
  backend,
  credentialSecret,
  endpoints,
  gateway,
  gatewayListener,
  gone,
  OUTBOUND,
  sidecarListener,
  TestProxy,
  trustSecret,
  upstream,
  uriPrincipal,
} from './support.ts'

const HOUR_MS = 3_600_000
const GATEWAY_ID = 'spiffe://cluster-2.example/ns/eastwest/sa/gateway'

/** The real clock, but for the time of day. */
class SetClock implements Clock {
  offsetMs = 0
  readonly after = systemClock.after
  now(): number {
    return Date.now() + this.offsetMs
  }
}

async function world(t: { teardown(end: () => unknown): void }) {
  const target = await backend()
  const clock = new SetClock()
  const there = await gateway(target, { engine: { clock } })
  t.teardown(() => Promise.all([there.proxy.engine.close(), target.close()]))
  return { target, clock, ...there }
}

async function echoes(socket: TLSSocket): Promise<boolean> {
  socket.write('x')
  await once(socket, 'data')
  return true
}

t.test('forward past the end of certificates: open connections are cut, new ones refused', async (t) => {
  const { target, clock, proxy, connect } = await world(t)
  const sockets = await Promise.all([connect(), connect()])
  await Promise.all(sockets.map(echoes))
  clock.offsetMs = 30 * 24 * HOUR_MS
  await Promise.all(sockets.map(gone))
  t.match(await proxy.lines(2), [{ flag: 'ID_EXPIRED' }, { flag: 'ID_EXPIRED' }])
  const { accepts } = target
  await gone(await connect())
  t.match((await proxy.lines(3))[2], { flag: 'ID_REFUSED', reason: /expired/ })
  t.equal(target.accepts, accepts, 'and causes no connect')
})

t.test('forward by minutes: a connection that is still in its handshake has its whole time', async (t) => {
  const { clock, port, proxy, connect } = await world(t)
  // The hello comes only after the clock was set.
  const raw = connectPlain(port, '127.0.0.1')
  await once(raw, 'connect')
  while (proxy.engine.status().connections.opening === 0) await new Promise(setImmediate)
  clock.offsetMs = 6 * 60_000
  const socket = await connect({ socket: raw })
  t.ok(await echoes(socket))
  socket.end()
  const [line] = await proxy.lines(1)
  t.match(line, { flag: '-' })
  t.ok(
    (line?.durationMs ?? -1) >= 0 && (line?.durationMs ?? 0) < 5 * 60_000,
    'and its duration is that of its life',
  )
})

t.test('forward past the end of the server’s certificate: the calling side cuts it too', async (t) => {
  const far = await world(t)
  const clock = new SetClock()
  const proxy = new TestProxy({ clock })
  t.teardown(() => proxy.engine.close())
  proxy.put(TYPE.cluster, upstream(OUTBOUND, { pins: [GATEWAY_ID] }))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: far.port, tls: true }]))
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  proxy.put(TYPE.secret, credentialSecret(far.client), trustSecret([far.home, far.peer]))
  const client = connectPlain(await proxy.port('productpage_9080'), '127.0.0.1')
  client.write('x')
  await once(client, 'data')
  clock.offsetMs = 30 * 24 * HOUR_MS
  await gone(client)
  t.match((await proxy.lines(1))[0], { flag: 'ID_EXPIRED', reason: /certificate of the server/ })
})

t.test('back by an hour: young certificates are refused, connections that are open go on', async (t) => {
  const { clock, proxy, connect } = await world(t)
  const socket = await connect()
  t.ok(await echoes(socket))
  clock.offsetMs = -HOUR_MS
  await gone(await connect())
  t.match((await proxy.lines(1))[0], { flag: 'ID_REFUSED', reason: /not valid/ })
  const rbac = allow({ callers: [uriPrincipal('prefix', 'spiffe://cluster-1.example/')] })
  proxy.put(TYPE.listener, gatewayListener({ rbac }))
  t.ok(await echoes(socket), 'judged again, by a policy that allows it')
  proxy.put(
    TYPE.listener,
    gatewayListener({ rbac: allow({ nobody: [uriPrincipal('exact', 'spiffe://x/y')] }) }),
  )
  await gone(socket)
  t.match((await proxy.lines(2))[1], { flag: 'RBAC_DENIED' }, 'and by one that does not')
})
