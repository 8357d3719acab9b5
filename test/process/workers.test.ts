// Several workers on one port, on each runtime.
import type { TLSSocket } from 'node:tls'
import { TYPE } from '../../src/xds/types.ts'
import { gatewayListener } from '../proxy/support.ts'
import { echoes, knock, statusOf, type WorkerPart, World } from './gateway-world.ts'
import { eventually } from './pod.ts'
import { onEachRuntime } from './runtimes.ts'

onEachRuntime((t, runtime) => {
  t.test('a worker that dies takes its own connections along, and no others', async (t) => {
    const world = await World.create(t)
    const pod = world.start(t, '--workers', '2', '--runtime', runtime)
    await pod.ready('gateway', 2)
    const sockets: TLSSocket[] = await Promise.all(Array.from({ length: 12 }, () => world.connect()))
    for (const socket of sockets) await echoes(socket, 'hello')
    const { workers } = await eventually(
      () => statusOf(pod),
      (one) => one.workers.length === 2,
    )
    t.match(workers, [
      { slot: 0, generation: 1, state: 'serving', runtime },
      { slot: 1, generation: 1, state: 'serving', runtime },
    ])
    t.equal(
      workers.reduce((sum, { connections }) => sum + connections.open, 0),
      12,
    )
    const [victim, other] = workers as [WorkerPart, WorkerPart]
    let lost = 0
    for (const socket of sockets) socket.once('close', () => lost++)
    process.kill(victim.pid, 'SIGKILL')
    for (const _ of [1, 2, 3, 4, 5]) t.equal(await echoes(await world.connect(), 'meanwhile'), 'meanwhile')
    await eventually(
      async () => lost,
      (count) => count === victim.connections.open,
    )
    const after = await eventually(
      () => statusOf(pod),
      (one) => one.workers.length === 2 && one.workers.every(({ state }) => state === 'serving'),
    )
    t.match(after.workers, [
      { slot: 0, generation: 2 },
      { slot: 1, generation: 1, pid: other.pid },
    ])
    t.equal(lost, victim.connections.open, 'no more were lost')
  })

  t.test(
    'a listener that is taken away is refused at once, and served again when it comes back',
    async (t) => {
      const world = await World.create(t)
      const pod = world.start(t, '--workers', '2', '--runtime', runtime)
      await pod.ready('gateway', 2)
      const kept = await world.connect()
      const { discovery } = world.cluster
      discovery.put(TYPE.listener)
      await eventually(
        () => knock(world.port),
        (how) => how === 'ECONNREFUSED',
      )
      t.equal(await echoes(kept, 'still there'), 'still there')
      discovery.put(TYPE.listener, gatewayListener({ port: world.port }))
      await eventually(
        () => knock(world.port),
        (how) => how === 'connected',
      )
      t.equal(await echoes(await world.connect(), 'again'), 'again')
      const { workers } = await eventually(
        () => statusOf(pod),
        (one) => one.workers.filter(({ state }) => state === 'serving').length === 2,
      )
      t.ok(
        workers.every(({ state, generation }) => generation === (state === 'serving' ? 2 : 1)),
        JSON.stringify(workers),
      )
    },
  )
})
