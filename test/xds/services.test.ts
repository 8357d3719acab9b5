// Every way in: ADS and each per-type service, SotW and Delta; and the way out.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { byName, cluster, plain } from './fixtures.ts'
import { RawStream, serve } from './wire.ts'

async function start(t: { teardown(end: () => unknown): void }) {
  const served = serve()
  const at = await served.server.listen({ host: '127.0.0.1', port: 0 })
  const port = 'port' in at ? at.port : 0
  t.teardown(() => served.server.close(0))
  const open = (variant: 'sotw' | 'delta' = 'delta', path?: string) => {
    const stream = new RawStream(`127.0.0.1:${port}`, variant, path)
    t.teardown(() => stream.close())
    return stream
  }
  return { ...served, port, open }
}

const SERVICES = {
  cluster: ['cluster.v3.ClusterDiscoveryService', 'Clusters', TYPE.cluster],
  endpoint: ['endpoint.v3.EndpointDiscoveryService', 'Endpoints', TYPE.endpoints],
  listener: ['listener.v3.ListenerDiscoveryService', 'Listeners', TYPE.listener],
  route: ['route.v3.RouteDiscoveryService', 'Routes', TYPE.route],
  secret: ['secret.v3.SecretDiscoveryService', 'Secrets', TYPE.secret],
} as const

for (const variant of ['sotw', 'delta'] as const) {
  const verb = variant === 'sotw' ? 'Stream' : 'Delta'
  for (const [what, [service, noun, typeUrl]] of Object.entries(SERVICES)) {
    t.test(`${variant}: the ${what} service by itself, with a type URL and without`, async (t) => {
      const { cache, open } = await start(t)
      cache.setType(typeUrl, byName(plain('a', '1', typeUrl), plain('b', '1', typeUrl)))
      for (const said of ['', typeUrl]) {
        const stream = open(variant, `/envoy.service.${service}/${verb}${noun}`)
        stream.send({ typeUrl: said, names: ['a'] })
        const first = await stream.next()
        t.match(first, { typeUrl, resources: { length: 1, 0: { anyTypeUrl: typeUrl } } })
        stream.ack(first, { typeUrl: said, ...(variant === 'sotw' && { names: ['a'] }) })
        cache.setType(typeUrl, byName(plain('a', said || '2', typeUrl), plain('b', '1', typeUrl)))
        t.match(await stream.next(), { resources: { length: 1 } })
        cache.setType(typeUrl, byName(plain('a', '1', typeUrl), plain('b', '1', typeUrl)))
        stream.close()
      }
    })
  }

  t.test(`${variant}: routes and names over ADS, after the clusters that they point to`, async (t) => {
    const { cache, open } = await start(t)
    const { cluster: CDS, route: RDS, nameTable: NDS } = TYPE
    cache.set(
      new Map([
        [RDS, byName(plain('9080', '1', RDS))],
        [NDS, byName(plain('', '1', NDS))],
        [CDS, byName(cluster('a'))],
      ]),
    )
    const stream = open(variant)
    stream.send({ typeUrl: CDS })
    stream.send({ typeUrl: NDS })
    stream.send({ typeUrl: RDS, names: ['9080'] })
    const clusters = await stream.next()
    t.equal(clusters.typeUrl, CDS)
    stream.ack(clusters)
    const routes = await stream.next()
    t.match(routes, { typeUrl: RDS, resources: { length: 1 } })
    stream.ack(routes, variant === 'sotw' ? { names: ['9080'] } : {})
    const names = await stream.next()
    t.match(names, { typeUrl: NDS, resources: { length: 1 } })
    stream.ack(names)
    cache.setType(NDS, byName(plain('', '2', NDS)))
    t.match(await stream.next(), { typeUrl: NDS, resources: { length: 1 } })
  })
}

t.test('closing lets what is under way be answered, for so long and no longer', async (t) => {
  const { server, cache, open } = await start(t)
  cache.setType('k', byName(plain('a', '1')))
  const [good, deaf] = [open(), open()]
  for (const one of [good, deaf]) one.send({ typeUrl: 'k' })
  const first = await good.next()
  await deaf.next()
  t.equal(await server.settled(1), false)
  good.ack(first)
  cache.setType('k', byName(plain('a', '2')))
  const closed = server.close(1_000)
  const second = await good.next()
  t.match(second.resources, [{ name: 'a' }], 'what changed last still comes')
  good.ack(second)
  t.match(await Promise.race([good.status, deaf.status]), { code: 14 })
  await closed

  const other = await start(t)
  other.cache.setType('k', byName(plain('a', '1')))
  const stream = other.open()
  stream.send({ typeUrl: 'k' })
  const settled = stream.next().then((response) => {
    const all = other.server.settled(60_000)
    stream.ack(response)
    return all
  })
  t.equal(await settled, true, 'settled as soon as the last one has answered')
})

t.test('a client that is stopped by its system costs one response, and the others nothing', async (t) => {
  const { server, cache, port, open } = await start(t)
  const big = (mark: number) => plain('big', String(mark).repeat(800_000).slice(0, 800_000))
  cache.setType('k', byName(big(0)))
  const child = spawn(
    process.execPath,
    [new URL('stopped-client.ts', import.meta.url).pathname, String(port)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  t.teardown(() => child.kill('SIGKILL'))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  t.equal((await lines.next()).value, big(0).version)
  child.kill('SIGSTOP')

  const others = Array.from({ length: 5 }, () => open())
  for (const one of others) {
    one.send({ typeUrl: 'k' })
    one.ack(await one.next())
  }
  for (let mark = 1; mark <= 20; mark++) {
    cache.setType('k', byName(big(mark)))
    for (const one of others) {
      const response = await one.next()
      t.match(response.resources, [{ version: big(mark).version }])
      one.ack(response)
    }
  }
  const [stopped] = server.clients().filter(({ pushes }) => pushes < 10)
  t.ok(stopped !== undefined && stopped.pushes <= 3, `it was sent ${stopped?.pushes} responses of 21`)
  child.kill('SIGCONT')
  const got: string[] = []
  for (let line = await lines.next(); got.at(-1) !== big(20).version; ) {
    got.push(String(line.value))
    if (got.at(-1) !== big(20).version) line = await lines.next()
  }
  t.ok(got.length <= 3, `${got.length} responses bring it up to date`)
})
