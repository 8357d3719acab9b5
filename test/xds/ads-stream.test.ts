// One stream, several types: order, endpoints after clusters, and the classic mistakes of home-made servers.
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { cluster, endpoints, listener, plain } from './fixtures.ts'
import { Bench } from './stream-bench.ts'

const { cluster: CDS, endpoints: EDS, listener: LDS, secret: SDS, route: RDS, nameTable: NDS } = TYPE

t.test('additions go out before what refers to them, removals last', async (t) => {
  const bench = new Bench()
  bench.set(NDS, plain('names', '1')).set(LDS, listener('l1')).set(RDS, plain('r1', '1'))
  bench.set(SDS, plain('s1', '1')).set(EDS, endpoints('c1')).set(CDS, cluster('c1'))
  bench.ask(NDS)
  bench.ask(LDS)
  bench.ask(RDS, { names: ['r1', 'r2'] })
  bench.ask(SDS, { names: ['s1'] })
  bench.ask(EDS, { names: ['c1', 'c2'] })
  bench.ask(CDS)
  t.same(bench.pull(), ['CDS c1', 'EDS c1 -c2', 'SDS s1'], 'listeners wait until clusters are taken')
  bench.ack(CDS)
  t.same(bench.pull(), ['LDS l1', 'RDS r1 -r2', 'NDS names'])
  for (const type of [EDS, SDS, LDS, RDS, NDS]) bench.ack(type)
  t.same(bench.pull(), [])

  bench
    .set(CDS, cluster('c2'))
    .set(EDS, endpoints('c2'))
    .set(LDS, listener('l2'))
    .set(NDS, plain('names', '2'))
  t.same(bench.pull(), ['CDS c2', 'EDS c2'])
  bench.ack(EDS)
  t.same(bench.pull(), [])
  bench.ack(CDS)
  t.same(bench.pull(), ['LDS l2', 'NDS names'], 'no removal while a name may still point to what goes')
  bench.ack(NDS)
  t.same(bench.pull(), [])
  bench.ack(LDS)
  t.same(bench.pull(), ['LDS  -l1'])
  bench.ack(LDS)
  t.same(bench.pull(), ['CDS  -c1'])
  bench.ack(CDS)
  t.same(bench.pull(), ['EDS  -c1'])
})

t.test('a new identifier is told to who wants all, with no resource in it', async (t) => {
  for (const variant of ['delta', 'sotw'] as const) {
    const bench = new Bench(variant)
    bench.set(CDS, cluster('c1')).set(EDS, endpoints('c1'))
    bench.ask(CDS)
    bench.ask(EDS, { names: ['c1'] })
    bench.settle()
    bench.cache.announce(CDS)
    t.same(bench.pull(), [variant === 'delta' ? 'CDS ' : 'CDS c1'])
    bench.ack(CDS)
    bench.cache.announce(EDS)
    t.same(bench.pull(), [])
  }
})

t.test('SotW keeps what is to go until its successor is taken', async (t) => {
  const bench = new Bench('sotw')
  bench.set(CDS, cluster('c1')).set(LDS, listener('l1'))
  bench.ask(CDS)
  bench.ask(LDS)
  bench.settle()
  bench.set(CDS, cluster('c2')).set(LDS, listener('l2'))
  t.same(bench.pull(), ['CDS c2,c1'])
  bench.ack(CDS)
  t.same(bench.pull(), ['LDS l2,l1'])
  bench.ack(LDS)
  t.same(bench.pull(), ['LDS l2'])
  bench.ack(LDS)
  t.same(bench.pull(), ['CDS c2'])
  bench.ack(CDS)
  bench.set(CDS)
  t.same(bench.pull(), ['CDS '], 'an empty response deletes all')
})

