// Who stops reading, or is not read, holds little of a gateway's memory, on both runtimes.
import { once } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { residentBytes, settledResidentBytes } from '../../bench/process-stats.ts'
import { median } from '../../bench/statistics.ts'
import { gatewayProcess } from '../targets/gateway-process.ts'
import { unavailable } from '../targets/target.ts'
import { backend } from './support.ts'

const COUNT = 60
/** A process takes its memory by the megabyte, whoever is about to need it: at sixty connections one measurement is 60 KB a connection off. */
const ROUNDS = { node: 5, bun: 1 }

for (const kind of ['node', 'bun'] as const) {
  const skip = unavailable(kind) ?? false
  // Bun takes up to 512 KB out of the kernel in one read: what of it the other side does not take waits, once, and nothing behind it.
  const mostKb = kind === 'node' ? 192 : 576
  t.test(`${kind}: who stops reading holds at most ${mostKb} KB, and no more later`, { skip }, async (t) => {
    const rounds: number[] = []
    for (let round = 0; round < ROUNDS[kind]; round += 1) {
      const { each, more, later } = await heldByStalled(kind)
      rounds.push(each)
      t.ok(later < more * 1.1, `${more} bytes, and later ${later}`)
    }
    const each = median(rounds)
    t.ok(each <= mostKb, `${each.toFixed(0)} KB each, of ${rounds.map((one) => one.toFixed(0)).join(', ')}`)
  })
}

/** What a process of its own holds for each of `COUNT` stalled connections, in KB; and in all, then and a little later, in bytes. */
async function heldByStalled(kind: 'node' | 'bun'): Promise<{ each: number; more: number; later: number }> {
  const chunk = Buffer.alloc(65_536, 'x')
  const stalled: Socket[] = []
  const target = await backend((socket) => {
    socket.once('data', (data) => {
      if (data[0] === 0x55) return void socket.pause()
      pour(socket, chunk)
    })
  })
  const world = await gatewayProcess(kind, target)
  const stall = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += 1) {
      const socket = await world.connect()
      stalled.push(socket.on('error', () => {}))
      if (at % 2 === 0) {
        socket.write('D')
        await once(socket, 'readable')
      } else {
        socket.write('U')
        pour(socket, chunk)
      }
    }
  }
  const weigh = async (): Promise<number> => {
    await settledResidentBytes(world.engine.pid, 3_000)
    await world.engine.collect()
    return settledResidentBytes(world.engine.pid, 1_000)
  }
  // Few enough for the kernel: each holds some eight megabytes there, and over its limit (tcp_mem) it resets anybody's connections.
  await stall(20)
  const some = await weigh()
  await stall(COUNT)
  const more = await weigh()
  const later = residentBytes(world.engine.pid)
  for (const socket of stalled) socket.destroy()
  await world.stop()
  await target.close()
  return { each: (more - some) / COUNT / 1_024, more, later }
}

/** Writes for ever, as fast as it is taken. */
function pour(socket: Socket, chunk: Buffer): void {
  const more = (): void => {
    while (!socket.destroyed) if (!socket.write(chunk)) return void socket.once('drain', more)
  }
  more()
}
