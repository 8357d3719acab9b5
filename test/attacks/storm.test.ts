// A storm of handshakes and a connection that is open: how many handshakes are let in between two of its round trips. A count, so that
// the speed of the machine does not matter.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { EngineTarget } from '../targets/engine-target.ts'
import { unavailable } from '../targets/target.ts'
import { AttackContext, BANNER, NAME, setScene } from './context.ts'
import { helloFor } from './hello.ts'

const STORM = 400
const scene = await setScene()
t.teardown(() => scene.canary.close())

/** Handshakes that the target answered during each round trip of an open connection, until all are answered. */
async function roundTrips(target: EngineTarget): Promise<number[]> {
  const context = new AttackContext(target, scene)
  const client = context.tls()
  await client.wire.until(() => client.received === BANNER.length)
  const storm = Array.from({ length: STORM }, () => connect({ host: '127.0.0.1', port: target.port('edge') }))
  await Promise.all(storm.map((socket) => once(socket, 'connect')))
  const answered = new Set<Socket>()
  for (const socket of storm) {
    socket.on('error', () => {})
    socket.once('data', () => answered.add(socket))
  }
  const bytes = helloFor(NAME)
  for (const socket of storm) socket.write(bytes)
  const between: number[] = []
  while (answered.size < STORM) {
    const before = answered.size
    const expected = client.received + 1
    client.tls.write('x')
    await client.wire.until(() => client.received >= expected)
    between.push(answered.size - before)
  }
  for (const socket of storm) socket.destroy()
  context.end()
  return between
}

for (const kind of ['node', 'bun'] as const) {
  t.test(
    `${kind}: an open connection goes on through a storm of handshakes`,
    { skip: unavailable(kind) ?? false },
    async (t) => {
      const most = async (handshakesPerTurn: number): Promise<number> => {
        const target = new EngineTarget(kind, { limits: { handshakesPerTurn } })
        await target.update(scene.resources)
        // This process may have to wait for a core, and then sees many at once: of several storms the calmest counts.
        const storms: number[] = []
        for (let i = 0; i < 4; i += 1) storms.push(Math.max(...(await roundTrips(target))))
        await target.stop()
        return Math.min(...storms)
      }
      const [paced, unpaced] = [await most(8), await most(STORM)]
      t.ok(paced < STORM / 2, `${paced} of ${STORM} handshakes at most in one round trip`)
      t.ok(unpaced > 2 * paced, `${unpaced} when they are not paced: it is the pacing that does it`)
    },
  )
}
