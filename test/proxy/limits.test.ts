import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { backend, endpoints, gateway, gone, readAll, SNI } from './support.ts'

t.test('over the limit a connection is reset and logged; those that are open stay', async (t) => {
  const target = await backend()
  const world = await gateway(target, { engine: { limits: { connections: 1 } } })
  const first = await world.connect()
  const second = connect({ host: '127.0.0.1', port: world.port })
  const [error] = (await once(second, 'error')) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNRESET')
  t.match((await world.proxy.lines(1))[0], { flag: 'UO', reason: 'more than 1 connections' })
  first.end('still here')
  t.equal((await readAll(first)).toString(), 'still here')
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('a storm of handshakes waits its turn, and everyone is served', async (t) => {
  const target = await backend()
  const world = await gateway(target, { engine: { limits: { handshakesPerTurn: 1 } } })
  const answers = await Promise.all(
    Array.from({ length: 30 }, async (_, i) => {
      const client = await world.connect()
      client.end(`${i}`)
      return (await readAll(client)).toString()
    }),
  )
  t.same(
    answers,
    Array.from({ length: 30 }, (_, i) => `${i}`),
  )
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('clients that say nothing, or hello and then nothing, do not lock out good ones', async (t) => {
  const target = await backend()
  const world = await gateway(target, { handshakeTimeoutS: 1, engine: { limits: { handshakes: 4 } } })
  const trap = await backend(() => {})
  const recorder = world.open({ port: trap.port })
  recorder.on('error', () => {})
  while (trap.accepts === 0) await new Promise((resolve) => setImmediate(resolve))
  const [hello] = (await once(trap.sockets[0] as Socket, 'data')) as [Buffer]
  recorder.destroy()
  const silent = Array.from({ length: 40 }, () => connect({ host: '127.0.0.1', port: world.port }))
  await Promise.all(silent.map((socket) => once(socket, 'connect')))
  const left = Promise.all(silent.map((socket) => gone(socket.resume())))
  for (const socket of silent.slice(20)) socket.write(hello)
  const client = await world.connect()
  client.end('served')
  t.equal((await readAll(client)).toString(), 'served')
  await left
  const count = (flag: string) => world.proxy.log.filter((line) => line.flag === flag).length
  await world.proxy.lines(41)
  t.same([count('TLS_HELLO'), count('-')], [20, 1])
  t.equal(count('UO') + count('TLS_HANDSHAKE'), 20, 'pushed out by newer ones, or over their time')
  t.ok(count('UO') >= 16)
  await Promise.all([world.proxy.engine.close(), target.close(), trap.close()])
})

t.test('a client that has ended before its upstream is connected is still heard', async (t) => {
  const target = await backend((socket) => {
    socket.resume()
    socket.once('end', () => socket.end('you ended'))
  })
  const world = await gateway(target)
  for (const said of ['', 'something']) {
    const client = await world.connect()
    client.end(said)
    t.equal((await readAll(client)).toString(), 'you ended', said || 'nothing said')
  }
  const lines = await world.proxy.lines(2)
  t.same(
    lines.map(({ flag }) => flag),
    ['-', '-'],
  )
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('a client that leaves while the upstream is being connected frees everything', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  // Nothing answers there: TEST-NET-1 (RFC 5737), or unreachable at once where there is no route.
  world.proxy.put(TYPE.endpoints, endpoints(SNI, [{ host: '192.0.2.1', port: 9 }]))
  const tcp = connect({ host: '127.0.0.1', port: world.port })
  // In TLS 1.2 the client's handshake is over after the server's.
  await world.connect({ socket: tcp, maxVersion: 'TLSv1.2' })
  tcp.resetAndDestroy()
  const [line] = await world.proxy.lines(1)
  t.ok(['DC', 'UF'].includes(line?.flag ?? ''), line?.reason ?? '')
  t.same(world.proxy.engine.status().connections, { open: 0, opening: 0 })
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('cut in the middle of its orderly end, a connection leaves no descriptor behind', async (t) => {
  const sockets = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')
      } catch {
        return false
      }
    }).length
  const before = sockets()
  for (let i = 0; i < 5; i++) {
    const target = await backend()
    const world = await gateway(target)
    const client = await world.connect()
    client.end('x')
    t.equal((await readAll(client)).toString(), 'x')
    await Promise.all([world.proxy.engine.close(), target.close(), gone(client)])
  }
  // Handles close on the loop's next turns.
  for (let turn = 0; turn < 100 && sockets() > before; turn++)
    await new Promise((resolve) => setImmediate(resolve))
  t.ok(sockets() <= before, `${sockets()} sockets, ${before} before`)
})
