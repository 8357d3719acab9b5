// A gateway that starts without discovery.
import { readdirSync } from 'node:fs'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { TYPE } from '../../src/xds/types.ts'
import { gone, trustSecret } from '../proxy/support.ts'
import { echoes, World } from './gateway-world.ts'
import { eventually, getJson } from './pod.ts'

/** `snapshot.previous` is there once another configuration than the first has been saved. */
async function saved(world: World, file: 'snapshot' | 'snapshot.previous'): Promise<void> {
  await eventually(
    async () => readdirSync(world.runDirectory),
    (files) => files.includes(file),
  )
}

t.test('a start without discovery serves the snapshot, and follows discovery once it is there', async (t) => {
  const world = await World.create(t)
  const first = world.start(t)
  await first.ready('gateway')
  await saved(world, 'snapshot')
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

t.test('what was taken back before a restart without discovery stays taken back', async (t) => {
  const world = await World.create(t)
  const first = world.start(t)
  await first.ready('gateway')
  t.equal(await echoes(await world.connect(), 'trusted'), 'trusted')
  await saved(world, 'snapshot')
  const other = await createCa({ trustDomain: 'elsewhere.example' })
  world.cluster.discovery.put(TYPE.secret, trustSecret([other]))
  await saved(world, 'snapshot.previous')
  first.process.kill('SIGTERM')
  await first.exit
  await world.cluster.discovery.stop()
  const pod = world.start(t)
  await pod.ready('gateway')
  const accepted = world.target.accepts
  const refused = await world.connect()
  refused.write('let me in')
  await gone(refused)
  t.equal(world.target.accepts, accepted)
  t.match(await pod.line(({ msg }) => msg === 'access'), { flag: 'ID_REFUSED' })
})
