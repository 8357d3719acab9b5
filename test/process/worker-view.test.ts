import t from 'tap'
import { ResourceSet } from '../../src/proxy/process/resource-set.ts'
import { WorkerView } from '../../src/proxy/process/worker-view.ts'
import { placeOf, UpstreamPage } from '../../src/proxy/upstream-page.ts'
import { type Snapshot, TYPE } from '../../src/xds/types.ts'
import {
  endpoints,
  gatewayListener,
  listenerOf,
  passthroughChain,
  sidecarListener,
  TLS_INSPECTOR,
  upstream,
} from '../proxy/support.ts'
import { clusterOf } from '../proxy/upstream-resource.ts'

class View {
  readonly set: ResourceSet
  readonly #view: WorkerView

  constructor() {
    this.set = new ResourceSet({ nameTable: false })
    this.#view = new WorkerView(this.set)
    this.set.update(TYPE.listener, [gatewayListener()], [])
  }

  add(...names: readonly string[]): void {
    this.set.update(
      TYPE.cluster,
      names.map((name) => upstream(name)),
      [],
    )
    this.set.update(
      TYPE.endpoints,
      names.map((name) => at(name, '10.0.0.1')),
      [],
    )
  }

  get snapshot(): Snapshot {
    return this.#view.snapshot(this.set.whole())
  }

  /** Names given as resources of their own, and those in pages. */
  get names(): { readonly clusters: string[]; readonly endpoints: string[]; readonly resting: string[] } {
    const snapshot = this.snapshot
    const of = (typeUrl: string) => [...(snapshot.get(typeUrl)?.keys() ?? [])].sort()
    const pages = [...(snapshot.get(TYPE.upstreamPage)?.values() ?? [])]
    const resting = pages.flatMap(({ body }) => [...new UpstreamPage(body).read().upstreams.keys()])
    return { clusters: of(TYPE.cluster), endpoints: of(TYPE.endpoints), resting: resting.sort() }
  }
}

const at = (name: string, address: string) => endpoints(name, [{ host: address, port: 1 }])

t.test('what a server name alone leads to rests in a page, once its endpoints are known', async (t) => {
  const view = new View()
  view.set.update(TYPE.cluster, [upstream('a'), upstream('b')], [])
  t.same(view.names, { clusters: [], endpoints: [], resting: [] })
  view.set.update(TYPE.endpoints, [at('a', '10.0.0.1')], [])
  t.same(view.names, { clusters: [], endpoints: [], resting: ['a'] })
  view.set.update(TYPE.endpoints, [], ['b'])
  t.same(view.names.resting, ['a', 'b'], 'an answer, if only that there are none')
  view.set.update(TYPE.cluster, [], ['a'])
  t.same(view.names.resting, ['b'])
})

t.test(
  'one endpoint of five hundred services is one page, and nothing is made anew for the others',
  async (t) => {
    const view = new View()
    const names = Array.from({ length: 500 }, (_, i) => `outbound_.80_._.s-${i}.ns.svc.cluster.local`)
    view.add(...names)
    const before = view.snapshot
    t.equal(
      view.snapshot.get(TYPE.upstreamPage),
      before.get(TYPE.upstreamPage),
      'nothing changed, nothing is',
    )
    view.set.update(TYPE.endpoints, [at(names[7] as string, '10.0.0.2')], [])
    const after = view.snapshot
    const changed = [...(after.get(TYPE.upstreamPage) ?? [])].filter(
      ([name, page]) => before.get(TYPE.upstreamPage)?.get(name) !== page,
    )
    t.same(
      changed.map(([name]) => name),
      [String(placeOf(names[7] as string).page)],
    )
    t.equal(after.get(TYPE.cluster)?.size, 0)
    t.equal(after.get(TYPE.endpoints)?.size, 0)
  },
)

