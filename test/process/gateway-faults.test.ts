import { readdirSync } from 'node:fs'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { backend, endpoints, SNI } from '../proxy/support.ts'
import { echoes, World } from './gateway-world.ts'
import { eventually, getJson } from './pod.ts'

t.test('the death of the supervisor costs nothing; its successor goes on where it was', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t)
  await pod.ready('gateway')
  const socket = await world.connect()
  t.equal(await echoes(socket, 'before'), 'before')
  process.kill(await pod.pid('supervisor'), 'SIGKILL')
  const fresh = await world.connect()
  t.equal(
    await echoes(fresh, 'a new connection without a supervisor'),
    'a new connection without a supervisor',
  )
  const admin = await pod.url('admin', 2)
  t.equal(await echoes(socket, 'after'), 'after')
  type Status = { body: { ready: boolean; worker: { generation: number } } }
  const status = await eventually(
    () => getJson(`${admin}/status`) as Promise<Status>,
    ({ body }) => body.ready,
  )
  t.equal(status.body.worker.generation, 1, 'the same worker')
  const second = await backend()
  t.teardown(() => second.close())
  world.cluster.discovery.put(TYPE.endpoints, endpoints(SNI, [{ port: second.port }]))
  await eventually(
    async () => {
      const socket = await world.connect()
      await echoes(socket, 'x')
      socket.destroy()
    },
    () => second.accepts > 0,
  )
  t.equal(await echoes(socket, 'still there'), 'still there')
})

t.test('a worker that dies is replaced and serves what the supervisor has', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t)
  await pod.ready('gateway')
  await world.cluster.discovery.stop()
  process.kill(await pod.pid('worker'), 'SIGKILL')
  await pod.ready('gateway', 2)
  t.equal(await echoes(await world.connect(), 'again'), 'again')
  const health = await pod.url('health')
  await eventually(
    () => getJson(`${health}/readyz`),
    ({ status }) => status === 200,
  )
})

t.test('a start without discovery serves the snapshot, and follows discovery once it is there', async (t) => {
  const world = await World.create(t)
  const first = world.start(t)
  await first.ready('gateway')
  await eventually(
    async () => readdirSync(world.runDirectory),
    (files) => files.includes('snapshot'),
  )
  first.process.kill('SIGTERM')
  t.same(await first.exit, [0, null])
  await world.cluster.discovery.stop()
  const pod = world.start(t)
  await pod.ready('gateway')
  t.equal(await echoes(await world.connect(), 'from disk'), 'from disk')
  const admin = await pod.url('admin')
  type Status = { body: { ready: boolean; source: string } }
  const { body } = await eventually(
    () => getJson(`${admin}/status`) as Promise<Status>,
    (one) => one.body.ready,
  )
  t.match(body.source, /snapshot$/)
  // Deleted while we were away: the new stream must say so.
  world.cluster.discovery.put(TYPE.cluster)
  await world.cluster.discovery.start()
  await eventually(
    () => fetch(`${admin}/clusters`).then((response) => response.text()),
    (text) => text === '',
  )
})
