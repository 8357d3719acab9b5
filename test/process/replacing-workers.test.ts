// All workers replaced under load, on each runtime.
import type { TLSSocket } from 'node:tls'
import { echoes, World } from './gateway-world.ts'
import { eventually, type Pod } from './pod.ts'
import { onEachRuntime } from './runtimes.ts'
import { storm } from './storm.ts'

/** A ClientHello without a server name, in one record: it is answered by an alert before any crypto (RFC 8446 section 4.1.2). */
function namelessHello(): Buffer {
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32, 7),
    Buffer.from([0, 0, 2, 0x13, 0x01, 1, 0]),
    Buffer.from([0, 7, 0, 43, 0, 3, 2, 3, 4]),
  ])
  const message = Buffer.concat([Buffer.from([1, 0, 0, body.length]), body])
  return Buffer.concat([Buffer.from([22, 3, 1, 0, message.length]), message])
}
const HELLO = namelessHello()
const UNRECOGNIZED_NAME = Buffer.from([21, 3, 3, 0, 2, 2, 112])

const workerLines = (pod: Pod, msg: string) =>
  pod.lines.filter((line) => line.msg === msg && line['child'] === 'worker')

onEachRuntime((t, runtime) => {
  t.test('replacing all workers under load refuses and resets nobody, and cuts nothing', async (t) => {
    const world = await World.create(t)
    const pod = world.start(t, '--workers', '2', '--runtime', runtime, '--drain', '20s')
    await pod.ready('gateway', 2)
    const kept: TLSSocket[] = await Promise.all([1, 2, 3, 4].map(() => world.connect()))
    const load = storm(world.port, { say: HELLO, hear: UNRECOGNIZED_NAME })
    pod.process.kill('SIGHUP')
    await pod.line(({ msg }) => msg === 'all replaced')
    const outcomes = await load.stop()
    t.comment(`${runtime}: ${JSON.stringify(outcomes)}`)
    t.same(Object.keys(outcomes), ['answered'])
    t.ok((outcomes['answered'] ?? 0) > 200, `${outcomes['answered']} connections`)
    t.equal(workerLines(pod, 'replaced').length, 2)
    for (const socket of kept) t.equal(await echoes(socket, 'still here'), 'still here')
    t.equal(await echoes(await world.connect(), 'new'), 'new')
    for (const socket of kept) socket.end()
    // Two of the four workers are gone then: what they counted is not.
    await pod.line((line) => line.msg === 'ended' && line['child'] === 'worker', 2)
    // The second supervisor; the counters are those of all four workers.
    const metrics = await pod.url('metrics', 2)
    const accepted = await eventually(
      async () =>
        (await (await fetch(`${metrics}/metrics`)).text()).match(
          /^isthmus_connections_accepted_total (\d+)$/m,
        ),
      (found) => Number(found?.[1]) === (outcomes['answered'] ?? 0) + kept.length + 1,
    )
    t.ok(accepted)
  })
})
