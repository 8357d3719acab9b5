import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { fail, ok } from '../../src/lib/result.ts'
import { Dialer, type OpenListener, type Tunnel } from '../../src/proxy/names/dialer.ts'
import { HttpConnectServer } from '../../src/proxy/names/http-connect.ts'
import { NameTable } from '../../src/proxy/names/name-table.ts'
import { Socks5Server } from '../../src/proxy/names/socks5.ts'

interface Scope {
  teardown(end: () => unknown): void
}

const names = new NameTable()
names.set(
  new Map([
    ['productpage.bookinfo', ['127.240.3.7']],
    ['down.bookinfo', ['127.240.3.8']],
  ]),
)

async function listen(scope: Scope, server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket.on('error', () => {})))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  scope.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** The engine's part: 127.240.3.7:9080 leads to `backend`, 127.240.3.8 has nothing healthy, nothing else listens. */
function engineTo(backend: number, opened: unknown[] = []): OpenListener {
  return async (address, port, downstream) => {
    opened.push({ address, port, ...downstream })
    if (address === '127.240.3.8') return fail({ flag: 'UH', reason: 'no healthy endpoint of down.bookinfo' })
    if (port !== 9080) return fail({ flag: 'NR', reason: 'no listener' })
    const upstream = connect({ port: backend, host: '127.0.0.1', allowHalfOpen: true })
    await once(upstream, 'connect')
    const tunnel: Tunnel = {
      splice(socket, head) {
        upstream.write(head)
        socket.pipe(upstream).pipe(socket)
      },
      close: () => upstream.destroy(),
    }
    return ok(tunnel)
  }
}

async function start(scope: Scope, open: OpenListener, handshakeMs = 300) {
  const dialer = new Dialer({ names, open, resolvers: [{ host: '127.0.0.1', port: 9 }], timeoutMs: 2_000 })
  const socks = new Socks5Server({ dialer, handshakeMs })
  const http = new HttpConnectServer({ dialer, headMs: handshakeMs })
  scope.teardown(() => {
    socks.close()
    http.close()
  })
  const [a, b] = await Promise.all([socks.listen('127.0.0.1', 0), http.listen('127.0.0.1', 0)])
  return { socks: a.port, http: b.port, drain: () => Promise.all([socks.drain(), http.drain()]) }
}

