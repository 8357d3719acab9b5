import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import {
  ControlClient,
  type ControlHandlers,
  type ControlledWorker,
  ControlServer,
  type WorkerHello,
} from '../../src/proxy/process/control.ts'
import { socketPathError } from '../../src/proxy/process/unix-socket.ts'

interface Scope {
  teardown(end: () => unknown): void
}

function socketPath(scope: Scope): string {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-control-'))
  scope.teardown(() => rmSync(directory, { recursive: true }))
  return join(directory, 'control.sock')
}

const HELLO: WorkerHello = { pid: 1_000_001, slot: 0, generation: 1, runtime: 'node', version: '24' }

/** A server that can be waited on for its workers. */
async function serve(scope: Scope, path: string) {
  const events = new EventEmitter()
  const server = new ControlServer({
    path,
    onWorker: (worker, connected) => events.emit(connected ? 'connected' : 'gone', worker),
  })
  await server.listen()
  scope.teardown(() => server.close())
  const worker = async (what: 'connected' | 'gone') => ((await once(events, what)) as [ControlledWorker])[0]
  return { server, worker }
}

function work(scope: Scope, path: string, handlers: ControlHandlers, hello = HELLO): ControlClient {
  const client = new ControlClient({ path, handlers, hello })
  client.start()
  scope.teardown(() => client.stop())
  return client
}

const handlers: ControlHandlers = {
  echo: async (params) => params,
  fail: async () => {
    throw new Error('cannot')
  },
  never: () => new Promise(() => {}),
}

t.test('requests are answered, each by its id, errors as sentences', async (t) => {
  const path = socketPath(t)
  const { server, worker } = await serve(t, path)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.same(server.workers(), [])
  const connected = worker('connected')
  work(t, path, handlers)
  const one = await connected
  t.same(one.hello, HELLO)
  const large = 'x'.repeat(300_000)
  const answers = await Promise.all([
    one.request('never', null, 50),
    one.request('echo', { large, line: 'a\nb' }, 5_000),
    one.request('fail', null, 5_000),
    one.request('toString', null, 5_000),
  ])
  t.same(answers, [
    { ok: false, error: 'the worker did not answer within 50 ms' },
    { ok: true, value: { large, line: 'a\nb' } },
    { ok: false, error: 'cannot' },
    { ok: false, error: 'the worker knows no "toString"' },
  ])
})

t.test('a worker that goes away fails what waits for it; the others stay', async (t) => {
  const path = socketPath(t)
  const { server, worker } = await serve(t, path)
  const hellos = [
    { ...HELLO, pid: 3, slot: 1 },
    { ...HELLO, pid: 2, generation: 2 },
    { ...HELLO, pid: 1 },
  ]
  const clients: ControlClient[] = []
  for (const hello of hellos) {
    const connected = worker('connected')
    clients.push(work(t, path, { ...handlers, who: async () => hello.pid }, hello))
    await connected
  }
  const pids = () => server.workers().map(({ hello }) => hello.pid)
  t.same(pids(), [1, 2, 3], 'by slot, then by generation')
  const [oldest] = server.workers()
  const waiting = oldest?.request('never', null, 60_000)
  const gone = worker('gone')
  clients[2]?.stop()
  t.same(await waiting, { ok: false, error: 'the worker went away' })
  t.equal((await gone).hello.pid, 1)
  t.same(pids(), [2, 3])
  t.same(await oldest?.request('who', null, 5_000), { ok: false, error: 'the worker went away' })
  const answers = await Promise.all(server.workers().map((one) => one.request('who', null, 5_000)))
  t.same(
    answers.map((answer) => answer.ok && answer.value),
    [2, 3],
  )
})

t.test('a worker that dials again before its old connection is known to be gone counts once', async (t) => {
  const path = socketPath(t)
  const { server, worker } = await serve(t, path)
  const first = worker('connected')
  const stale = connect(path)
  stale.on('error', () => {}).write(`${JSON.stringify({ hello: HELLO })}\n`)
  const before = await first
  const again = worker('connected')
  work(t, path, handlers)
  await again
  t.equal(server.workers().length, 1)
  t.same(await before.request('echo', 1, 5_000), { ok: false, error: 'the worker went away' })
  t.same(await server.workers()[0]?.request('echo', 2, 5_000), { ok: true, value: 2 })
})

t.test(
  'a worker finds the successor of a killed supervisor, over the socket file that it left',
  async (t) => {
    const path = socketPath(t)
    const script = `require('node:net').createServer(() => console.log('dialled')).listen(${JSON.stringify(path)}, () => console.log('up'))`
    const first = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(first.stdout, 'data')
    await t.rejects(new ControlServer({ path }).listen(), { message: /in use by another process/ })
    work(t, path, handlers)
    await once(first.stdout, 'data')
    first.kill('SIGKILL')
    await once(first, 'exit')
    t.ok(existsSync(path), 'the file is still there')
    const { worker } = await serve(t, path)
    const found = await worker('connected')
    t.same(await found.request('echo', 7, 5_000), { ok: true, value: 7 })
  },
)

t.test(
  'a peer that does not speak JSON, or says not who it is, is cut off; the path has a limit',
  async (t) => {
    const path = socketPath(t)
    const { server } = await serve(t, path)
    for (const words of ['GET / HTTP/1.1\r\n\r\n', '{"id":1,"result":2}\n', '{"hello":{"pid":"1"}}\n']) {
      const stranger = connect(path)
      stranger.write(words)
      await once(stranger, 'close')
    }
    t.same(server.workers(), [])
    t.equal(socketPathError(path), undefined)
    t.match(socketPathError(`/${'x'.repeat(107)}`), /108 bytes long; a unix socket may have 107/)
  },
)
