// What goes through a gateway comes out, on both runtimes: every byte, in order, in the right connection, whatever the pieces are.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { gatewayProcess } from '../targets/gateway-process.ts'
import { unavailable } from '../targets/target.ts'
import { backend } from './support.ts'

const RUNTIMES = ['node', 'bun'] as const
const SEED = Number(process.env['PUMP_SEED'] ?? 20_261)

/** xorshift32: the same numbers for the same seed. */
function random(seed: number): (below: number) => number {
  let state = seed | 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** What a side says: pieces of 1 B to 1 MB, no two sides alike. The small ones are many, as in life. */
function speech(seed: number): Buffer[] {
  const next = random(seed)
  const pieces = Array.from({ length: 1 + next(40) }, () => {
    const size = 1 + next([16, 300, 20_000, 70_000][next(4)] ?? 1)
    const piece = Buffer.allocUnsafe(size)
    for (let at = 0; at < size; at += 1) piece[at] = seed + at * 31 + (at >> 8)
    return piece
  })
  if (next(6) === 0) pieces.push(Buffer.alloc(1_048_576 - next(70_000), seed))
  return pieces
}

const digest = (pieces: readonly Buffer[]): string => {
  const hash = createHash('sha256')
  for (const piece of pieces) hash.update(piece)
  return hash.digest('hex')
}

/** Says it all, in bursts, then ends. */
async function say(
  socket: Socket,
  pieces: readonly Buffer[],
  next: (below: number) => number,
): Promise<void> {
  for (const piece of pieces) {
    const room = socket.write(piece)
    if (!room) await once(socket, 'drain')
    else if (next(4) === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  socket.end()
}

/** Hears everything until the end, and does not listen all the time. */
async function hear(socket: Socket, next: (below: number) => number): Promise<string> {
  const hash = createHash('sha256')
  socket.on('data', (chunk) => {
    hash.update(chunk)
    if (next(8) > 0) return
    socket.pause()
    setTimeout(() => socket.resume(), next(4))
  })
  await once(socket, 'end')
  return hash.digest('hex')
}

for (const kind of RUNTIMES) {
  const skip = unavailable(kind) ?? false

  t.test(
    `${kind}: any pieces both ways at once, fifty connections, none hears another`,
    { skip },
    async (t) => {
      const heard = new Map<number, Promise<string>>()
      const target = await backend((socket) => {
        // The first four bytes say who it is.
        socket.once('readable', () => {
          const id = (socket.read(4) as Buffer).readUInt32BE()
          heard.set(id, hear(socket, random(id + 1)))
          void say(socket, speech(id + 0x5000), random(id + 2))
        })
      })
      const world = await gatewayProcess(kind, target)
      const speak = async (id: number): Promise<void> => {
        const socket = await world.connect()
        const name = Buffer.alloc(4)
        name.writeUInt32BE(id)
        socket.write(name)
        const [answer] = await Promise.all([
          hear(socket, random(id + 3)),
          say(socket, speech(id), random(id + 4)),
        ])
        if (answer !== digest(speech(id + 0x5000))) t.fail(`${id}: what came down is not what was said`)
        if ((await heard.get(id)) !== digest(speech(id))) t.fail(`${id}: what went up is not what was said`)
      }
      for (let round = 0; round < 2; round += 1)
        await Promise.all(Array.from({ length: 50 }, (_, at) => speak(SEED + round * 1_000 + at)))
      t.equal(heard.size, 100, `seed ${SEED}`)
      await world.stop()
      await target.close()
    },
  )

  t.test(`${kind}: what waits for a slow reader is not what others have sent since`, { skip }, async (t) => {
    const said = new Map<number, string>()
    const full: Promise<void>[] = []
    const target = await backend((socket) => {
      socket.once('data', ([id = 0]) => {
        let isFull = (): void => {}
        full.push(
          new Promise((resolve) => {
            isFull = resolve
          }),
        )
        void drip(socket, id, isFull).then((hash) => said.set(id, hash))
      })
    })
    const world = await gatewayProcess(kind, target)
    const clients = await Promise.all([1, 2, 3].map(() => world.connect()))
    for (const [at, socket] of clients.entries()) socket.write(Buffer.of(at + 1))
    while (full.length < clients.length) await new Promise((resolve) => setImmediate(resolve))
    await Promise.all(full)
    const heard = await Promise.all(clients.map((socket) => hear(socket, () => 1)))
    for (const [at, hash] of heard.entries()) t.equal(hash, said.get(at + 1), `connection ${at + 1}`)
    for (const socket of clients) socket.destroy()
    await world.stop()
    await target.close()
  })
}

/** Says 12 MB in small pieces, a few in each turn, so that each is read alone; tells when nothing more fits on the way. */
async function drip(socket: Socket, id: number, full: () => void): Promise<string> {
  const hash = createHash('sha256')
  for (let piece = 0; piece < 6_000; piece += 1) {
    const bytes = Buffer.alloc(2_000, `${id}:${piece};`)
    hash.update(bytes)
    if (!socket.write(bytes)) {
      if (socket.writableLength > 512_000) full()
      if (socket.writableLength > 1_024_000) await once(socket, 'drain')
    }
    if (piece % 8 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  full()
  socket.end()
  return hash.digest('hex')
}
