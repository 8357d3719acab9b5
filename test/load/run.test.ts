import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import t from 'tap'
import { findRuntime } from '../../src/cli/runtime.ts'
import { Backend, type BackendCounters } from '../../src/load/backend.ts'
import { flowCalled, type PhaseResult } from '../../src/load/load-result.ts'
import type { FlowPlan, LoadPlan, LoadTarget } from '../../src/load/plan.ts'
import { get, LoadGenerator, put } from '../../src/load/run.ts'
import { tlsFront } from './support.ts'

const LOAD = [{ name: 'load', seconds: 0.2 }]

// As a benchmark has them: one plan after the other on the same processes.
const [load, two] = await Promise.all([LoadGenerator.start(), LoadGenerator.start({ processes: 2 })])
t.teardown(() => Promise.all([load.stop(), two.stop()]))

const since = (before: BackendCounters, { counters }: Backend): BackendCounters => ({
  connections: counters.connections - before.connections,
  requests: counters.requests - before.requests,
  bytesSent: counters.bytesSent - before.bytesSent,
  bytesReceived: counters.bytesReceived - before.bytesReceived,
})

/** The same in the words of the other end. */
const mirrored = ({ connections, requests, bytesReceived, bytesSent }: PhaseResult): BackendCounters => ({
  connections,
  requests,
  bytesSent: bytesReceived,
  bytesReceived: bytesSent,
})

const FLOWS: readonly FlowPlan[] = [
  { kind: 'requests', name: 'closed loop', connections: 3, request: get('/bytes/1000') },
  { kind: 'requests', name: 'open loop', connections: 3, rate: 200, request: get('/bytes/70000') },
  { kind: 'requests', name: 'upload', connections: 2, request: put('/anything', 100_000) },
  { kind: 'requests', name: 'long upload', connections: 1, request: put('/anything', 2_500_000) },
  { kind: 'handshakes', name: 'handshakes', connections: 2, request: get('/') },
  { kind: 'handshakes', name: 'handshakes at a rate', connections: 9, rate: 40, request: get('/') },
  { kind: 'idle', name: 'idle', connections: 20, request: get('/bytes/10') },
  { kind: 'churn', name: 'churn', rate: 60, lifeSeconds: 0.1, thinkSeconds: 0.05, request: get('/bytes/9') },
]

for (const name of ['node', 'bun'] as const) {
  t.test(`${name}: every connection, request and byte is counted the same by the service`, async (t) => {
    const runtime = findRuntime(name)
    if (!runtime.ok) throw new Error(runtime.error)
    const backend = await Backend.start({ host: '127.0.0.1', port: 0 })
    const front = await tlsFront(backend.port)
    const load = name === 'node' ? two : await LoadGenerator.start({ processes: 2, runtime: runtime.value })
    t.teardown(async () => {
      if (load !== two) await load.stop()
      front.close()
      await backend.stop()
    })
    for (const flow of FLOWS) {
      const before = { ...backend.counters }
      const result = await load.run({ target: front.target, phases: LOAD, flows: [flow], intervalMs: 100 })
      const { total, measured, samples } = flowCalled(result, flow.name)
      t.same(since(before, backend), mirrored(total), flow.name)
      t.same(total.errorKinds, [], flow.name)
      t.ok(total.requests > 0)
      t.equal(measured.latency.count, measured.requests)
      t.equal(total.handshake.count, total.connections)
      t.ok(samples.reduce((sum, sample) => sum + sample.requests, 0) <= measured.requests)
      if ('rate' in flow && flow.rate !== undefined && flow.kind !== 'churn') {
        t.equal(measured.requests, flow.rate * 0.2, 'the schedule was kept')
        t.equal(measured.lateness.count, measured.requests)
      }
    }
    t.same(new Set(front.names), new Set(['one.test', 'two.test']))
  })
}

t.test('who does not read, and who is not read, is held; all of it ends with release', async (t) => {
  const backend = await Backend.start({ host: '127.0.0.1', port: 0 })
  const front = await tlsFront(backend.port)
  t.teardown(async () => {
    front.close()
    await backend.stop()
  })
  const size = 64_000_000
  const flows: FlowPlan[] = [
    { kind: 'stalled-download', name: 'down', connections: 3, request: get(`/bytes/${size}`) },
    { kind: 'stalled-upload', name: 'up', connections: 4, request: put('/stall', size) },
  ]
  const held = await load.hold({ target: front.target, phases: LOAD, flows })
  t.equal(flowCalled(held, 'down').total.connections, 3)
  t.equal(flowCalled(held, 'up').total.connections, 4)
  t.equal(backend.counters.connections, 7)
  t.ok(backend.counters.bytesSent < 3 * size, 'buffers hold less than was asked for')
  await load.release()
  backend.releaseStalled()
  const whole = await load.run({
    target: front.target,
    phases: LOAD,
    flows: [{ kind: 'stalled-download', name: 'too little', connections: 1, request: get('/bytes/0') }],
  })
  t.match(flowCalled(whole, 'too little').total.errorKinds, [{ kind: 'not stalled', count: 1 }])
})

