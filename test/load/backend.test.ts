import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { Backend } from '../../src/load/backend.ts'

const backend = await Backend.start({ host: '127.0.0.1', port: 0, size: 5 })
t.teardown(() => backend.stop())

async function dialled(): Promise<Socket> {
  const socket = connect(backend.port, '127.0.0.1')
  await once(socket, 'connect')
  return socket.setEncoding('latin1')
}

/** What comes until it has so many bytes. */
async function read(socket: Socket, length: number): Promise<string> {
  let text = ''
  while (text.length < length) text += (await once(socket, 'data'))[0]
  return text
}

const head = (length: number): string => `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`

t.test('requests in any pieces, one after the other, and counters that say so', async (t) => {
  const socket = await dialled()
  const requests =
    'GET /bytes/3 HTTP/1.1\r\n\r\nPUT / HTTP/1.1\r\ncontent-length: 4\r\n\r\nGET GET / HTTP/1.1\r\nHost: x\r\n\r\n'
  const answers = `${head(3)}xxx${head(0)}${head(5)}xxxxx`
  const came = read(socket, answers.length)
  for (const byte of requests) if (!socket.write(byte)) await once(socket, 'drain')
  t.equal(await came, answers)
  t.same(backend.counters, { connections: 1, requests: 3, bytesSent: 8, bytesReceived: 4 })
  socket.write('PUT / HTTP/1.1\r\n\r\n')
  t.match(await read(socket, 20), /^HTTP\/1\.1 400 /)
  await once(socket, 'close')
})

t.test('who is stalled and goes away is let go, with what the kernel held for him', async (t) => {
  const socket = await dialled()
  socket.write('PUT /stall HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n')
  // More than the buffers hold: the end comes after bytes that nobody reads.
  socket.write(Buffer.alloc(20_000_000))
  t.equal(await read(socket, 27), 'HTTP/1.1 102 Processing\r\n\r\n')
  t.equal(backend.open, 1)
  socket.destroy()
  while (backend.open > 0) await new Promise((later) => setTimeout(later, 20))
})