for (const variant of ['sotw', 'delta'] as const) {
  t.test(
    `${variant}: endpoints follow a changed cluster unasked, before the cluster is acknowledged`,
    async (t) => {
      const bench = new Bench(variant)
      const names = { names: variant === 'sotw' ? ['a', 'b'] : [] }
      bench.set(CDS, cluster('a'), cluster('b')).set(EDS, endpoints('a'), endpoints('b'))
      bench.ask(CDS)
      bench.ask(EDS, { names: ['a', 'b'] })
      t.same(bench.pull(), ['CDS a,b', 'EDS a,b'])
      bench.ack(CDS)
      bench.ack(EDS, names)
      bench.set(CDS, cluster('a', 2), cluster('b'))
      t.same(bench.pull(), variant === 'sotw' ? ['CDS a,b', 'EDS a'] : ['CDS a', 'EDS a'])
      bench.ack(EDS, names)
      bench.nack(CDS, 'a is bad')
      t.same(bench.pull(), [], 'what was refused is not sent again')
      bench.set(CDS, cluster('a', 3), cluster('b'))
      t.same(bench.pull(), variant === 'sotw' ? ['CDS a,b', 'EDS a'] : ['CDS a', 'EDS a'])
    },
  )

  t.test(
    `${variant}: endpoints that are asked for before clusters are sent, and again after them`,
    async (t) => {
      const bench = new Bench(variant)
      bench.set(CDS, cluster('a')).set(EDS, endpoints('a'))
      bench.ask(EDS, { names: ['a'] })
      t.same(bench.pull(), ['EDS a'])
      bench.ask(CDS)
      t.same(bench.pull(), ['CDS a'])
      bench.ack(EDS, variant === 'sotw' ? { names: ['a'] } : {})
      t.same(bench.pull(), ['EDS a'])
    },
  )

  t.test(`${variant}: one changed endpoint sends one resource`, async (t) => {
    const bench = new Bench(variant)
    bench.set(EDS, endpoints('a'), endpoints('b'), endpoints('c'))
    const names = ['a', 'b', 'c']
    bench.ask(EDS, { names })
    bench.pull()
    bench.ack(EDS, variant === 'sotw' ? { names } : {})
    bench.set(EDS, endpoints('a'), endpoints('b', 81), endpoints('c'))
    t.same(bench.pull(), ['EDS b'])
  })

  t.test(`${variant}: names count whatever the nonce, and only the new ones are answered`, async (t) => {
    const bench = new Bench(variant)
    bench.set(EDS, endpoints('a'), endpoints('b'), endpoints('c'), endpoints('d'))
    const list = (...names: string[]) => (variant === 'sotw' ? names : names.slice(-1))
    bench.ask(EDS, { names: ['a'] })
    bench.pull()
    t.equal(bench.ask(EDS, { names: list('a', 'b'), responseNonce: 'stale' }), 'stale')
    t.same(bench.pull(), [], 'a stale nonce is no ACK: the first response is still awaited')
    t.equal(
      bench.ack(EDS, { names: list('a', 'b', 'c') }),
      'ack',
      'an ACK with other names is not only an ACK',
    )
    t.same(bench.pull(), ['EDS b,c'])
    t.equal(bench.nack(EDS, 'b is bad', { names: list('a', 'b', 'c', 'd') }), 'nack')
    t.same(bench.pull(), ['EDS d'], 'a NACK may change the names')
    t.equal(bench.ack(EDS, { names: list('a', 'b', 'c', 'd') }), 'ack')
    t.same(bench.pull(), variant === 'sotw' ? [] : ['EDS d'], 'Delta answers every name in subscribe')
  })

  t.test(`${variant}: what was given up and is wanted again is sent again, unchanged`, async (t) => {
    const bench = new Bench(variant)
    bench.set(EDS, endpoints('a'), endpoints('b'))
    bench.ask(EDS, { names: ['a', 'b'] })
    bench.pull()
    bench.ack(EDS, variant === 'sotw' ? { names: ['a'] } : { unsubscribe: ['b'] })
    t.same(bench.pull(), [], 'giving up is not answered')
    bench.ask(EDS, { names: variant === 'sotw' ? ['a', 'b'] : ['b'] })
    t.same(bench.pull(), ['EDS b'])
  })

  t.test(
    `${variant}: what does not exist yet is sent when it appears, without being asked again`,
    async (t) => {
      const bench = new Bench(variant)
      bench.set(EDS, endpoints('a'))
      bench.ask(EDS, { names: ['a', 'later'] })
      t.same(bench.pull(), variant === 'sotw' ? ['EDS a'] : ['EDS a -later'])
      bench.ack(EDS, variant === 'sotw' ? { names: ['a', 'later'] } : {})
      t.same(bench.pull(), [])
      bench.set(EDS, endpoints('a'), endpoints('later'))
      t.same(bench.pull(), ['EDS later'])
    },
  )

  t.test(
    `${variant}: an empty first request is everything for LDS, CDS and unknown types, nothing for EDS`,
    async (t) => {
      const bench = new Bench(variant)
      bench.ask(EDS)
      bench.ask(CDS)
      bench.ask('example/Kind')
      t.same(bench.pull(), ['CDS ', 'example/Kind '], 'and is answered at once even if there is nothing')
      bench.ask('type.googleapis.com/istio.v1.HealthInformation')
      t.same(bench.pull(), [], 'what only clients say is never answered')
      bench.set(EDS, endpoints('a'))
      t.same(bench.pull(), [])
    },
  )

  t.test(`${variant}: at most one response waits for its answer, and then the latest goes out`, async (t) => {
    const bench = new Bench(variant)
    bench.set(CDS, cluster('a', 1))
    bench.ask(CDS)
    t.same(bench.pull(), ['CDS a'])
    for (const seconds of [2, 3, 4]) bench.set(CDS, cluster('a', seconds))
    t.same(bench.pull(), [])
    bench.ack(CDS)
    t.same(bench.pull(), ['CDS a'])
    t.equal(bench.last.get(CDS)?.resources[0]?.version, cluster('a', 4).version)
    bench.ack(CDS)
    bench.set(CDS, cluster('a', 5))
    bench.set(CDS, cluster('a', 4))
    t.same(bench.pull(), [], 'a change that was taken back is no change')
  })

  t.test(
    `${variant}: a client that never answers is not waited for for ever; its late answer counts`,
    async (t) => {
      const bench = new Bench(variant)
      bench.set(CDS, cluster('a')).set(LDS, listener('l'))
      bench.ask(CDS)
      bench.ask(LDS)
      t.same(bench.pull(), ['CDS a'])
      t.equal(bench.stream.expire(4_999), 5_000)
      t.same(bench.pull(), [])
      t.equal(bench.stream.expire(5_000), undefined)
      t.same(bench.pull(), ['LDS l'])
      t.equal(bench.nack(CDS, 'too slow'), 'nack')
      t.equal(bench.ack(CDS), 'none', 'a repeated nonce says nothing new')
      t.match(bench.stream.status(0)[CDS], { nackedVersion: /./, lastError: 'too slow' })
    },
  )
}

