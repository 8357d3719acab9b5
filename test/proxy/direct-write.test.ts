import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { writeDirectly } from '../../src/proxy/direct-write.ts'

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Both ends of a connection, gone with the test. */
async function pair(t: Test): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [[far]] = (await Promise.all([once(server, 'connection'), once(near, 'connect')])) as [[Socket], []]
  t.teardown(() => {
    for (const socket of [near, far]) socket.destroy()
    server.close()
  })
  return { near, far }
}

t.test(
  'what is written stays as it was, whatever becomes of the bytes, and however slow the reader',
  async (t) => {
    const { near, far } = await pair(t)
    const lent = Buffer.alloc(65_536)
    const said = createHash('sha256')
    const lend = (round: number): boolean => {
      const chunk = lent.fill(`${round};`).subarray(0, 1 + ((round * 7_919) % lent.length))
      said.update(chunk)
      const more = writeDirectly(near, chunk, true)
      lent.fill('gone')
      return more
    }
    let round = 0
    let waited = 0
    // Until the kernel has no room on either side, and much waits in this process.
    while (waited < 40) if (!lend(round++)) waited += 1
    t.ok(near.writableLength > 0)
    const heard = createHash('sha256')
    far.on('data', (chunk) => heard.update(chunk)).resume()
    const ended = once(far, 'end')
    await once(near, 'drain')
    t.equal(near.writableLength, 0)
    // And again through the descriptor, now that it is empty.
    for (; round < 400; round += 1) if (!lend(round)) await once(near, 'drain')
    near.end()
    await ended
    t.equal(heard.digest('hex'), said.digest('hex'))
  },
)

t.test('a broken connection is the error of the stream, and throws at nobody', async (t) => {
  const { near, far } = await pair(t)
  const failed = once(near, 'error')
  far.resetAndDestroy()
  // The reset is there, and nobody has read it yet.
  while (!near.destroyed && writeDirectly(near, Buffer.from('into the void'), false)) await turn()
  const [error] = (await failed) as [NodeJS.ErrnoException]
  t.match(error.code ?? '', /EPIPE|ECONNRESET/)
})

t.test('who is destroyed or has ended writes into nobody else’s descriptor', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-direct-write-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  for (const part of ['destroy', 'end'] as const) {
    const { near, far } = await pair(t)
    const { fd } = (near as unknown as { _handle: { fd: number } })._handle
    near.on('error', () => {})
    near[part]()
    far.destroy()
    if (part === 'destroy') await once(near, 'close')
    const file = join(folder, part)
    const opened: number[] = []
    do opened.push(openSync(file, 'a'))
    while (part === 'destroy' && !opened.includes(fd) && opened.length < 100)
    if (part === 'destroy') t.ok(opened.includes(fd), 'the descriptor is a file’s now')
    writeDirectly(near, Buffer.from('secret'), false)
    await turn()
    t.equal(readFileSync(file, 'utf8'), '')
    for (const each of opened) closeSync(each)
  }
})
