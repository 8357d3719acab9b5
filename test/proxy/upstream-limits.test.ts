// What an upstream takes on at one time, whom it may call at all, and what happens when connects fail.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { forbiddenAddress } from '../../src/proxy/forbidden-address.ts'
import type { UpstreamStatus } from '../../src/proxy/upstream-status.ts'
import { TYPE } from '../../src/xds/types.ts'
import { backend, gone, OUTBOUND, readAll, sidecarListener, TestProxy } from './support.ts'
import { assignmentOf, clusterOf, type EndpointJson } from './upstream-resource.ts'

type Json = Parameters<typeof clusterOf>[1]

interface World {
  readonly proxy: TestProxy
  readonly port: number
  readonly status: () => UpstreamStatus
}

async function serving(
  endpoints: readonly EndpointJson[],
  cluster: Json = {},
  policy: Json = {},
  options: ConstructorParameters<typeof TestProxy>[0] & { maxConnectAttempts?: number } = {},
): Promise<World> {
  const proxy = new TestProxy(options)
  proxy.put(TYPE.cluster, clusterOf(OUTBOUND, cluster))
  proxy.put(TYPE.endpoints, assignmentOf(OUTBOUND, endpoints, policy))
  proxy.put(
    TYPE.listener,
    sidecarListener({ protocol: 'tcp', maxConnectAttempts: options.maxConnectAttempts ?? 1 }),
  )
  const port = await proxy.port('productpage_9080')
  return { proxy, port, status: () => proxy.engine.status().upstreams[0] as UpstreamStatus }
}

