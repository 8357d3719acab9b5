// What an Envoy as a sidecar makes of our resources: HTTP, TCP and DNS, as its application sees them.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, get, type IncomingMessage, request } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DecodedPacket, decode, encode } from 'dns-packet'
import t from 'tap'
import { bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'
import { TYPE } from '../../src/xds/types.ts'
import { TestCluster } from '../discovery/cluster.ts'
import { startEnvoy, WITHOUT_ENVOY } from '../discovery/envoy-process.ts'
import { eventually, freePort } from '../process/pod.ts'
import { yamlOf } from '../resources/world.ts'

const HOST = 'shop.bookinfo.svc.cluster.local'
const CIDR = `127.${64 + (process.pid % 128)}.240.0/20`
if (WITHOUT_ENVOY !== false) {
  t.test('an Envoy as a sidecar', { skip: WITHOUT_ENVOY }, async () => {})
} else {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))

  const seen: IncomingMessage[] = []
  const web = createServer((message, response) => {
    seen.push(message)
    if (message.url === '/broken') response.writeHead(500)
    response.end('page')
  })
  web.on('upgrade', (_message, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
    socket.pipe(socket)
  })
  const mail = createTcpServer((socket) => socket.end('220 ready\r\n'))
  const other = createServer((_message, response) => response.end('other'))
  const listening = await Promise.all(
    [web, mail, other].map(async (server) => {
      server.listen(0, '127.0.0.1')
      t.teardown(() => server.close())
      await once(server, 'listening')
      return (server.address() as AddressInfo).port
    }),
  )
  const [webPort = 0, mailPort = 0, otherPort = 0] = listening
  const resolver = createSocket('udp4')
  resolver.bind(0, '127.0.0.1')
  t.teardown(() => resolver.close())
  await once(resolver, 'listening')
  resolver.on('message', (bytes, from) => {
    const { id = 0, questions = [] } = decode(bytes)
    const answers = [{ type: 'A' as const, name: questions[0]?.name ?? '', ttl: 5, data: '192.0.2.1' }]
    resolver.send(encode({ type: 'response', id, questions, answers }), from.port, from.address)
  })

  const shop = (pods: readonly [name: string, port: number, number: number][]) =>
    yamlOf(
      {
        ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'shop', namespace: 'bookinfo' } },
        spec: { ports: pods.map(([name, port, number]) => ({ name, port: number, targetPort: port })) },
      },
      {
        ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
        metadata: {
          ...{ name: 'shop-1', namespace: 'bookinfo' },
          labels: { 'kubernetes.io/service-name': 'shop' },
        },
        ports: pods.map(([name, port]) => ({ name, port, protocol: 'TCP' })),
        endpoints: [{ addresses: ['127.0.0.1'], conditions: { ready: true } }],
      },
    )
  const cluster = await TestCluster.start('cluster-1', {
    yaml: shop([
      ['http', webPort, 80],
      ['tcp', mailPort, 25],
    ]),
  })
  t.teardown(() => cluster.stop())
  const dns = await freePort()
  const proxy = await startEnvoy(folder, {
    ...{ id: 'sidecar~127.0.0.1~sleep.bookinfo~x', cluster: 'cluster-1', bind: CIDR },
    ...{ ads: `127.0.0.1:${cluster.plainPort}`, credential: undefined },
    metadata: {
      ISTHMUS_DNS: `127.0.0.1:${dns}`,
      ISTHMUS_DNS_RESOLVERS: `127.0.0.1:${resolver.address().port}`,
    },
  })
  t.teardown(() => proxy.kill('SIGKILL'))
  const range = parseBindRange(CIDR)
  const address = (range.ok && bindAddresses([HOST], range.value).get(HOST)) || ''
  const client = () => cluster.discovery.clients()[0]
  const acked = (version = '') => {
    const { ackedVersion = '' } = client()?.types[TYPE.listener] ?? {}
    return ackedVersion !== '' && ackedVersion !== version
  }
  await cluster.poll('the listeners', () => acked(), 20_000)

  const ask = async (type: 'A' | 'AAAA' | 'TXT', name: string): Promise<DecodedPacket> => {
    const socket = createSocket('udp4')
    const answer = once(socket, 'message')
    socket.send(encode({ type: 'query', id: 7, flags: 0x100, questions: [{ type, name }] }), dns, '127.0.0.1')
    const [bytes] = (await answer) as [Buffer]
    socket.close()
    return decode(bytes)
  }
  const page = async (options: object): Promise<string> => {
    const [response] = (await once(get({ host: address, port: 80, ...options }), 'response')) as [
      IncomingMessage,
    ]
    let text = `${response.statusCode} `
    for await (const chunk of response) text += chunk
    return text
  }

  // What is ACKed may still be opening its socket.
  await eventually(
    () => page({}).catch(String),
    (text) => text === '200 page',
  )

  t.test('HTTP goes through as it was sent, whatever name it asks for', async (t) => {
    t.equal(await page({ headers: { host: 'anything.example', 'x-request-id': '1' } }), '200 page')
    const { rawHeaders, httpVersion } = seen.at(-1) ?? { rawHeaders: [], httpVersion: '' }
    const names = rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
    t.strictSame([httpVersion, names.sort()], ['1.1', ['host', 'x-forwarded-proto', 'x-request-id']])
    t.match(rawHeaders, ['host', 'anything.example'])
  })

  t.test("an application's errors do not put it out", async (t) => {
    for (let i = 0; i < 12; i++) t.equal(await page({ path: '/broken' }), '500 page')
    t.equal(await page({}), '200 page')
  })

  t.test('a websocket', async (t) => {
    const upgrade = request({
      ...{ host: address, port: 80 },
      headers: { connection: 'Upgrade', upgrade: 'websocket' },
    })
    upgrade.end()
    const [, socket] = await once(upgrade, 'upgrade')
    socket.write('hello')
    t.equal(`${(await once(socket, 'data'))[0]}`, 'hello')
    socket.destroy()
  })

  t.test('a protocol in which the server speaks first, on a port that does not say HTTP', async (t) => {
    const socket = connect(25, address)
    t.equal(`${(await once(socket, 'data'))[0]}`, '220 ready\r\n')
    socket.destroy()
  })

  t.test('DNS: hosts by their names, others of the resolver', async (t) => {
    for (const name of [HOST, 'shop.bookinfo', 'shop.bookinfo.svc'])
      t.match(await ask('A', name), { rcode: 'NOERROR', answers: [{ data: address, ttl: 30 }] }, name)
    t.match(await ask('A', 'example.com'), { rcode: 'NOERROR', answers: [{ data: '192.0.2.1' }] })
    const mapped = await ask('AAAA', HOST)
    t.match(mapped, { rcode: 'NOERROR', answers: [{ type: 'AAAA' }] }, 'or musl would not find it at all')
    const [only] = mapped.answers ?? []
    t.equal(await page({ host: only?.type === 'AAAA' ? only.data : '' }), '200 page')
  })

  t.test('a new host is served and has a name at once', async (t) => {
    const before = client()?.types[TYPE.listener]?.ackedVersion
    await cluster.apply(shop([['http', otherPort, 80]]).replaceAll('"shop', '"shop2'))
    await cluster.poll('the listener', () => acked(before), 10_000)
    const [at] = (await ask('A', 'shop2.bookinfo')).answers ?? []
    await eventually(
      () => page({ host: at?.type === 'A' ? at.data : '' }).catch(String),
      (text) => text === '200 other',
    )
    t.equal(await page({}), '200 page', 'and the others still are')
  })

  t.test('it refused nothing', async (t) => {
    for (const [type, { lastError }] of Object.entries(client()?.types ?? {})) t.equal(lastError, '', type)
  })
}
