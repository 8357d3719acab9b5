import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import t from 'tap'
import { HAS_SHARED_READS, SharedReads } from '../../src/proxy/shared-reads.ts'

t.test('no read makes a Buffer of its own, and false stops them until the socket is resumed', async (t) => {
  t.ok(HAS_SHARED_READS)
  const size = 8 * 1_048_576
  const server = createServer((socket) => socket.end(Buffer.alloc(size, 'x'))).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const memory = new Set<ArrayBufferLike>()
  const carry = async (): Promise<number> => {
    const reads = new SharedReads()
    const socket = connect({ host: '127.0.0.1', port, onread: reads.onread })
    let received = 0
    let stopped = false
    await once(socket, 'connect')
    // What comes before there is anybody to take it is kept, and nothing more is read.
    while (socket.bytesRead === 0) await new Promise((resolve) => setImmediate(resolve))
    const early = socket.bytesRead
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    t.equal(socket.bytesRead, early)
    reads.start(socket, (chunk) => {
      if (stopped) t.fail('read although it was stopped')
      if (received > 0) memory.add(chunk.buffer)
      received += chunk.length
      stopped = received % 3 === 0
      if (stopped)
        setImmediate(() => {
          stopped = false
          socket.resume()
        })
      return !stopped
    })
    await once(socket, 'end')
    socket.destroy()
    return received
  }
  t.same(await Promise.all([carry(), carry(), carry()]), [size, size, size])
  t.equal(memory.size, 1)
  server.close()
})