t.test('Delta: what the client should not have any more is removed on reconnect', async (t) => {
  const bench = new Bench()
  bench.set(CDS, cluster('kept'), cluster('changed', 2)).set(EDS, endpoints('kept'))
  const initialVersions = new Map([
    ['kept', cluster('kept').version],
    ['changed', cluster('changed', 1).version],
    ['leaked', 'v'],
  ])
  bench.ask(CDS, { initialVersions })
  bench.ask(EDS, { names: ['kept'], initialVersions: new Map([['kept', endpoints('kept').version]]) })
  t.same(
    bench.settle(),
    ['CDS changed', 'EDS kept', 'CDS  -leaked'],
    'endpoints are sent to an Envoy in any case',
  )

  const own = new Bench()
  own.stream.serve({ resumesNamed: true, ttl: false, resourceErrors: false })
  own.set(EDS, endpoints('kept'), endpoints('changed', 2))
  const versions = new Map([
    ['kept', endpoints('kept').version],
    ['changed', 'old'],
    ['leaked', 'v'],
  ])
  own.ask(EDS, { names: ['kept', 'changed', 'leaked'], initialVersions: versions })
  t.same(own.settle(), ['EDS changed -leaked'], 'our own client keeps what it has')
})

t.test('Delta: a name that goes while the wildcard covers it is answered', async (t) => {
  const bench = new Bench()
  bench.set(CDS, cluster('a'))
  bench.ask(CDS, { names: ['*', 'a', 'b'] })
  bench.settle()
  bench.ask(CDS, { unsubscribe: ['a', 'b', 'phantom'] })
  t.same(bench.settle(), ['CDS a -b'])
  bench.ask(CDS, { unsubscribe: ['*'] })
  bench.set(CDS, cluster('a', 2))
  t.same(bench.settle(), [], 'without the wildcard nothing is covered')
})

