// A gateway tells discovery that it is about to stop, and serves on until those who call it from elsewhere know.
import t from 'tap'
import { rawResource } from '../../src/xds/resource.ts'
import { TYPE } from '../../src/xds/types.ts'
import { echoes, knock, World } from './gateway-world.ts'
import { eventually, getJson } from './pod.ts'

const said = (how: string) => rawResource('withdrawal', TYPE.withdrawal, Buffer.from(how))

t.test(
  'SIGTERM: not ready at once, and no worker stops before discovery says that callers know',
  async (t) => {
    const world = await World.create(t)
    world.cluster.discovery.put(TYPE.withdrawal, said(''))
    const pod = world.start(t, '--drain', '5s')
    await pod.ready('gateway')
    const socket = await world.connect()
    pod.process.kill('SIGTERM')
    await eventually(
      () => Promise.resolve(world.cluster.discovery.clients()),
      (clients) => clients.some(({ types }) => (types[TYPE.withdrawal]?.ackedVersion ?? '') !== ''),
    )
    t.match(await getJson(`${await pod.url('health')}/readyz`), { status: 503, body: ['draining'] })
    t.equal(await knock(world.port), 'connected', 'whoever comes meanwhile is served')
    t.equal(await echoes(socket, 'still here'), 'still here')
    t.notOk(pod.lines.some(({ msg, name }) => msg === 'draining' && name === 'gateway'))
    world.cluster.discovery.put(TYPE.withdrawal, said('every client has answered'))
    t.match(await pod.line(({ msg }) => msg === 'withdrawn'), { withdrawn: 'every client has answered' })
    await pod.line(({ msg, name }) => msg === 'draining' && name === 'gateway')
    socket.end()
    t.same(await pod.exit, [0, null])
  },
)

t.test('a discovery that does not know of this holds nobody up', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t, '--drain', '5s')
  await pod.ready('gateway')
  pod.process.kill('SIGTERM')
  t.match(await pod.line(({ msg }) => msg === 'withdrawn'), { withdrawn: 'discovery does not know how' })
  t.same(await pod.exit, [0, null])
})