t.test('what has something to do before it is called is given as it is', async (t) => {
  const view = new View()
  const checked = clusterOf('checked', {
    healthChecks: [
      { timeout: '1s', interval: '1s', unhealthyThreshold: 1, healthyThreshold: 1, tcpHealthCheck: {} },
    ],
  })
  view.set.update(TYPE.cluster, [checked, upstream('named'), upstream('local'), upstream('plain')], [])
  view.set.update(
    TYPE.endpoints,
    [at('checked', '10.0.0.1'), at('named', 'lb.example'), at('local', '127.0.0.1'), at('plain', '10.0.0.1')],
    [],
  )
  t.same(view.names, {
    clusters: ['checked', 'local', 'named'],
    endpoints: ['checked', 'local', 'named'],
    resting: ['plain'],
  })
  view.set.update(TYPE.endpoints, [at('named', '10.0.0.9')], [])
  t.same(view.names.resting, ['named', 'plain'])
})

t.test(
  'what a listener names is given as it is, in order: clusters are there before and after what refers to them',
  async (t) => {
    const view = new View()
    view.add('a', 'b')
    t.same(view.names.resting, ['a', 'b'])
    view.set.update(
      TYPE.listener,
      [
        listenerOf([passthroughChain({ cluster: 'a', serverNames: ['a'] })], {
          name: 'second',
          listenerFilters: [TLS_INSPECTOR],
        }),
      ],
      [],
    )
    t.same(view.names, { clusters: ['a'], endpoints: ['a'], resting: ['b'] })
    view.set.update(TYPE.listener, [], ['second'])
    t.same(view.names.resting, ['a', 'b'])
  },
)

t.test('where no server name leads anywhere nothing rests', async (t) => {
  const set = new ResourceSet({ nameTable: true })
  const view = new WorkerView(set)
  set.update(TYPE.listener, [sidecarListener()], [])
  set.update(TYPE.cluster, [upstream('a')], [])
  set.update(TYPE.endpoints, [at('a', '10.0.0.1')], [])
  const snapshot = view.snapshot(set.whole())
  t.same([...(snapshot.get(TYPE.cluster)?.keys() ?? [])], ['a'])
  t.equal(snapshot.get(TYPE.upstreamPage)?.size, 0)
})

t.test('an upstream that is led to other endpoints keeps its old ones until they have come', async (t) => {
  const view = new View()
  view.add('a')
  const other = clusterOf('a', { edsClusterConfig: { serviceName: 'other', edsConfig: { ads: {} } } })
  const packed = () => {
    const [page] = [...(view.snapshot.get(TYPE.upstreamPage)?.values() ?? [])]
    return page && new UpstreamPage(page.body).read().upstreams.get('a')
  }
  const before = packed()
  view.set.update(TYPE.cluster, [other], [])
  t.match(packed(), { cluster: { version: before?.cluster.version }, endpoints: { name: 'a' } })
  view.set.update(TYPE.endpoints, [at('other', '10.0.0.2')], [])
  t.match(packed(), { cluster: { version: other.version }, endpoints: { name: 'other' } })
  view.set.update(TYPE.cluster, [], ['a'])
  t.equal(packed(), undefined)
})

t.test('endpoints that several share, or that are taken away alone', async (t) => {
  const view = new View()
  const shared = (name: string) =>
    clusterOf(name, { edsClusterConfig: { serviceName: 'both', edsConfig: { ads: {} } } })
  view.set.update(TYPE.cluster, [shared('x'), shared('y')], [])
  view.set.update(TYPE.endpoints, [at('both', '10.0.0.1')], [])
  t.same(view.names.resting, ['x', 'y'])
  view.set.update(
    TYPE.listener,
    [
      listenerOf([passthroughChain({ cluster: 'x', serverNames: ['x'] })], {
        name: 'second',
        listenerFilters: [TLS_INSPECTOR],
      }),
    ],
    [],
  )
  t.same(view.names, { clusters: ['x'], endpoints: ['both'], resting: ['y'] })
  view.set.update(TYPE.listener, [], ['second'])
  t.same(view.names.resting, ['x', 'y'])
  view.set.update(TYPE.endpoints, [], ['both'])
  const pages = [...(view.snapshot.get(TYPE.upstreamPage)?.values() ?? [])]
  const packed = pages.flatMap(({ body }) => [...new UpstreamPage(body).read().upstreams.values()])
  t.same(
    packed.map(({ endpoints: last }) => last?.name),
    ['both', 'both'],
    'they stay as they were last',
  )
})
