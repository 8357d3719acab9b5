// What home-made servers get wrong, each as it happened to somebody, in both variants. (The model checker finds them as well:
// mutants.ts.)
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { cluster, endpoints, listener, NODE, plain } from './fixtures.ts'
import { Bench } from './stream-bench.ts'
import { RawStream, serve } from './wire.ts'

const { cluster: CDS, endpoints: EDS, listener: LDS } = TYPE

for (const variant of ['sotw', 'delta'] as const) {
  const sotw = variant === 'sotw'
  /** Names of a request that changes none: in SotW they are said every time. */
  const same = (...names: string[]) => (sotw ? { names } : {})
  const two = () =>
    new Bench(variant).set(CDS, cluster('a'), cluster('b')).set(EDS, endpoints('a'), endpoints('b'))

  t.test(
    `${variant}: endpoints are sent again after their cluster changed, and after a reconnect`,
    async (t) => {
      const bench = two()
      bench.ask(CDS)
      bench.ask(EDS, { names: ['a', 'b'] })
      bench.pull()
      bench.ack(CDS)
      bench.ack(EDS, same('a', 'b'))
      bench.set(CDS, cluster('a', 2), cluster('b'))
      t.same(
        bench.pull(),
        [sotw ? 'CDS a,b' : 'CDS a', 'EDS a'],
        'before the answer to the cluster, which waits for them',
      )

      const again = two()
      const initialVersions = new Map(['a', 'b'].map((name) => [name, endpoints(name).version]))
      again.ask(EDS, { names: ['a', 'b'], initialVersions })
      t.same(again.pull(), ['EDS a,b'], 'although it has them, and before it asks for clusters')
    },
  )

  t.test(`${variant}: endpoints are not withheld until all names of the view are asked for`, async (t) => {
    const bench = two()
    bench.ask(CDS)
    bench.ask(EDS, { names: ['b'] })
    t.same(bench.pull(), [`CDS a,b`, 'EDS b'])
    bench.ack(EDS, sotw ? { names: ['b', 'a', 'nobody'] } : { names: ['a', 'nobody'] })
    t.same(bench.pull(), [sotw ? 'EDS a' : 'EDS a -nobody'])
    bench.ack(EDS, same('a', 'b', 'nobody'))
    bench.set(EDS, endpoints('a'), endpoints('b'), endpoints('nobody'))
    t.same(bench.pull(), ['EDS nobody'], 'and the watch is not lost')
  })

  t.test(`${variant}: what is asked for before the clusters is answered, and not forgotten`, async (t) => {
    const bench = new Bench(variant).set(LDS, listener('l'))
    bench.ask(EDS, { names: ['a'] })
    bench.ask(LDS)
    t.same(bench.pull(), sotw ? ['LDS l'] : ['EDS  -a', 'LDS l'])
    bench.ack(LDS)
    if (!sotw) bench.ack(EDS)
    bench.set(CDS, cluster('a')).set(EDS, endpoints('a'))
    t.same(bench.pull(), ['EDS a'])
    bench.ask(CDS)
    t.same(bench.pull(), ['CDS a'])
    bench.ack(EDS, same('a'))
    t.same(bench.pull(), ['EDS a'], 'once more, for the cluster that now waits')
  })

  t.test(`${variant}: names count with a stale nonce, with an ACK, and with a NACK`, async (t) => {
    for (const answer of [{ responseNonce: 'stale' }, {}, { errorDetail: 'a is bad' }]) {
      const bench = two()
      bench.ask(EDS, { names: ['a'] })
      bench.pull()
      bench.ack(EDS, { names: sotw ? ['a', 'b'] : ['b'], ...answer })
      if ('responseNonce' in answer) bench.ack(EDS, same('a', 'b'))
      t.same(bench.pull(), ['EDS b'])
    }
  })

  t.test(
    `${variant}: what is given up and wanted again is sent again, although nothing changed`,
    async (t) => {
      const bench = two()
      bench.ask(EDS, { names: ['a', 'b'] })
      bench.pull()
      bench.ack(EDS, sotw ? { names: ['b'] } : { unsubscribe: ['a'] })
      t.same(bench.pull(), [], 'giving up is not answered')
      bench.ask(EDS, { names: sotw ? ['a', 'b'] : ['a'] })
      t.same(bench.pull(), ['EDS a'])
    },
  )

  t.test(`${variant}: what is gone when the client comes back does not stay with it`, async (t) => {
    const bench = new Bench(variant).set(CDS, cluster('a'))
    const had = new Map(['a', 'leaked'].map((name) => [name, cluster(name).version]))
    bench.ask(CDS, sotw ? { versionInfo: 'old' } : { initialVersions: had })
    t.same(bench.settle(), sotw ? ['CDS a'] : ['CDS ', 'CDS  -leaked'])
  })

  t.test(`${variant}: one endpoint that changes is one resource, however many there are`, async (t) => {
    const many = Array.from({ length: 100 }, (_, n) => `c${n}`)
    const bench = new Bench(variant).set(EDS, ...many.map((name) => endpoints(name)))
    bench.ask(EDS, { names: many })
    bench.pull()
    bench.ack(EDS, same(...many))
    bench.set(EDS, ...many.map((name) => endpoints(name, name === 'c7' ? 81 : 80)))
    t.same(bench.pull(), ['EDS c7'])
  })

  t.test(`${variant}: a push of a part removes nothing`, async (t) => {
    const bench = two()
    bench.ask(CDS)
    bench.pull()
    bench.ack(CDS)
    bench.set(CDS, cluster('a', 2), cluster('b'))
    t.same(bench.pull(), [sotw ? 'CDS a,b' : 'CDS a'])
    t.same(bench.last.get(CDS)?.removed, [])
  })

  t.test(`${variant}: a version says what is in it, and a refusal is heard`, async (t) => {
    const [one, other] = [two(), two()]
    for (const bench of [one, other]) {
      bench.ask(CDS)
      bench.pull()
    }
    t.equal(one.last.get(CDS)?.version, other.last.get(CDS)?.version)
    t.equal(one.nack(CDS, 'a is bad'), 'nack')
    t.same(one.pull(), [], 'not sent again as long as it is the same')
    t.match(one.stream.status(0)[CDS], { lastError: 'a is bad' })
    one.set(CDS, cluster('a', 2), cluster('b'))
    t.same(one.pull(), [sotw ? 'CDS a,b' : 'CDS a'])
  })

  t.test(`${variant}: endpoints that are asked for one by one are answered together`, async (t) => {
    const { server, cache } = serve()
    const at = await server.listen({ host: '127.0.0.1', port: 0 })
    t.teardown(() => server.close(0))
    const names = Array.from({ length: 200 }, (_, n) => `c${n}`)
    cache.setType(EDS, new Map(names.map((name) => [name, endpoints(name)])))
    const stream = new RawStream(`127.0.0.1:${'port' in at ? at.port : 0}`, variant)
    t.teardown(() => stream.close())
    for (const n of names.keys())
      stream.send({ typeUrl: EDS, node: NODE, names: sotw ? names.slice(0, n + 1) : [names[n] as string] })
    const got = new Set<string>()
    let responses = 0
    while (got.size < names.length) {
      const response = await stream.next()
      responses++
      for (const { name } of response.resources) got.add(name)
      stream.ack(response, same(...names))
    }
    t.ok(responses <= 20, `${responses} responses to ${names.length} requests`)
  })
}

t.test(
  'nothing is served before everything is known: a stream is refused, not answered with less',
  async (t) => {
    let ready = false
    const { server, cache } = serve({ ready: () => ready })
    const at = await server.listen({ host: '127.0.0.1', port: 0 })
    t.teardown(() => server.close(0))
    const open = () => {
      const stream = new RawStream(`127.0.0.1:${'port' in at ? at.port : 0}`)
      t.teardown(() => stream.close())
      return stream
    }
    t.match(await open().status, { code: 14 })
    cache.setType('k', new Map([['a', plain('a', '1')]]))
    ready = true
    const stream = open()
    stream.send({ typeUrl: 'k' })
    t.match(await stream.next(), { resources: [{ name: 'a' }] })
  },
)
