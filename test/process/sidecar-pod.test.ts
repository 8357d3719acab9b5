import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import * as codec from 'dns-packet'
import t from 'tap'
import { encodeNameTable } from '../../src/resources/name-table.ts'
import { TYPE } from '../../src/xds/types.ts'
import { backend, endpoints, OUTBOUND, sidecarListener, upstream } from '../proxy/support.ts'
import { eventually, freePort, getJson, Pod, type Scope, TestCluster } from './pod.ts'
import { onEachRuntime } from './runtimes.ts'
import { storm } from './storm.ts'

const ADDRESS = '127.91.3.7'
const HOST = 'productpage.bookinfo'
const info = { ips: [ADDRESS], shortname: 'productpage', namespace: 'bookinfo' }
const table = encodeNameTable({ [HOST]: info, [`${HOST}.svc.cluster.local`]: info })

/** A resolver that knows nothing: NXDOMAIN for everything, and remembers what it was asked. */
async function emptyResolver(scope: Scope) {
  const asked: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (message, from) => {
    const query = codec.decode(message)
    const questions = query.questions ?? []
    asked.push(questions[0]?.name ?? '')
    socket.send(
      codec.encode({ type: 'response', id: query.id ?? 0, flags: 3, questions }),
      from.port,
      from.address,
    )
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  scope.teardown(() => socket.close())
  return { address: `127.0.0.1:${socket.address().port}`, asked }
}

async function start(scope: Scope, target: number, more: readonly string[] = []) {
  const cluster = await TestCluster.create(scope)
  const resolver = await emptyResolver(scope)
  const { discovery } = cluster
  await discovery.start()
  const port = await freePort()
  discovery.put(TYPE.listener, sidecarListener({ name: `${HOST}_${port}`, host: ADDRESS, port }))
  discovery.put(TYPE.cluster, upstream(OUTBOUND))
  discovery.put(TYPE.endpoints, endpoints(OUTBOUND, target === 0 ? [] : [{ port: target }]))
  discovery.put(TYPE.nameTable, table)
  const any = ['dns', 'socks', 'connect', 'admin', 'health', 'metrics'].flatMap((flag) => [
    `--${flag}`,
    '127.0.0.1:0',
  ])
  const pod = new Pod(scope, [
    ...['sidecar', '--cluster', 'cluster-1', '--name', 'sleep', '--namespace', 'bookinfo'],
    ...['--discovery', discovery.address, '--certs', await cluster.certify('sleep')],
    ...[
      '--run-dir',
      join(cluster.folder, 'run'),
      '--bind',
      '127.91.0.0/16',
      '--dns-upstream',
      resolver.address,
      ...any,
      ...more,
    ],
  ])
  const line = await pod.ready('sidecar')
  const ready = { dns: String(line['dns']), socks: String(line['socks']), connect: String(line['connect']) }
  return { pod, discovery, port, resolver, ready }
}

async function ask(dns: string, name: string, type: 'A' | 'AAAA' = 'A') {
  const [host, port] = dns.split(':')
  const socket = createSocket('udp4')
  socket.send(
    codec.encode({ type: 'query', id: 7, flags: codec.RECURSION_DESIRED, questions: [{ name, type }] }),
    Number(port),
    host,
  )
  const [message] = (await once(socket, 'message')) as [Buffer]
  socket.close()
  const reply = codec.decode(message) as codec.DecodedPacket & { rcode: string }
  return { rcode: reply.rcode, data: (reply.answers ?? []).map((a) => ('data' in a ? String(a.data) : '')) }
}

/** How often a name was asked and answered, one after the other. */
async function askUntil(dns: string, done: () => boolean): Promise<number> {
  let asked = 0
  for (; !done(); asked++) {
    const { data } = await ask(dns, HOST)
    if (data[0] !== ADDRESS) throw new Error(`answered ${data.join()}`)
  }
  return asked
}

function curl(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile('curl', ['-sS', '--max-time', '10', ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

t.test(
  'a sidecar answers for its names, and leads SOCKS5, CONNECT and plain clients to the service',
  async (t) => {
    const page = createServer((_request, response) => response.end('<title>page</title>')).listen(
      0,
      '127.0.0.1',
    )
    await once(page, 'listening')
    t.teardown(() => page.close())
    const { pod, discovery, port, resolver, ready } = await start(t, (page.address() as AddressInfo).port)
    t.match(discovery.nodes[0], {
      id: /^sidecar~[\d.]+~sleep\.bookinfo~/,
      metadata: { ISTHMUS_BIND: '127.91.0.0/16' },
    })

    t.same(await ask(ready.dns, 'ProductPage.bookinfo'), { rcode: 'NOERROR', data: [ADDRESS] })
    t.same(await ask(ready.dns, `${HOST}.svc.cluster.local.`), { rcode: 'NOERROR', data: [ADDRESS] })
    t.same(await ask(ready.dns, HOST, 'AAAA'), { rcode: 'NOERROR', data: [] })
    t.same(await ask(ready.dns, 'reviews.bookinfo'), { rcode: 'NXDOMAIN', data: [] })
    t.same(resolver.asked, ['reviews.bookinfo'])

    const url = `http://${HOST}:${port}/productpage`
    const connected = await curl('--proxytunnel', '--proxy', `http://${ready.connect}`, url)
    t.equal(connected.stdout, '<title>page</title>', connected.stderr)
    const socksed = await curl('--socks5-hostname', ready.socks, url)
    t.equal(socksed.stdout, '<title>page</title>', socksed.stderr)
    const plain = await curl(`http://${ADDRESS}:${port}/`)
    t.equal(plain.stdout, '<title>page</title>', plain.stderr)
    const unknown = await curl(
      '-v',
      '--proxytunnel',
      '--proxy',
      `http://${ready.connect}`,
      'http://reviews.bookinfo:9080/',
    )
    t.equal(unknown.code, 56)
    t.match(unknown.stderr, 'x-isthmus-reason: could not resolve host: reviews.bookinfo')

    discovery.put(TYPE.nameTable, encodeNameTable({}))
    await eventually(
      () => ask(ready.dns, HOST),
      ({ rcode }) => rcode === 'NXDOMAIN',
    )
    t.pass('a name that is withdrawn is gone')
    const admin = await pod.url('admin')
    type Status = { body: { kind: string; ready: boolean; worker: { nameServers: unknown } } }
    const { body } = await eventually(
      () => getJson(`${admin}/status`) as Promise<Status>,
      (one) => one.body.ready,
    )
    t.match(body, { kind: 'sidecar', worker: { nameServers: ready } })
  },
)

t.test('nothing healthy: 503 with the reason, and UH in the log', async (t) => {
  const { pod, discovery, port, ready } = await start(t, 0)
  const url = `http://${HOST}:${port}/`
  const tunnel = await curl('-v', '--proxytunnel', '--proxy', `http://${ready.connect}`, url)
  t.match(tunnel.stderr, /HTTP\/1.1 503 /)
  t.match(tunnel.stderr, /x-isthmus-reason: UH: .*productpage/)
  t.match(await curl('--socks5-hostname', ready.socks, url), { code: 97, stderr: /\(4\)/ })
  t.match(await pod.line((line) => line['flag'] === 'UH'), {
    msg: 'access',
    host: 'productpage.bookinfo.svc.cluster.local',
  })
  const target = await backend(async (socket) => void socket.end(`got ${await text(socket)}`))
  t.teardown(() => target.close())
  discovery.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: target.port }]))
  const [host, connectPort] = ready.connect.split(':') as [string, string]
  const halfClosed = await eventually(
    async () => {
      const socket = connect({ host, port: Number(connectPort), allowHalfOpen: true })
      socket.end(`CONNECT ${HOST}:${port} HTTP/1.1\r\nHost: x\r\n\r\nearly bytes, then the end`)
      return text(socket)
    },
    (reply) => !reply.includes(' 503 '),
  )
  t.match(halfClosed, '200 Connection established\r\n\r\ngot early bytes, then the end')
})

