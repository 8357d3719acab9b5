import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { onReadHooks, readDirectly } from '../../src/proxy/direct-reads.ts'
import { Pump } from '../../src/proxy/pump.ts'
import { passOnGathered } from '../../src/proxy/record-gatherer.ts'

const SIZE = 8 * 1_048_576
const turn = () => new Promise((resolve) => setImmediate(resolve))
const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** No two stretches of it are alike. */
function speech(seed: number, size = SIZE): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE((at * 2_654_435_761 + seed) % 2 ** 32, at)
  return bytes
}

/** A listening port, closed with the test. */
async function listen(t: Test, server: ReturnType<typeof createServer>): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

t.test('no read makes a Buffer of its own, and false stops them until the socket is resumed', async (t) => {
  const said = speech(1)
  const port = await listen(
    t,
    createServer((socket) => socket.end(said)),
  )
  const memory = new Set<ArrayBufferLike>()
  const carry = async (): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port })
    const hash = createHash('sha256')
    let received = 0
    let stopped = false
    await once(socket, 'connect')
    // What comes before there is anybody to take it is kept, and comes first.
    while (socket.readableLength === 0) await turn()
    const early = socket.readableLength
    readDirectly(socket, {
      take: (chunk) => {
        if (stopped) t.fail('read although it was stopped')
        if (received >= early) memory.add(chunk.buffer)
        hash.update(chunk)
        received += chunk.length
        stopped = received % 3 === 0
        if (stopped)
          setImmediate(() => {
            stopped = false
            socket.resume()
          })
        return !stopped
      },
    })
    t.ok(received >= early)
    await once(socket, 'end')
    socket.destroy()
    return hash.digest('hex')
  }
  t.same(await Promise.all([carry(), carry(), carry()]), Array(3).fill(digest(said)))
  t.equal(memory.size, 1)
})

t.test('full TLS records come together, the rest at once; nothing is held back over a turn', async (t) => {
  const ca = await createCa({ trustDomain: 'shared.test' })
  const { certificatePem, privateKeyPem } = await ca.issue({
    namespace: 'a',
    serviceAccount: 'b',
    lifetimeMs: 60_000,
  })
  const hashes: ReturnType<typeof createHash>[] = []
  const sizes: number[] = []
  const memory = new Set<ArrayBufferLike>()
  const server = createTlsServer({ cert: certificatePem, key: privateKeyPem }, (socket) => {
    const hash = createHash('sha256')
    hashes.push(hash)
    socket.pause()
    const take = (chunk: Buffer): boolean => {
      hash.update(chunk)
      sizes.push(chunk.length)
      memory.add(chunk.buffer)
      return true
    }
    readDirectly(socket, { take })
    socket.on('end', () => {
      passOnGathered()
      socket.end('whole')
    })
  })
  const port = await listen(t, server)
  const open = async () => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    return socket
  }
  // Exactly one full record, and no end: nothing that follows tells that it was the last.
  const single = await open()
  single.write(speech(0, 16_384))
  while (sizes.length === 0) await turn()
  t.same(sizes.splice(0), [16_384])
  single.write('and a word')
  while (sizes.length === 0) await turn()
  t.same(sizes.splice(0), ['and a word'.length])
  single.destroy()

  const said = [2, 3, 4].map((seed) => speech(seed, SIZE + seed))
  await Promise.all(
    said.map(async (bytes) => {
      const socket = await open()
      socket.end(bytes)
      const [answer] = await once(socket, 'data')
      t.equal(String(answer), 'whole')
    }),
  )
  t.same(
    hashes
      .slice(1)
      .map((hash) => hash.digest('hex'))
      .sort(),
    said.map(digest).sort(),
  )
  t.ok(Math.max(...sizes) > 16_384, 'several records at one time')
  t.ok(sizes.length < (said.length * SIZE) / 16_384 / 1.5, `${sizes.length} times`)
  t.ok(memory.size <= 2)
})

t.test('a runtime without the hooks is found out, and carries the same bytes', async (t) => {
  t.equal(onReadHooks({}), undefined)
  t.ok(onReadHooks(new Socket()))
  const [up, down] = [speech(5), speech(6)]
  const backendHeard: Buffer[] = []
  let backendEnded = false
  const backendPort = await listen(
    t,
    createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('data', (chunk) => backendHeard.push(chunk)).end(down)
      socket.on('end', () => {
        backendEnded = true
      })
    }),
  )
  const ended: string[] = []
  const frontPort = await listen(
    t,
    createServer({ allowHalfOpen: true, pauseOnConnect: true }, (downstream) => {
      const upstream = connect({ host: '127.0.0.1', port: backendPort, allowHalfOpen: true })
      upstream.once('connect', () => {
        for (const socket of [upstream, downstream]) {
          const { _handle: handle } = socket as unknown as { _handle: object }
          Object.defineProperty(handle, 'useUserBuffer', { value: undefined })
        }
        new Pump({
          downstream: { stream: downstream, raw: downstream },
          upstream: { stream: upstream, raw: upstream },
          idleTimeoutMs: 0,
          clock: systemClock,
          onEnd: ({ kind }) => ended.push(kind),
        }).start()
      })
    }),
  )
  const client = connect({ host: '127.0.0.1', port: frontPort, allowHalfOpen: true })
  const heard: Buffer[] = []
  client.on('data', (chunk) => heard.push(chunk)).end(up)
  await once(client, 'close')
  while (ended.length === 0 || !backendEnded) await turn()
  t.equal(digest(Buffer.concat(heard)), digest(down))
  t.equal(digest(Buffer.concat(backendHeard)), digest(up))
  t.same(ended, ['done'])
})
