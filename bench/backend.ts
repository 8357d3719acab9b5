// The service behind the gateway, a process of its own. One line asks for bytes (`D<n>\n`: n bytes come back) or announces them
// (`U<n>\n` and n bytes: `K` comes back); after `S\n` it reads no more. It counts for itself, so that the client's figures can be
// held against it.
import { createServer, type Socket } from 'node:net'

export interface BackendCounters {
  connections: number
  requests: number
  bytesSent: number
  bytesReceived: number
}

const CHUNK = Buffer.alloc(65_536, 'x')

if (process.send !== undefined) serve()

function serve(): void {
  const counters: BackendCounters = { connections: 0, requests: 0, bytesSent: 0, bytesReceived: 0 }
  /** Who does not read does not see the end either. */
  const stalled = new Set<Socket>()
  const server = createServer({ noDelay: true }, (socket) => {
    counters.connections++
    let awaited = 0
    let line = ''
    const reply = (size: number): void => {
      let left = size
      const more = (): void => {
        while (left > 0) {
          const part = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK
          left -= part.length
          counters.bytesSent += part.length
          if (!socket.write(part) && left > 0) return void socket.once('drain', more)
        }
      }
      more()
    }
    socket.on('data', (data: Buffer) => {
      let at = 0
      while (at < data.length) {
        if (awaited > 0) {
          const taken = Math.min(awaited, data.length - at)
          awaited -= taken
          at += taken
          counters.bytesReceived += taken
          if (awaited === 0) socket.write('K')
          continue
        }
        const end = data.indexOf(10, at)
        line += data.toString('latin1', at, end < 0 ? data.length : end)
        at = end < 0 ? data.length : end + 1
        if (end < 0) return
        counters.requests++
        const size = Number(line.slice(1))
        if (line === 'S') {
          stalled.add(socket.pause())
          return
        }
        if (line.startsWith('D')) reply(size)
        else awaited = size
        line = ''
      }
    })
    socket.on('error', () => socket.destroy())
  })
  server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as { port: number }).port }))
  process.on('message', (message) => {
    if (message === 'release') for (const socket of stalled) socket.destroy()
    stalled.clear()
    process.send?.({ counters })
  })
  process.on('disconnect', () => process.exit(0))
}