/** A service that stalls once, at a request of its choice; `forMs` infinite: for good. */
async function stallingService(
  atRequest: number,
  forMs: number,
): Promise<{ target: LoadTarget; close(): void }> {
  let seen = 0
  let waiting: ServerResponse[] | undefined
  const server = createServer((_request, response) => {
    if (++seen === atRequest) {
      waiting = []
      if (Number.isFinite(forMs))
        setTimeout(() => {
          for (const each of waiting ?? []) each.end('ok')
          waiting = undefined
        }, forMs)
    }
    if (waiting === undefined) response.end('ok')
    else waiting.push(response)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  return { target: { address: '127.0.0.1', port }, close: () => server.close().closeAllConnections() }
}

t.test('no coordinated omission: a stall is in the latency of every request that it delayed', async (t) => {
  const rate = 400
  const stallMs = 300
  const service = await stallingService(100, stallMs)
  t.teardown(async () => {
    service.close()
  })
  const plan: LoadPlan = {
    target: service.target,
    phases: [{ name: 'load', seconds: 1 }],
    flows: [{ kind: 'requests', name: 'open', connections: 4, rate, request: get('/') }],
  }
  const { measured } = flowCalled(await load.run(plan), 'open')
  t.same([measured.requests, measured.unfinished, measured.errors], [rate, 0, 0])
  // Four requests were on their way; all others that the stall delayed had not even been sent.
  const delayedByHalf = (rate * stallMs) / 2 / 1_000
  t.ok(measured.latency.countAbove((stallMs / 2) * 1_000 * 0.99) >= delayedByHalf - 4)
  t.ok(measured.latency.quantile(0.99) >= stallMs * 1_000 * 0.9)
})

t.test('what a target never answers is in the figures with the time that it waited', async (t) => {
  const service = await stallingService(50, Number.POSITIVE_INFINITY)
  t.teardown(() => service.close())
  const plan: LoadPlan = {
    target: service.target,
    phases: [{ name: 'load', seconds: 0.5 }],
    flows: [{ kind: 'requests', name: 'open', connections: 4, rate: 200, request: get('/') }],
    graceMs: 50,
  }
  const { measured } = flowCalled(await two.run(plan), 'open')
  t.equal(measured.requests, 49)
  t.equal(measured.requests + measured.unfinished, 100, 'nothing of the schedule is missing')
  t.equal(measured.latency.count, 100)
  t.ok(measured.latency.countAbove(195_000) >= 20, 'those before 0.35 s waited until 0.55 s')
})

t.test('a storm has a phase of its own, and each flow is told by phase', async (t) => {
  const backend = await Backend.start({ host: '127.0.0.1', port: 0 })
  const front = await tlsFront(backend.port)
  t.teardown(async () => {
    front.close()
    await backend.stop()
  })
  const phases = ['warm-up', 'before', 'storm', 'after'].map((name) => ({
    name,
    seconds: 0.2,
    warmUp: name === 'warm-up',
  }))
  const result = await load.run({
    target: front.target,
    phases,
    flows: [
      { kind: 'requests', name: 'quiet', connections: 2, rate: 100, request: get('/') },
      { kind: 'handshakes', name: 'storm', connections: 2, phases: ['storm'], request: get('/') },
    ],
  })
  const quiet = flowCalled(result, 'quiet')
  t.same(
    quiet.phases.map(({ name, requests }) => [name, requests]),
    [
      ['warm-up', 20],
      ['before', 20],
      ['storm', 20],
      ['after', 20],
    ],
  )
  t.same([quiet.measured.requests, quiet.total.requests], [60, 80])
  const storm = flowCalled(result, 'storm')
  t.same(
    storm.phases.map(({ name }) => name),
    ['storm'],
  )
  t.ok(storm.measured.requests > 0)
  t.equal(storm.total.requests, storm.measured.requests)
})

t.test(
  'a service that answers before it took the body: no other request follows on that connection',
  async (t) => {
    const sockets: Socket[] = []
    const server = createTcpServer((socket) => {
      sockets.push(socket.on('error', () => {}))
      socket.once('data', () => socket.pause().write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'))
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => {
      for (const socket of sockets) socket.destroy()
      server.close()
    })
    const { port } = server.address() as AddressInfo
    const flow: FlowPlan = { kind: 'requests', name: 'early', connections: 2, request: put('/', 50_000_000) }
    const { total } = flowCalled(
      await load.run({ target: { address: '127.0.0.1', port }, phases: LOAD, flows: [flow] }),
      'early',
    )
    t.same(total.errorKinds, [])
    t.ok(total.requests > 2)
    t.ok(total.connections - total.requests <= 2, 'one request each, and those that were opened last')
  },
)

t.test('a refused server name is the alert that says so, on both runtimes', async (t) => {
  const alert = Buffer.from('15030300020270', 'hex')
  // A fatal unrecognized_name (RFC 8446 section 6), as a gateway sends it before any other word.
  const refusing = createTcpServer((socket) =>
    socket.on('error', () => {}).once('data', () => socket.end(alert)),
  )
  await once(refusing.listen(0, '127.0.0.1'), 'listening')
  const front = await tlsFront(1)
  front.close()
  const bun = findRuntime('bun')
  if (!bun.ok) throw new Error(bun.error)
  const onBun = await LoadGenerator.start({ runtime: bun.value })
  t.teardown(async () => {
    await onBun.stop()
    refusing.close()
  })
  const { port } = refusing.address() as AddressInfo
  for (const each of [load, onBun]) {
    const result = await each.run({
      target: { ...front.target, port },
      phases: LOAD,
      flows: [FLOWS[0] as FlowPlan],
    })
    t.match(flowCalled(result, 'closed loop').total.errorKinds, [
      { kind: 'TLS alert unrecognized_name', count: 3 },
    ])
  }
})

t.test('errors are counted by kind, with the first message of each', async (t) => {
  const backend = await Backend.start({ host: '127.0.0.1', port: 0 })
  const front = await tlsFront(backend.port)
  const server = createTcpServer(
    (socket) => void socket.resume().end('HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n'),
  )
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  t.teardown(async () => {
    front.close()
    server.close()
    await backend.stop()
  })
  const errorsOf = async (target: LoadTarget, flow: FlowPlan) =>
    flowCalled(await load.run({ target, phases: LOAD, flows: [flow], timeoutMs: 200 }), flow.name).total
  const flow = FLOWS[0] as FlowPlan
  const handshakes = FLOWS[4] as FlowPlan
  const refusing = { address: '127.0.0.1', port: 1 }
  t.match(await errorsOf(refusing, flow), {
    errors: 3,
    requests: 0,
    errorKinds: [{ kind: 'ECONNREFUSED', count: 3, first: /127\.0\.0\.1:1/ }],
  })
  const { tls } = front.target as { tls: NonNullable<LoadTarget['tls']> }
  const expecting = (id: string): LoadTarget => ({ ...front.target, tls: { ...tls, expectedIds: [id] } })
  t.equal((await errorsOf(expecting(front.id), flow)).errors, 0)
  t.match(await errorsOf(expecting('spiffe://load.test/ns/load/sa/other'), flow), {
    connections: 0,
    errorKinds: [{ kind: 'identity', first: new RegExp(`the server is ${front.id}; expected .*/sa/other`) }],
  })
  const stranger = await tlsFront(backend.port)
  stranger.close()
  const untrusting: LoadTarget = { ...front.target, tls: { ...tls, caPem: stranger.target.tls?.caPem ?? '' } }
  t.match((await errorsOf(untrusting, flow)).errorKinds, [{ kind: /CERT|ISSUER|SIGNATURE/, count: 3 }])
  const mute = createTcpServer((socket) => void socket.resume().end())
  await once(mute.listen(0, '127.0.0.1'), 'listening')
  const closing = await errorsOf({ address: '127.0.0.1', port: (mute.address() as AddressInfo).port }, flow)
  mute.close()
  t.match(closing.errorKinds, [
    { kind: 'closed', first: 'the target closed the connection before an answer' },
  ])
  t.equal(closing.errors, closing.connections, 'each connection that was of no use is an error')
  const failing = await errorsOf({ address: '127.0.0.1', port }, handshakes)
  t.match(failing.errorKinds[0], { kind: 'HTTP 503', first: 'the service answered 503' })
  t.equal(failing.latency.count, 0, 'an error is no latency')
  await t.rejects(errorsOf({ ...front.target, tls: { ...tls, privateKeyPem: 'x' } }, flow), {
    message: /^key: not an unencrypted private key/,
  })
})
