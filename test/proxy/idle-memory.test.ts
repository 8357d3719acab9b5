// What an idle connection keeps alive, in objects and not in bytes: nothing of what it took to open it, on both runtimes.
import { once } from 'node:events'
import type { TLSSocket } from 'node:tls'
import t from 'tap'
import type { LiveObjects } from '../targets/engine-target.ts'
import { gatewayProcess } from '../targets/gateway-process.ts'
import { unavailable } from '../targets/target.ts'
import { backend } from './support.ts'

const COUNT = 40
/** Of which the runtime's own streams are most. One closure more for each connection of ours fails. */
const MOST = {
  node: { functions: 15, byteArrays: 0, timers: 1, promises: 0 },
  bun: { functions: 10, byteArrays: 0, timers: 0, promises: 0 },
} as const

for (const kind of ['node', 'bun'] as const) {
  const skip = unavailable(kind) ?? false
  t.test(
    `${kind}: an idle connection keeps no ClientHello, certificate, timer, promise or closure`,
    { skip },
    async (t) => {
      const target = await backend()
      const world = await gatewayProcess(kind, target)
      const sockets: TLSSocket[] = []
      const open = async (): Promise<void> => {
        const socket = await world.connect()
        sockets.push(socket.on('error', () => {}))
        socket.write('x')
        await once(socket, 'data')
      }
      // What is made once is there then.
      for (let at = 0; at < 10; at += 1) await open()
      const before = await world.engine.collect()
      for (let at = 0; at < COUNT; at += 1) await open()
      const after = await world.engine.collect()
      for (const what of ['functions', 'byteArrays', 'timers', 'promises'] satisfies (keyof LiveObjects)[]) {
        const each = (after[what] - before[what]) / COUNT
        t.ok(each < MOST[kind][what] + 0.5, `${each} ${what} for each, at most ${MOST[kind][what]}`)
      }
      for (const socket of sockets) socket.destroy()
      await world.stop()
      await target.close()
    },
  )
}
