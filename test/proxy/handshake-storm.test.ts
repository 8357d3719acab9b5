// A storm of handshakes over a connection that is open, in one process, so that turns of the event loop can be counted.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { helloFor } from '../attacks/hello.ts'
import { backend, gateway, SNI } from './support.ts'

const STORM = 200

/** Handshakes that were begun during each round trip of an open connection, while there were any left. */
async function begunBetweenAnswers(limits: { readonly handshakesPerTurn?: number }): Promise<number[]> {
  const target = await backend()
  const world = await gateway(target, { engine: { limits } })
  const open = await world.connect()
  const storm = Array.from({ length: STORM }, () => connect({ host: '127.0.0.1', port: world.port }))
  await Promise.all(storm.map((socket) => once(socket, 'connect')))
  // All accepted (one in a turn), so that it is the handshakes that take turns.
  while (world.proxy.engine.status().connections.opening < STORM)
    await new Promise((resolve) => setImmediate(resolve))
  const answered = new Set<Socket>()
  for (const socket of storm) {
    socket.on('error', () => {})
    socket.once('data', () => answered.add(socket))
  }
  const hello = helloFor(SNI)
  for (const socket of storm) socket.write(hello)
  const between: number[] = []
  while (answered.size < STORM) {
    const before = answered.size
    open.write('x')
    await once(open, 'data')
    between.push(answered.size - before)
  }
  for (const socket of storm) socket.destroy()
  open.destroy()
  await Promise.all([world.proxy.engine.close(), target.close()])
  return between
}

t.test(
  'an open connection is served between handshakes, of which a turn of the loop begins one',
  async (t) => {
    const [paced, unpaced] = [
      await begunBetweenAnswers({}),
      await begunBetweenAnswers({ handshakesPerTurn: STORM }),
    ]
    // A round trip takes some turns: to the gateway, to the service, and back.
    t.ok(Math.max(...paced) <= 8, `${Math.max(...paced)} of ${STORM} handshakes at most in one round trip`)
    t.ok(Math.max(...unpaced) > STORM / 2, `${Math.max(...unpaced)} when they are not paced`)
  },
)
