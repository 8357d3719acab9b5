// The fault suite's own eyes: they must see what they are there for.
import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { backend } from '../proxy/support.ts'
import { Backend, Relay } from './parts.ts'
import { HEADER_BYTES, header, patternAt, wrongBytes } from './pattern.ts'
import { randomFrom } from './random.ts'

t.test('a byte that is changed, lost, repeated, moved or of another connection is seen', async (t) => {
  const right = Buffer.from(patternAt(7, 1_000, 200_000))
  t.equal(wrongBytes(7, 1_000, right), 0)
  const changed = Buffer.from(right)
  changed.writeUInt8(changed.readUInt8(65_521) ^ 1, 65_521)
  t.equal(wrongBytes(7, 1_000, changed), 1)
  t.ok(wrongBytes(7, 1_000, Buffer.concat([right.subarray(0, 500), right.subarray(501)])) > 1_000, 'lost')
  t.ok(wrongBytes(7, 1_000, Buffer.concat([right.subarray(0, 500), right])) > 1_000, 'repeated')
  const block = 16_384
  const moved = [right.subarray(block, 2 * block), right.subarray(0, block)]
  t.ok(wrongBytes(7, 1_000, Buffer.concat(moved)) > 1_000, 'moved')
  for (let other = 0; other < 200; other += 1)
    if (other !== 7 && wrongBytes(other, 1_000, right.subarray(0, 64)) === 0) t.fail(`as connection ${other}`)
})

t.test('a service tells of every caller that it should never have heard of', async (t) => {
  const told: string[] = []
  let tell = () => {}
  const onViolation = (what: string) => {
    told.push(what)
    tell()
  }
  const [open, forbidden] = await Promise.all([
    Backend.start('127.0.0.1', onViolation),
    Backend.start('127.0.0.1', onViolation, true),
  ])
  t.teardown(() => Promise.all([open.kill(), forbidden.kill()]))
  const call = async (port: number, bytes: Buffer) => {
    const socket = connect(port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.write(bytes)
    await once(socket, 'data')
  }
  const violation = () => new Promise<void>((resolve) => (tell = resolve))
  await call(open.port, header('GOOD', 1))
  t.same(told, [])
  const first = violation()
  await Promise.all([call(open.port, header('EVIL', 1)), first])
  t.match(told, [/forbidden caller/])
  const second = violation()
  await Promise.all([call(forbidden.port, header('GOOD', 1)), second])
  t.match(told[1], /nobody may call/)
})

t.test('a wire changes no byte, whatever it does to them', async (t) => {
  const echo = await backend()
  const relay = await Relay.start({
    host: '127.0.0.1',
    port: 0,
    target: { host: '127.0.0.1', port: echo.port },
  })
  t.teardown(() => Promise.all([echo.close(), relay.kill()]))
  const socket = connect({ host: '127.0.0.1', port: relay.port, allowHalfOpen: true })
  let got = 0
  let wrong = 0
  socket.on('data', (chunk) => {
    wrong += wrongBytes(3, got, chunk)
    got += chunk.length
  })
  const random = randomFrom(1)
  let sent = 0
  for (const mode of [
    { mode: 'pass' },
    { mode: 'delay', ms: 40 },
    { mode: 'throttle', bytesPerSecond: 2_000_000 },
    { mode: 'freeze' },
    { mode: 'pass' },
  ] as const) {
    await relay.order(mode)
    for (let i = 0; i < 20; i += 1) {
      const length = 1 + Math.floor(random() * 10_000)
      socket.write(patternAt(3, sent, length))
      sent += length
    }
  }
  socket.end()
  await once(socket, 'end')
  t.equal(got, sent)
  t.equal(wrong, 0)
})

t.test('a wire that is cut by RST is a reset, one that refuses takes nobody', async (t) => {
  const echo = await backend()
  const relay = await Relay.start({
    host: '127.0.0.1',
    port: 0,
    target: { host: '127.0.0.1', port: echo.port },
  })
  t.teardown(() => Promise.all([echo.close(), relay.kill()]))
  const socket = connect(relay.port, '127.0.0.1')
  socket.write(header('GOOD', 0))
  t.equal(((await once(socket, 'data')) as [Buffer])[0].length, HEADER_BYTES)
  const [[error]] = await Promise.all([once(socket, 'error'), relay.order({ cut: 'rst' })])
  t.match(error, { code: 'ECONNRESET' })
  await relay.order({ mode: 'refuse' })
  const refused = connect(relay.port, '127.0.0.1')
  t.match((await once(refused, 'error'))[0], { code: 'ECONNRESET' })
  t.equal(echo.accepts, 1)
})
