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
  type Status = { body: { ready: boolean; generation: number; worker: { generation: number } } }
  const status = await eventually(
    () => getJson(`${admin}/status`) as Promise<Status>,
    ({ body }) => body.ready,
  )
  t.equal(status.body.generation, 2, 'another supervisor')
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
