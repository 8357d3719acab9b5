// Wires that are unplugged, slow, stuck or cut; peers that vanish or do not read.

import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import { becomes } from './becomes.ts'
import { type Fault, lasts, must } from './fault.ts'
import type { Wire } from './network.ts'
import type { RelayMode } from './relay-main.ts'
import { IDLE_S, PRODUCTPAGE } from './resources.ts'
import { footprint, type World } from './world.ts'

const partition = (wire: Wire, costs: Fault['costs'], ms: number, who: string): Fault => ({
  name: `partition: no link to ${who} for ${ms} ms`,
  costs,
  chaos: `wire ${wire}`,
  nodeOnly: wire === 'discovery',
  async begin({ network }, { end }) {
    end(() => network.plug(wire))
    network.unplug(wire)
    await lasts(ms)
  },
})

const SLOW_READERS = 80
/** What the workers' memory may do by itself meanwhile; what the clients have asked for is 320 MB. */
const MORE_KB = 48 * 1_024
const mb = (kb: number): number => Math.round(kb / 1_024)
const GREEDY = Buffer.alloc(4 * 1_048_576, 'GOOD')

const both = (world: World, mode: RelayMode): Promise<unknown> =>
  Promise.all([world.wires.clients.order(mode), world.wires.services.order(mode)])

export const NETWORK_FAULTS: readonly Fault[] = [
  partition('clients', 'new', 1_200, 'the clients'),
  partition('services', 'new', 1_200, 'the services'),
  partition('discovery', 'nothing', 1_500, 'discovery'),
  {
    name: 'delay: 150 ms each way',
    costs: 'nothing',
    chaos: 'relays',
    async begin(world, { end }) {
      end(() => both(world, { mode: 'pass' }))
      await both(world, { mode: 'delay', ms: 150 })
      await lasts(1_200)
    },
  },
  {
    name: 'loss: the wires stall 5 times for 200 ms, as while a packet is sent again',
    costs: 'nothing',
    async begin(world) {
      for (let i = 0; i < 5; i += 1) {
        await both(world, { mode: 'freeze' })
        await lasts(200)
        await both(world, { mode: 'pass' })
        await lasts(100)
      }
    },
  },
  {
    name: 'slow: 24 KB/s each way',
    costs: 'nothing',
    async begin(world, { end }) {
      end(() => both(world, { mode: 'pass' }))
      await both(world, { mode: 'throttle', bytesPerSecond: 24_000 })
      await lasts(1_500)
    },
  },
  ...(['rst', 'fin'] as const).map(
    (how): Fault => ({
      name:
        how === 'rst'
          ? 'both wires cut (RST)'
          : 'both wires cut in the middle of a stream (FIN without close_notify)',
      costs: 'some',
      chaos: 'relays',
      async begin(world) {
        const direct = world.load.keptSince(Date.now(), 'productpage')
        const begun = Date.now()
        await Promise.all([world.wires.clients.order({ cut: how }), world.wires.services.order({ cut: how })])
        await world.load.whole(Date.now(), 10_000)
        const kept = world.load.keptSince(begun, 'productpage')
        must(kept === direct, `${direct - kept} flows were lost that went over no wire`)
      },
    }),
  ),
  {
    name: 'half-open: clients vanish without a word',
    costs: 'some',
    async begin(world, { note, over }) {
      over()
      const workers = await world.workers()
      const clients = await Promise.all(
        Array.from({ length: 20 }, () => dial(world, world.wires.clients.port)),
      )
      const before = footprint(...workers).descriptors
      await world.wires.clients.order({ vanish: true })
      for (const client of clients) client.destroy()
      const ms = await becomes('their descriptors are free again', (IDLE_S + 3) * 1_000, () => {
        return footprint(...workers).descriptors < before - 30
      })
      note(`20 of them: their descriptors were free after ${ms} ms (idle limit ${IDLE_S} s)`)
    },
  },
  {
    name: 'slow readers: clients ask for 4 MB each and read nothing',
    costs: 'nothing',
    async begin(world, { note, end }) {
      const workers = await world.workers()
      const before = footprint(...workers).memoryKb
      // Else the kernel takes it all, and nobody has to wait.
      end(() => world.network.kernelBuffers(4_194_304))
      world.network.kernelBuffers(131_072)
      const clients = await Promise.all(Array.from({ length: SLOW_READERS }, () => dial(world)))
      end(() => clients.map((client) => client.destroy()))
      for (const client of clients) {
        client.pause()
        client.write(GREEDY)
      }
      await lasts(1_500)
      const stalled = footprint(...workers).memoryKb
      await lasts(1_500)
      const more = footprint(...workers).memoryKb - stalled
      note(
        `${SLOW_READERS} of them: workers +${mb(stalled - before)} MB, and ${mb(more)} MB while they went on`,
      )
      must(more < MORE_KB, `they took ${mb(more)} MB more and more`)
    },
  },
]

/** A good caller outside the load, who has been let in and has echoed once. */
async function dial(world: World, relayPort?: number): Promise<TLSSocket> {
  const target = relayPort === undefined ? world.target : { host: '127.0.0.1', port: relayPort }
  const socket = connect({ ...target, servername: PRODUCTPAGE, ...world.load.clientOptions })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  socket.write('GOOD\n')
  await once(socket, 'data')
  return socket
}
