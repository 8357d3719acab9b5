import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import t from 'tap'
import { findRuntime } from '../../src/cli/runtime.ts'
import { bindDatagramSocket, bindSocket } from '../../src/proxy/process/bound-socket.ts'
import { InheritedSockets, inheritedText, socketName } from '../../src/proxy/process/inherited-sockets.ts'
import { onEachRuntime } from './runtimes.ts'

async function outcome(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  const ended = new Promise<string>((resolve) => {
    socket.once('connect', () => resolve('connected'))
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
  const found = await ended
  socket.destroy()
  return found
}

// The private part of Node's API that this rests on: a Node that has it no more fails here, not in somebody's cluster.
t.test('a bound socket refuses until somebody listens on its descriptor', async (t) => {
  const bound = bindSocket('127.0.0.1', 0)
  t.ok(bound.fd > 2)
  t.equal(await outcome(bound.port), 'ECONNREFUSED')
  const server = createServer((socket) => socket.destroy())
  server.listen({ fd: bound.fd })
  await once(server, 'listening')
  t.equal((server.address() as AddressInfo).port, bound.port)
  t.equal(await outcome(bound.port), 'connected')
  server.close()
  await once(server, 'close')
})

const ECHO = `
  const socket = require('node:dgram').createSocket('udp4')
  socket.on('message', (message, { port, address }) => socket.send(process.pid + ' ' + message, port, address))
  socket.bind({ fd: 3 })
`

onEachRuntime((t, runtime) => {
  t.test('datagrams wait in a bound socket for whichever process reads next', async (t) => {
    const found = findRuntime(runtime)
    const file = found.ok ? found.value.file : runtime
    const bound = bindDatagramSocket('127.0.0.1', 0)
    t.throws(() => bindDatagramSocket('127.0.0.1', bound.port), { message: 'EADDRINUSE' })
    const client = createSocket('udp4')
    t.teardown(() => client.close())
    for (const word of ['one', 'two']) {
      client.send(word, bound.port, '127.0.0.1')
      const reader = spawn(file, ['-e', ECHO], { stdio: ['ignore', 'inherit', 'inherit', bound.fd] })
      const [answer] = (await once(client, 'message')) as [Buffer]
      t.equal(String(answer), `${reader.pid} ${word}`)
      reader.kill()
      await once(reader, 'exit')
    }
    bound.close()
  })
})

t.test('an address that cannot be had is an error with its code, not another address', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  t.throws(() => bindSocket('127.0.0.1', port), { message: 'EADDRINUSE' })
  t.throws(() => bindSocket('203.0.113.7', 15_443), { message: 'EADDRNOTAVAIL' })
  other.close()
  await once(other, 'close')
  const bound = bindSocket('127.0.0.1', port)
  t.equal(bound.port, port)
  bound.close()
  const six = bindSocket('::1', 0)
  t.ok(six.port > 0)
  six.close()
})

t.test('a worker takes each descriptor once, and says what becomes of it', async (t) => {
  const said: string[] = []
  const text = [
    inheritedText('0.0.0.0:15443', { fd: 4 }),
    inheritedText('[::]:1', { fd: 5 }),
    inheritedText(socketName({ host: '::', port: 1 }, 'udp'), { fd: 6 }),
    inheritedText('127.0.0.1:2', { problem: 'EADDRINUSE' }),
  ].join(' ')
  const sockets = new InheritedSockets(text, {
    onListening: (address) => said.push(`listening ${address}`),
    onReleased: (address) => said.push(`released ${address}`),
    onUsedUp: (address) => said.push(`used up ${address}`),
  })
  t.equal(sockets.take('0.0.0.0', 9), undefined, 'ours to bind')
  t.same(sockets.take('127.0.0.1', 2), { problem: 'EADDRINUSE' })
  const first = sockets.take('0.0.0.0', 15_443)
  t.match(first, { fd: 4 })
  t.same(sockets.take('0.0.0.0', 15_443), { problem: 'EADDRINUSE' }, 'two listeners of one address')
  t.match(sockets.take('::', 1), { fd: 5 })
  t.match(sockets.take('::', 1, 'udp'), { fd: 6 })
  if (first !== undefined && 'fd' in first) for (const _ of [1, 2]) first.release()
  t.match(sockets.take('0.0.0.0', 15_443), { problem: /successor/ }, 'the number may be another file by now')
  t.same(said, [
    'listening 0.0.0.0:15443',
    'listening [::]:1',
    'listening udp/[::]:1',
    'released 0.0.0.0:15443',
    'used up 0.0.0.0:15443',
  ])
  t.equal(
    new InheritedSockets('', { onListening() {}, onReleased() {}, onUsedUp() {} }).take('::', 1),
    undefined,
  )
})