function curl(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile('curl', ['-sS', '--max-time', '5', ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

const page = () =>
  createHttpServer((request, response) => response.end(`<title>${request.headers.host}</title>`))

/** Sends bytes, returns all that comes back until the server ends. */
async function exchange(port: number, ...chunks: Buffer[]): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.on('error', () => {})
  for (const chunk of chunks) socket.write(chunk)
  const reply = Buffer.from(await text(socket.setEncoding('latin1')), 'latin1')
  socket.destroy()
  return reply
}

t.test('curl reaches one of our names through SOCKS5 and through CONNECT', async (t) => {
  const opened: { host: string; remoteAddress: string }[] = []
  const ports = await start(t, engineTo(await listen(t, page()), opened))
  const url = 'http://productpage.bookinfo:9080/productpage'
  const viaSocks = await curl('--socks5-hostname', `127.0.0.1:${ports.socks}`, url)
  t.equal(viaSocks.stdout, '<title>productpage.bookinfo:9080</title>', viaSocks.stderr)
  const viaConnect = await curl('--proxytunnel', '--proxy', `http://127.0.0.1:${ports.http}`, url)
  t.equal(viaConnect.stdout, '<title>productpage.bookinfo:9080</title>', viaConnect.stderr)
  t.match(opened, [
    { address: '127.240.3.7', port: 9080, host: 'productpage.bookinfo', remoteAddress: '127.0.0.1' },
    { address: '127.240.3.7', port: 9080, host: 'productpage.bookinfo' },
  ])
})

t.test('what no listener has a line for is told, once each', async (t) => {
  const told: string[] = []
  const dialer = new Dialer({
    names,
    open: engineTo(0),
    resolvers: [{ host: '127.0.0.1', port: 9 }],
    timeoutMs: 500,
    onFailure: ({ host, port }, from, { kind }) => told.push(`${from} ${host}:${port} ${kind}`),
  })
  for (const [host, port] of [
    ['nowhere.bookinfo', 9080],
    ['productpage.bookinfo', 81],
    ['down.bookinfo', 9080],
  ] as const)
    t.notOk((await dialer.dial({ host, port }, '127.0.0.1')).ok)
  t.strictSame(told, [
    '127.0.0.1 nowhere.bookinfo:9080 unresolved',
    '127.0.0.1 productpage.bookinfo:81 refused',
  ])
})

t.test('any other host is reached directly', async (t) => {
  const backend = await listen(t, page())
  const ports = await start(t, engineTo(backend))
  const url = `http://127.0.0.1:${backend}/`
  t.match(await curl('--socks5-hostname', `127.0.0.1:${ports.socks}`, url), { code: 0, stdout: /title/ })
  t.match(await curl('-p', '--proxy', `http://127.0.0.1:${ports.http}`, url), { code: 0, stdout: /title/ })
})

t.test(
  'a name that nobody knows: 502 and the sentence curl itself would say; SOCKS host unreachable',
  async (t) => {
    const ports = await start(t, engineTo(0))
    const request = 'CONNECT reviews.bookinfo:9080 HTTP/1.1\r\nHost: reviews.bookinfo:9080\r\n\r\n'
    const reply = (await exchange(ports.http, Buffer.from(request))).toString()
    t.match(reply, /^HTTP\/1.1 502 Bad Gateway\r\n/)
    t.match(reply, '\r\n\r\ncould not resolve host: reviews.bookinfo\n')
    const viaSocks = await curl(
      '--socks5-hostname',
      `127.0.0.1:${ports.socks}`,
      'http://reviews.bookinfo:9080/',
    )
    t.match(viaSocks, { code: 97, stderr: /\(4\)/ })
  },
)

t.test(
  'one of our names with nothing healthy is 503 with the reason; a port it has not is refused by name',
  async (t) => {
    const ports = await start(t, engineTo(0))
    const ask = async (target: string) =>
      (await exchange(ports.http, Buffer.from(`CONNECT ${target} HTTP/1.1\r\nHost: x\r\n\r\n`))).toString()
    const down = await ask('down.bookinfo:80')
    t.match(down, /^HTTP\/1.1 503 /)
    t.match(down, 'UH: no healthy endpoint of down.bookinfo\n')
    const port = await ask('productpage.bookinfo:81')
    t.match(port, /^HTTP\/1.1 502 /)
    t.match(port, 'connection refused: productpage.bookinfo has no port 81\n')
    const socks = (host: string) => curl('--socks5-hostname', `127.0.0.1:${ports.socks}`, `http://${host}/`)
    t.match(await socks('down.bookinfo'), { code: 97, stderr: /\(4\)/ })
    t.match(await socks('productpage.bookinfo:81'), { code: 97, stderr: /\(5\)/ })
  },
)

t.test('a closed port of another host is refused, not a timeout', async (t) => {
  const ports = await start(t, engineTo(0))
  const probe = createServer()
  const port = await listen(t, probe)
  await new Promise((resolve) => probe.close(resolve))
  const reply = await exchange(
    ports.http,
    Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`),
  )
  t.match(reply.toString(), `connection refused: 127.0.0.1:${port}`)
})

t.test('bytes sent along with the request are not lost, and each direction ends by itself', async (t) => {
  const echoAtEnd = createServer({ allowHalfOpen: true }, async (socket) => {
    const all = await text(socket)
    socket.end(`got ${all}`)
  })
  const ports = await start(t, engineTo(await listen(t, echoAtEnd)))
  const viaConnect = connect({ port: ports.http, host: '127.0.0.1', allowHalfOpen: true })
  viaConnect.end('CONNECT productpage.bookinfo:9080 HTTP/1.1\r\nHost: x\r\n\r\nearly bytes')
  t.match(await text(viaConnect), '200 Connection established\r\n\r\ngot early bytes')
  const name = Buffer.from('productpage.bookinfo')
  const request = Buffer.concat([
    Buffer.of(5, 1, 0, 5, 1, 0, 3, name.length),
    name,
    Buffer.of(9080 >> 8, 9080 & 255),
  ])
  const viaSocks = connect({ port: ports.socks, host: '127.0.0.1', allowHalfOpen: true })
  viaSocks.end(Buffer.concat([request, Buffer.from('early')]))
  t.match(await text(viaSocks), 'got early')
})

t.test('what is not CONNECT, or not HTTP, is told so', async (t) => {
  const ports = await start(t, engineTo(0))
  const ask = async (request: string) =>
    (await exchange(ports.http, Buffer.from(request, 'latin1'))).toString()
  t.match(
    await ask('GET http://productpage.bookinfo:9080/ HTTP/1.1\r\nHost: x\r\n\r\n'),
    /405 .*[\s\S]*--proxytunnel/,
  )
  t.match(
    await ask('CONNECT productpage.bookinfo HTTP/1.1\r\nHost: x\r\n\r\n'),
    /400 .*[\s\S]*expected a port/,
  )
  t.match(await ask('CONNECT a:b@c:80 HTTP/1.1\r\nHost: x\r\n\r\n'), /^HTTP\/1.1 400 /)
  t.match(await ask('CONNECT a:0 HTTP/1.1\r\nHost: x\r\n\r\n'), /^HTTP\/1.1 400 /)
  t.match(await ask('\x16\x03\x01 not http\r\n\r\n'), /^HTTP\/1.1 400 /)
  t.match(await ask(`CONNECT a:1 HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1.1 431 /)
  t.match(
    await ask('CONNECT a:1 HTTP/1.1\r\n'),
    /^(HTTP\/1.1 408 .*[\s\S]*)?$/,
    'an unfinished head meets the deadline',
  )
})

t.test('SOCKS: what it does not speak is refused by its own code, byte by byte or at once', async (t) => {
  const ports = await start(t, engineTo(0))
  const ask = async (...bytes: number[]) => [
    ...(await exchange(ports.socks, ...bytes.map((b) => Buffer.of(b)))),
  ]
  t.same(await ask(5, 1, 2), [5, 0xff], 'only a password')
  t.same((await ask(5, 1, 0, 5, 2, 0, 1)).slice(0, 4), [5, 0, 5, 7], 'BIND')
  t.same((await ask(5, 1, 0, 5, 1, 0, 9)).slice(0, 4), [5, 0, 5, 8], 'an unknown address type')
  t.same(await ask(4, 1), [], 'SOCKS4')
  t.same(await ask(5, 1, 0, 5), [5, 0], 'an unfinished request meets the deadline')
})

t.test(
  'who was accepted before a drain still gets his target, and it ends with the last of them',
  async (t) => {
    const backend = await listen(
      t,
      createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)),
    )
    const ports = await start(t, engineTo(backend), 10_000)
    const socks = connect(ports.socks, '127.0.0.1')
    socks.write(Buffer.of(5, 1, 0))
    t.same([...((await once(socks, 'data'))[0] as Buffer)], [5, 0])
    const http = connect(ports.http, '127.0.0.1')
    http.write('CONNECT productpage.bookinfo:9080 HTTP/1.1\r\n')
    await once(http, 'connect')
    const silent = connect(ports.socks, '127.0.0.1')
    await once(silent, 'connect')
    let drained = false
    const draining = ports.drain().then(() => {
      drained = true
    })
    const late = connect(ports.socks, '127.0.0.1')
    t.match(await once(late, 'error'), [{ code: 'ECONNREFUSED' }])
    const name = Buffer.from('productpage.bookinfo')
    socks.write(Buffer.concat([Buffer.of(5, 1, 0, 3, name.length), name, Buffer.of(0x23, 0x78)]))
    t.equal(((await once(socks, 'data'))[0] as Buffer)[1], 0)
    http.write('Host: productpage\r\n\r\n')
    t.match(String((await once(http, 'data'))[0]), /^HTTP\/1.1 200 /)
    for (const socket of [socks, http]) {
      socket.end('still here')
      t.equal(await text(socket), 'still here')
    }
    t.notOk(drained, 'one has not said what it wants')
    silent.destroy()
    await draining
  },
)

t.test('no address but loopback', async (t) => {
  const dialer = new Dialer({ names, open: engineTo(0) })
  await t.rejects(new Socks5Server({ dialer }).listen('0.0.0.0', 0), {
    message: /0\.0\.0\.0:0 is not a loopback address/,
  })
  await t.rejects(new HttpConnectServer({ dialer }).listen('::', 0), { message: /not a loopback address/ })
})