t.test('responses that can be split are cut at the budget, and nothing is lost', async (t) => {
  for (const variant of ['sotw', 'delta'] as const) {
    const bench = new Bench(variant, 500)
    const names = Array.from({ length: 20 }, (_, index) => `cluster-${index}`)
    bench.set(EDS, ...names.map((name) => endpoints(name)))
    bench.ask(EDS, { names })
    const got: string[] = []
    let responses = 0
    while (bench.pull().length > 0) {
      got.push(...(bench.last.get(EDS)?.resources ?? []).map((one) => one.name))
      bench.ack(EDS, variant === 'sotw' ? { names } : {})
      responses++
    }
    t.same(got.sort(), [...names].sort())
    t.ok(responses > 3, `${responses} responses`)
  }
})

t.test(
  'SotW: a refused state is not sent again, and does not bring back what was removed with it',
  async (t) => {
    const bench = new Bench('sotw')
    bench.set(CDS, cluster('a'))
    bench.ask(CDS)
    bench.settle()
    bench.set(CDS, cluster('a'), cluster('bad'))
    t.same(bench.pull(), ['CDS a,bad'])
    bench.nack(CDS, 'no')
    bench.stream.changed(CDS, new Set(['a', 'bad']))
    t.same(bench.pull(), [])
    bench.set(CDS, cluster('a'), cluster('c'))
    t.same(bench.pull(), ['CDS a,c'])
  },
)

for (const variant of ['sotw', 'delta'] as const) {
  t.test(
    `${variant}: who refuses every version gets the next one later and later, and only the latest`,
    async (t) => {
      const bench = new Bench(variant)
      bench.set(CDS, cluster('a', 1)).set(LDS, listener('l', 1))
      bench.ask(CDS)
      bench.ask(LDS)
      let version = 1
      const waits: number[] = []
      for (let round = 0; round < 9; round++) {
        const from = bench.nowMs
        let out = bench.pull()
        while (out.length === 0) {
          bench.nowMs = bench.stream.expire(bench.nowMs) ?? Number.NaN
          out = bench.pull()
        }
        waits.push(bench.nowMs - from)
        t.same(out, ['CDS a'], 'listeners wait for the clusters that they may refer to')
        bench.nack(CDS, 'a is bad')
        for (let n = 0; n < 3; n++) bench.set(CDS, cluster('a', ++version))
      }
      t.same(waits, [0, 0, 200, 400, 800, 1_600, 3_200, 5_000, 5_000])
      bench.nowMs += 5_000
      t.same(bench.pull(), ['CDS a'])
      bench.ack(CDS)
      t.same(bench.pull(), ['LDS l'])
      bench.set(CDS, cluster('a', ++version))
      t.same(bench.pull(), ['CDS a'], 'one good version and it is as any other client')
    },
  )
}
