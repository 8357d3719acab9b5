import t from 'tap'
import { World } from './gateway-world.ts'
import { getJson } from './pod.ts'

t.test('a gateway calls no local address unless it is told that it may', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t, '--allow-local-endpoints', 'false')
  await pod.ready('gateway')
  const socket = await world.connect()
  socket.resume()
  t.match(await pod.line(({ msg }) => msg === 'access'), {
    flag: 'UH',
    reason: /is refused: expected no local address, found loopback/,
  })
  t.equal(world.target.accepts, 0)
  t.match((await getJson(`${await pod.url('admin')}/status`)).body, {
    worker: { engine: { problems: [{ field: /^endpoint 127\.0\.0\.1:/, message: /loopback/ }] } },
  })
  socket.destroy()
})
