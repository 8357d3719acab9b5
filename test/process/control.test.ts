import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ControlClient, type ControlHandlers, ControlServer } from '../../src/proxy/process/control.ts'
import { socketPathError } from '../../src/proxy/process/unix-socket.ts'

interface Scope {
  teardown(end: () => unknown): void
}

function socketPath(scope: Scope): string {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-control-'))
  scope.teardown(() => rmSync(directory, { recursive: true }))
  return join(directory, 'control.sock')
}

/** A server that can be waited on for its worker. */
async function serve(scope: Scope, path: string) {
  let told: (connected: boolean) => void = () => {}
  const server = new ControlServer({ path, onWorker: (connected) => told(connected) })
  await server.listen()
  scope.teardown(() => server.close())
  const worker = (wanted: boolean) =>
    new Promise<void>((resolve) => {
      told = (connected) => connected === wanted && resolve()
    })
  return { server, worker }
}

function work(scope: Scope, path: string, handlers: ControlHandlers): ControlClient {
  const client = new ControlClient({ path, handlers })
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
  t.same(await server.request('echo', 1, 100), { ok: false, error: 'the worker is not connected' })
  const connected = worker(true)
  work(t, path, handlers)
  await connected
  const large = 'x'.repeat(300_000)
  const answers = await Promise.all([
    server.request('never', null, 50),
    server.request('echo', { large, line: 'a\nb' }, 5_000),
    server.request('fail', null, 5_000),
    server.request('toString', null, 5_000),
  ])
  t.same(answers, [
    { ok: false, error: 'the worker did not answer within 50 ms' },
    { ok: true, value: { large, line: 'a\nb' } },
    { ok: false, error: 'cannot' },
    { ok: false, error: 'the worker knows no "toString"' },
  ])
})

t.test('a worker that goes away fails what waits for it; the next one takes its place', async (t) => {
  const path = socketPath(t)
  const { server, worker } = await serve(t, path)
  let connected = worker(true)
  const first = work(t, path, handlers)
  await connected
  const waiting = server.request('never', null, 60_000)
  const gone = worker(false)
  first.stop()
  t.same(await waiting, { ok: false, error: 'the worker went away' })
  await gone
  connected = worker(true)
  work(t, path, { echo: async () => 'second' })
  await connected
  t.same(await server.request('echo', null, 5_000), { ok: true, value: 'second' })
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
    const { server, worker } = await serve(t, path)
    await worker(true)
    t.same(await server.request('echo', 7, 5_000), { ok: true, value: 7 })
  },
)

t.test('a peer that does not speak JSON is cut off; the path has a limit', async (t) => {
  const path = socketPath(t)
  await serve(t, path)
  const stranger = connect(path)
  stranger.write('GET / HTTP/1.1\r\n\r\n')
  await once(stranger, 'close')
  t.equal(socketPathError(path), undefined)
  t.match(socketPathError(`/${'x'.repeat(107)}`), /108 bytes long; a unix socket may have 107/)
})