onEachRuntime((t, runtime) => {
  t.test('replacing its workers under load costs names and SOCKS5 no connection', async (t) => {
    const [dns, socks, connect] = [await freePort(), await freePort(), await freePort()]
    const ports = [`--dns=127.0.0.1:${dns}`, `--socks=127.0.0.1:${socks}`, `--connect=127.0.0.1:${connect}`]
    const { pod, ready } = await start(t, 0, ['--workers', '2', '--runtime', runtime, ...ports])
    await pod.ready('sidecar', 2)
    t.match(ready, {
      dns: `127.0.0.1:${dns}`,
      socks: `127.0.0.1:${socks}`,
      connect: `127.0.0.1:${connect}`,
    })
    // "No authentication" is offered and chosen (RFC 1928 section 3).
    const load = storm(socks, { say: Buffer.from([5, 1, 0]), hear: Buffer.from([5, 0]) })
    let replaced = false
    const names = askUntil(ready.dns, () => replaced)
    const answer = await fetch(`${await pod.url('admin')}/replace`, { method: 'POST' })
    t.equal(answer.status, 202)
    await pod.line(({ msg }) => msg === 'all replaced')
    await pod.line(({ msg }) => msg === 'drained', 2)
    const outcomes = await load.stop()
    replaced = true
    t.comment(`${runtime}: ${JSON.stringify(outcomes)}`)
    t.same(Object.keys(outcomes), ['answered'])
    // Each name is asked once: whoever loses a datagram leaves this waiting.
    t.ok((await names) > 10)
    pod.process.kill('SIGTERM')
    t.same(await pod.exit, [0, null])
  })
})
