// How a gateway ends.
import { execFile } from 'node:child_process'
import type { TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import t from 'tap'
import { gone, SNI } from '../proxy/support.ts'
import { echoes, knock, statusOf, World } from './gateway-world.ts'
import { eventually, getJson, MAIN } from './pod.ts'
import { onEachRuntime } from './runtimes.ts'

t.test('isthmus drain waits for connections, cuts the rest, and says which', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t, '--drain', '3s')
  await pod.ready('gateway')
  const [quick, stubborn] = [await world.connect(), await world.connect()]
  await Promise.all([echoes(quick, 'a'), echoes(stubborn, 'b')])
  const admin = await pod.url('admin')
  const drain = promisify(execFile)(process.execPath, [MAIN, 'drain', '--admin', new URL(admin).host])
  await pod.line(({ msg }) => msg === 'draining')
  t.match(await getJson(`${await pod.url('health')}/readyz`), { status: 503, body: ['draining'] })
  t.equal(await echoes(quick, 'still served'), 'still served')
  quick.end()
  const { stdout } = await drain
  t.same(JSON.parse(stdout), { drained: true, finished: 1, cut: { [SNI]: 1 } })
  t.match(await pod.line((line) => line['flag'] === 'DRAIN'), { msg: 'access', upstream: SNI })
  pod.process.kill('SIGTERM')
  t.same(await pod.exit, [0, null])
})

t.test('SIGTERM drains by itself and ends with 0; a new credential is taken without a cut', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t, '--drain', '10s')
  await pod.ready('gateway')
  const socket = await world.connect()
  const serial = (one: TLSSocket) => one.getPeerCertificate().serialNumber
  const before = serial(socket)
  await world.cluster.certify('gateway')
  await eventually(
    async () => {
      const probe = await world.connect()
      const found = serial(probe)
      probe.destroy()
      return found
    },
    (found) => found !== before,
  )
  t.equal(await echoes(socket, 'kept'), 'kept')
  pod.process.kill('SIGTERM')
  await pod.line(({ msg, name }) => msg === 'draining' && name === 'gateway')
  t.equal(await echoes(socket, 'and still'), 'and still')
  socket.end()
  t.same(await pod.exit, [0, null])
  t.notOk(pod.lines.some((line) => line['flag'] === 'DRAIN'))
})

onEachRuntime((t, runtime) => {
  t.test(
    'a drain asked for at the admin port is one of all workers, and what ends has no successor',
    async (t) => {
      const world = await World.create(t)
      const pod = world.start(t, '--workers', '2', '--runtime', runtime, '--drain', '1s')
      await pod.ready('gateway', 2)
      const sockets = await Promise.all(Array.from({ length: 8 }, () => world.connect()))
      for (const socket of sockets) await echoes(socket, 'hello')
      const ended = Promise.all(sockets.map(gone))
      const admin = await pod.url('admin')
      await eventually(
        () => statusOf(pod),
        (one) => one.workers.length === 2,
      )
      const answer = fetch(`${admin}/drain`, { method: 'POST' })
      await eventually(
        () => knock(world.port),
        (how) => how === 'ECONNREFUSED',
      )
      t.match(await getJson(`${await pod.url('health')}/readyz`), { status: 503, body: ['draining'] })
      for (const socket of sockets.slice(0, 3)) socket.end()
      const report = (await (await answer).json()) as { finished: number; cut: object }
      t.same(report.cut, { [SNI]: 5 })
      t.ok(report.finished >= 3, 'those that ended, and ours that knocked')
      await ended
      pod.process.kill('SIGTERM')
      t.same(await pod.exit, [0, null])
      t.match(pod.lines.at(-1), { msg: 'stopped', code: 0, finished: report.finished, cut: { [SNI]: 5 } })
      t.notOk(pod.lines.some(({ msg }) => msg.startsWith('died')))
    },
  )

  t.test('a launcher that is killed takes the workers along', async (t) => {
    const world = await World.create(t)
    const pod = world.start(t, '--runtime', runtime)
    await pod.ready('gateway')
    const socket = await world.connect()
    const closed = gone(socket)
    pod.process.kill('SIGKILL')
    await closed
    await eventually(
      () => knock(world.port),
      (how) => how === 'ECONNREFUSED',
    )
    t.pass('nobody is left')
  })
})
