// Upstreams in pages: put in force by the first connection, and from then on as those that came by themselves.
import { once } from 'node:events'
import type { TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { encodePage, type PackedUpstream, placeOf } from '../../src/proxy/upstream-page.ts'
import { rawResource } from '../../src/xds/resource.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { type Backend, backend, endpoints, gateway, gone, SNI, upstream, type World } from './support.ts'
import { clusterOf } from './upstream-resource.ts'

const NAME = 'outbound_.80_._.details.bookinfo.svc.cluster.local'
const OTHER = 'outbound_.80_._.ratings.bookinfo.svc.cluster.local'
const ALIAS = 'details.bookinfo'
const REFUSED = 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME'

interface Rest {
  readonly cluster: XdsResource
  readonly endpoints?: XdsResource
  readonly aliases?: readonly string[]
}

/** The pages that hold these upstreams, all there are. */
function pagesOf(upstreams: readonly Rest[]): XdsResource[] {
  const pages = new Map<number, { upstreams: Map<string, PackedUpstream>; aliases: Map<string, string[]> }>()
  const at = (name: string) => {
    const { page } = placeOf(name)
    const known = pages.get(page) ?? {
      upstreams: new Map<string, PackedUpstream>(),
      aliases: new Map<string, string[]>(),
    }
    pages.set(page, known)
    return known
  }
  for (const { cluster, endpoints: assignment, aliases = [] } of upstreams) {
    at(cluster.name).upstreams.set(cluster.name, { cluster, endpoints: assignment })
    for (const alias of aliases) {
      const known = at(alias).aliases
      known.set(alias, [...(known.get(alias) ?? []), cluster.name])
    }
  }
  return [...pages].map(([page, content]) =>
    rawResource(String(page), TYPE.upstreamPage, encodePage({ ...content, secrets: [] })),
  )
}

class Gateway {
  readonly world: World
  readonly target: Backend
  #pages: readonly string[] = []

  constructor(world: World, target: Backend) {
    this.world = world
    this.target = target
  }

  static async start(t: Test, drainMs = 45_000): Promise<Gateway> {
    const target = await backend()
    const world = await gateway(target, { engine: { limits: { drainMs } } })
    t.teardown(async () => {
      await world.proxy.engine.close()
      await target.close()
    })
    return new Gateway(world, target)
  }

  get live(): string[] {
    return this.world.proxy.engine.status().upstreams.map(({ name }) => name)
  }

  /** As the supervisor does: what is new or changed, and then what is there no more. */
  rest(...upstreams: readonly Rest[]): void {
    const pages = pagesOf(upstreams)
    this.world.proxy.put(TYPE.upstreamPage, ...pages)
    const names = pages.map(({ name }) => name)
    const left = this.#pages.filter((name) => !names.includes(name))
    this.world.proxy.engine.update(TYPE.upstreamPage, [], left)
    this.#pages = names
  }

  at(name: string, ...ports: readonly number[]): XdsResource {
    return endpoints(
      name,
      (ports.length === 0 ? [this.target.port] : ports).map((port) => ({ port })),
    )
  }

  async connect(servername = NAME): Promise<TLSSocket> {
    return this.world.connect({ servername })
  }

  /** The answer, or how the connection attempt ends. */
  async ask(servername = NAME): Promise<string> {
    try {
      const socket = await this.connect(servername)
      const said = await says(socket, 'hello')
      socket.destroy()
      return said
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? ''
    }
  }
}

async function says(socket: TLSSocket, text: string): Promise<string> {
  socket.write(text)
  return String((await once(socket, 'data'))[0])
}

t.test('an upstream rests until its first connection, and is as any other from then on', async (t) => {
  const it = await Gateway.start(t)
  t.equal(await it.ask(), REFUSED)
  it.rest(
    { cluster: upstream(NAME), endpoints: it.at(NAME) },
    { cluster: upstream(OTHER), endpoints: it.at(OTHER) },
  )
  t.same(it.live, [SNI])
  t.equal(await it.ask(), 'hello')
  t.same(it.live, [NAME, SNI], 'the other one still rests')
  t.equal(await it.ask('outbound_.80_._.unknown.bookinfo.svc.cluster.local'), REFUSED)
})

t.test(
  'a change of endpoints in a page is for the next connection; a page that says the same changes nothing',
  async (t) => {
    const it = await Gateway.start(t)
    const second = await backend()
    t.teardown(() => second.close())
    it.rest({ cluster: upstream(NAME), endpoints: it.at(NAME) })
    const kept = await it.connect()
    t.equal(await says(kept, 'one'), 'one')
    it.rest({ cluster: upstream(NAME), endpoints: it.at(NAME, second.port) })
    t.equal(await it.ask(), 'hello')
    t.equal(second.accepts, 1)
    t.equal(await says(kept, 'two'), 'two')
    const [before] = it.world.proxy.engine.status().upstreams
    it.rest(
      { cluster: upstream(NAME), endpoints: it.at(NAME, second.port) },
      { cluster: upstream(OTHER), endpoints: it.at(OTHER) },
    )
    t.same(it.world.proxy.engine.status().upstreams[0], before)
    kept.destroy()
  },
)

t.test('other endpoints of the same version are other endpoints', async (t) => {
  const it = await Gateway.start(t)
  const second = await backend()
  t.teardown(() => second.close())
  const led = (serviceName: string, version: string) => ({
    ...clusterOf(NAME, { edsClusterConfig: { serviceName, edsConfig: { ads: {} } } }),
    version,
  })
  it.rest({ cluster: led('first', '1'), endpoints: { ...it.at('first'), version: '1' } })
  t.equal(await it.ask(), 'hello')
  it.rest({ cluster: led('second', '2'), endpoints: { ...it.at('second', second.port), version: '1' } })
  t.equal(await it.ask(), 'hello')
  t.equal(second.accepts, 1)
})

t.test('who came into force with endpoints that cannot be read leaves with its page', async (t) => {
  const it = await Gateway.start(t, 50)
  const strange = { ...it.at(NAME), version: 'y', body: Buffer.from([255]) }
  it.rest({ cluster: upstream(NAME), endpoints: strange })
  await gone(await it.connect())
  t.same(it.live, [NAME, SNI])
  it.rest()
  t.same(it.live, [SNI])
})

t.test('what leaves its page drains; what never was called leaves no trace', async (t) => {
  const it = await Gateway.start(t, 50)
  it.rest(
    { cluster: upstream(NAME), endpoints: it.at(NAME) },
    { cluster: upstream(OTHER), endpoints: it.at(OTHER) },
  )
  const kept = await it.connect()
  t.equal(await says(kept, 'one'), 'one')
  it.rest()
  t.equal(await it.ask(), REFUSED)
  t.equal(await it.ask(OTHER), REFUSED)
  await gone(kept)
  t.same(it.live, [SNI])
  t.match(
    it.world.proxy.log.find(({ upstream: name }) => name === NAME),
    { flag: 'DRAIN', reason: /was removed/ },
  )
})

t.test('from a page to a resource of its own and back, with all its connections', async (t) => {
  const it = await Gateway.start(t, 50)
  const { proxy } = it.world
  it.rest({ cluster: upstream(NAME), endpoints: it.at(NAME) })
  const kept = await it.connect()
  t.equal(await says(kept, 'one'), 'one')
  // Made before it is broken, both ways: for a moment it is in both places.
  proxy.put(TYPE.cluster, upstream(NAME))
  proxy.put(TYPE.endpoints, it.at(NAME))
  it.rest()
  t.equal(await it.ask(), 'hello')
  it.rest({ cluster: upstream(NAME), endpoints: it.at(NAME) })
  proxy.engine.update(TYPE.cluster, [], [NAME])
  proxy.engine.update(TYPE.endpoints, [], [NAME])
  t.equal(await it.ask(), 'hello')
  t.equal(await says(kept, 'two'), 'two')
  const [now] = proxy.engine.status().upstreams
  t.match(now, { name: NAME, counters: { cxTotal: 3 } }, 'one upstream all the while')
  it.rest()
  await gone(kept)
})

t.test('an alias leads to what rests; claimed twice, here or there, it means neither', async (t) => {
  const it = await Gateway.start(t)
  const details = { cluster: upstream(NAME, { aliases: [ALIAS] }), endpoints: it.at(NAME), aliases: [ALIAS] }
  const ratings = {
    cluster: upstream(OTHER, { aliases: [ALIAS] }),
    endpoints: it.at(OTHER),
    aliases: [ALIAS],
  }
  it.rest(details)
  t.equal(await it.ask(ALIAS), 'hello')
  it.rest(details, ratings)
  t.equal(await it.ask(ALIAS), REFUSED)
  it.rest(details)
  t.equal(await it.ask(ALIAS), 'hello')
  it.world.proxy.put(TYPE.cluster, upstream(SNI, { aliases: [ALIAS] }))
  t.equal(await it.ask(ALIAS), REFUSED)
  t.equal(await it.ask(NAME), 'hello')
  it.world.proxy.put(TYPE.cluster, upstream(SNI))
  t.equal(await it.ask(ALIAS), 'hello')
  t.match(it.world.proxy.log.at(-1), { sni: ALIAS, upstream: NAME })
})

t.test('an upstream without endpoints is there and says so', async (t) => {
  const it = await Gateway.start(t)
  it.rest({ cluster: upstream(NAME) })
  const socket = await it.connect()
  await gone(socket)
  t.match((await it.world.proxy.lines(1))[0], { flag: 'UH', reason: /have not been received yet/ })
})

t.test('what cannot be read is refused, and what was good stays', async (t) => {
  const it = await Gateway.start(t)
  const good = { cluster: upstream(NAME), endpoints: it.at(NAME) }
  it.rest(good)
  const { engine } = it.world.proxy
  const [page] = pagesOf([good])
  const garbage = { ...(page as XdsResource), version: 'x', body: Buffer.from('no page') }
  t.equal(engine.update(TYPE.upstreamPage, [garbage], []).length, 1)
  t.equal(engine.update(TYPE.upstreamPage, [{ ...garbage, name: '512' }], []).length, 1)
  engine.update(TYPE.upstreamPage, [], ['512'])
  t.equal(await it.ask(), 'hello')
  // Of a supervisor that knows more than we do.
  const strange = { ...good.cluster, version: 'y', body: Buffer.from([255]) }
  it.rest({ ...good, cluster: strange })
  t.equal(await it.ask(), 'hello')
  t.match(engine.status().problems, [{ object: `Cluster ${NAME}` }])
  it.rest(good)
  t.same(engine.status().problems, [])
})