async function open(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** What comes back to a client that says nothing. */
async function ask(port: number): Promise<string> {
  const socket = await open(port)
  const answer = await readAll(socket)
  socket.destroy()
  return answer.toString()
}

const hello = (socket: Socket) => socket.write('hello')

t.test('max_connections: one more is UO, and there is room again when one ends', async (t) => {
  const target = await backend((socket) => {
    hello(socket)
    socket.pipe(socket)
  })
  const world = await serving([{ port: target.port }], {
    circuitBreakers: { thresholds: [{ maxConnections: 2, trackRemaining: true }] },
  })
  const [one, two] = [await open(world.port), await open(world.port)]
  await Promise.all([once(one, 'data'), once(two, 'data')])
  t.equal((await ask(world.port)).length, 0)
  t.match((await world.proxy.lines(1))[0], { flag: 'UO', reason: /max_connections \(2\) is reached/ })
  t.match(world.status().circuitBreakers, {
    connections: 2,
    pending: 0,
    limits: { max_connections: 2, max_pending_requests: 1_024, max_retries: null },
    overflows: { max_connections: 1 },
    remaining: { max_connections: 0 },
  })
  t.equal(target.accepts, 2)
  one.destroy()
  await world.proxy.lines(2)
  while (world.status().circuitBreakers.connections > 1) await new Promise((resolve) => setImmediate(resolve))
  const three = await open(world.port)
  t.equal(String((await once(three, 'data'))[0]), 'hello')
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('max_pending_requests counts what is being connected', async (t) => {
  // Nobody answers at this address (RFC 5737), or the network says at once that it cannot: either way the first one is pending first.
  const world = await serving([{ host: '192.0.2.1', port: 9 }], {
    connectTimeout: '0.3s',
    circuitBreakers: { thresholds: [{ maxPendingRequests: 1 }] },
  })
  const [first, second] = [await open(world.port), await open(world.port)]
  await Promise.all([readAll(first), readAll(second)])
  const lines = await world.proxy.lines(2)
  t.same(lines.map(({ flag }) => flag).sort(), ['UF', 'UO'])
  t.match(
    lines.find(({ flag }) => flag === 'UO'),
    { reason: /max_pending_requests \(1\)/ },
  )
  await world.proxy.engine.close()
})

t.test('max_retries bounds second attempts where it is said', async (t) => {
  const dead = await backend()
  await dead.close()
  const target = await backend((socket) => socket.end('good'))
  const endpoints = [
    { port: dead.port, loadBalancingWeight: 1 },
    { host: '127.0.0.2', port: dead.port, loadBalancingWeight: 1 },
  ]
  const world = await serving(
    endpoints,
    { circuitBreakers: { thresholds: [{ maxRetries: 0 }] } },
    {},
    { maxConnectAttempts: 3 },
  )
  await ask(world.port)
  t.match((await world.proxy.lines(1))[0], { flag: 'UO', reason: /max_retries \(0\)/ })
  t.match(world.status(), {
    counters: { cxTotal: 1, cxRetry: 0 },
    circuitBreakers: { overflows: { max_retries: 1 } },
  })
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('per_host_thresholds: the others are used, and when all are full it is UO', async (t) => {
  const [one, two] = await Promise.all([backend(hello), backend(hello)])
  const world = await serving([{ port: one.port }, { port: two.port }], {
    circuitBreakers: { perHostThresholds: [{ maxConnections: 1 }] },
  })
  const clients = [await open(world.port), await open(world.port)]
  await Promise.all(clients.map((client) => once(client, 'data')))
  t.same([one.accepts, two.accepts], [1, 1])
  await ask(world.port)
  t.match((await world.proxy.lines(1))[0], {
    flag: 'UO',
    reason: /per_host_thresholds.max_connections \(1\)/,
  })
  await Promise.all([world.proxy.engine.close(), one.close(), two.close()])
})

t.test(
  'drop_overloads refuses a share; endpoint_stale_after ends an assignment nobody confirms',
  async (t) => {
    const target = await backend((socket) => socket.end('good'))
    let draw = 0.2
    const drops = [{ category: 'lb', dropPercentage: { numerator: 25, denominator: 'HUNDRED' } }]
    const world = await serving(
      [{ port: target.port }],
      {},
      { dropOverloads: drops, endpointStaleAfter: '0.2s' },
      {
        random: () => draw,
      },
    )
    await ask(world.port)
    t.match((await world.proxy.lines(1))[0], { flag: 'UO', reason: /drop_overloads .*lb, 25 %/ })
    draw = 0.3
    t.equal(await ask(world.port), 'good')
    t.equal(world.status().counters.dropped, 1)
    while (world.status().endpoints.length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
    await ask(world.port)
    t.match(
      (await world.proxy.lines(3)).find(({ flag }) => flag === 'UH'),
      { reason: /endpoint_stale_after/ },
    )
    world.proxy.put(TYPE.endpoints, assignmentOf(OUTBOUND, [{ port: target.port }]))
    t.equal(await ask(world.port), 'good')
    await Promise.all([world.proxy.engine.close(), target.close()])
  },
)

t.test('counters say how connects went, by endpoint and in all', async (t) => {
  const dead = await backend()
  await dead.close()
  const target = await backend()
  const world = await serving(
    [{ port: target.port, healthStatus: 'DEGRADED' }, { port: dead.port }],
    {},
    {},
    // The healthy one goes first, and fails.
    { maxConnectAttempts: 2, random: () => 0 },
  )
  const client = await open(world.port)
  client.end('12345')
  t.equal((await readAll(client)).length, 5)
  await world.proxy.lines(1)
  const [good, bad] = world.status().endpoints
  t.match(good, {
    cxTotal: 1,
    cxConnectFail: 0,
    bytesSent: 5,
    bytesReceived: 5,
    active: 0,
    healthFlags: ['degraded_eds_health'],
    edsHealth: 'DEGRADED',
  })
  t.match(bad, { cxTotal: 1, cxConnectFail: 1, cxConnectTimeout: 0, active: 0 })
  t.match(world.status().counters, { cxTotal: 2, cxConnectFail: 1, cxRetry: 1 })
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('panic is Envoy’s default: with too few healthy endpoints all are tried', async (t) => {
  const target = await backend((socket) => socket.end('good'))
  const world = await serving([{ port: target.port, healthStatus: 'UNHEALTHY' }], { commonLbConfig: {} })
  t.equal(await ask(world.port), 'good')
  t.equal(world.status().panicking, true)
  world.proxy.put(TYPE.cluster, clusterOf(OUTBOUND, {}))
  await ask(world.port)
  t.match(
    (await world.proxy.lines(2)).find(({ flag }) => flag === 'UH'),
    { reason: /is UNHEALTHY/ },
  )
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('open connections go on when their endpoint is DRAINING or gone', async (t) => {
  const target = await backend()
  const world = await serving([{ port: target.port }])
  const client = await open(world.port)
  client.write('a')
  await once(client, 'data')
  for (const rest of [[{ port: target.port, healthStatus: 'DRAINING' }], []]) {
    world.proxy.put(TYPE.endpoints, assignmentOf(OUTBOUND, rest))
    t.equal((await ask(world.port)).length, 0, 'nobody new')
    client.write('b')
    t.equal(String((await once(client, 'data'))[0]), 'b')
  }
  client.destroy()
  await gone(client)
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('addresses that no endpoint may name', async (t) => {
  for (const [host, what] of [
    ['127.0.0.1', 'loopback'],
    ['127.255.255.254', 'loopback'],
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'unspecified'],
    ['169.254.169.254', 'metadata'],
    ['169.254.1.1', 'link-local'],
    ['100.100.100.200', 'metadata'],
    ['168.63.129.16', 'metadata'],
    ['224.0.0.1', 'multicast'],
    ['239.255.255.255', 'multicast'],
    ['255.255.255.255', 'broadcast'],
    ['::', 'unspecified'],
    ['::1', 'loopback'],
    ['0:0:0:0:0:0:0:1', 'loopback'],
    ['fe80::1', 'link-local'],
    ['fe80::1%eth0', 'link-local'],
    ['febf::1', 'link-local'],
    ['ff02::1', 'multicast'],
    ['fd00:ec2::254', 'metadata'],
    ['fd00:0ec2:0::0254', 'metadata'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['::ffff:7f00:1', 'loopback'],
    ['::ffff:169.254.169.254', 'metadata'],
    ['::127.0.0.1', 'loopback'],
    ['64:ff9b::a9fe:a9fe', 'metadata'],
    ['2002:7f00:1::', 'loopback'],
  ] as const)
    t.match(forbiddenAddress(host), new RegExp(what), host)
  for (const host of [
    '10.0.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '203.0.113.9',
    '2001:db8::1',
    'fd00::1',
    '::ffff:10.0.0.1',
    '64:ff9b::a00:1',
    '128.0.0.1',
    'fec0::1',
    'lb.example',
  ])
    t.equal(forbiddenAddress(host), undefined, host)
})

t.test(
  'a local address is left out, its neighbours are not, and names are judged by what they resolve to',
  async (t) => {
    const target = await backend()
    const answers = [['203.0.113.9'], ['169.254.169.254', '127.0.0.1']]
    const world = await serving(
      [{ port: target.port }, { host: '::1', port: 80 }, { host: 'rebinding.example', port: 80 }],
      { dnsRefreshRate: '0.02s' },
      {},
      {
        allowLocalEndpoints: false,
        resolve: async () => ({
          addresses: (answers.length > 1 ? answers.shift() : answers[0]) ?? [],
          ttlMs: undefined,
        }),
      },
    )
    while (world.status().endpoints.length === 0) await new Promise((resolve) => setImmediate(resolve))
    t.match(world.status(), {
      endpoints: [{ address: '203.0.113.9:80' }],
      refused: [
        { address: `127.0.0.1:${target.port}`, reason: 'expected no local address, found loopback' },
        { address: '[::1]:80' },
      ],
    })
    t.match(world.proxy.engine.status().problems, [
      {
        object: `ClusterLoadAssignment ${OUTBOUND}`,
        field: `endpoint 127.0.0.1:${target.port}`,
        message: /loopback/,
      },
      { field: 'endpoint [::1]:80' },
    ])
    while (world.status().endpoints.length > 0) await new Promise((resolve) => setTimeout(resolve, 5))
    t.match(world.status().refused, [
      {},
      {},
      { address: '127.0.0.1:80' },
      { address: '169.254.169.254:80', reason: /rebinding\.example resolves to 169.*metadata/ },
    ])
    await ask(world.port)
    t.match((await world.proxy.lines(1))[0], { flag: 'UH', reason: /is refused: expected no local address/ })
    t.equal(target.accepts, 0)
    await Promise.all([world.proxy.engine.close(), target.close()])
  },
)
