// A whole gateway whose upstreams rest: what its worker is given, and what can be seen of them from outside.
import { socketPaths } from '../../src/proxy/process/run-directory.ts'
import { READS_PAGES, UpstreamPage } from '../../src/proxy/upstream-page.ts'
import { XdsClient } from '../../src/xds/client.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { endpoints, SNI, upstream } from '../proxy/support.ts'
import { echoes, World } from './gateway-world.ts'
import { eventually, getJson } from './pod.ts'
import { onEachRuntime } from './runtimes.ts'

const OTHER = 'outbound_.9080_._.details.bookinfo.svc.cluster.local'

/** What a worker gets that says this of itself, by type: all that there is, once the Listener came, which comes last. */
async function given(world: World, clientFeatures: readonly string[]): Promise<Map<string, XdsResource[]>> {
  const got = new Map<string, XdsResource[]>()
  const { promise, resolve } = Promise.withResolvers<void>()
  const client = new XdsClient({
    target: { path: socketPaths(world.runDirectory).xds },
    node: () => ({
      ...{ id: 'worker~0', cluster: '', metadata: {}, userAgentName: 'isthmus', clientFeatures },
      locality: { region: '', zone: '' },
    }),
    onUpdate: (typeUrl, { upserted }) => {
      got.set(typeUrl, [...(got.get(typeUrl) ?? []), ...upserted])
      if (typeUrl === TYPE.listener) resolve()
      return []
    },
  })
  for (const typeUrl of [TYPE.cluster, TYPE.upstreamPage, TYPE.listener]) client.subscribe(typeUrl, '*')
  client.start()
  await promise
  client.stop()
  return got
}

const names = (resources: readonly XdsResource[] = []) => resources.map(({ name }) => name).sort()

onEachRuntime((t, runtime) => {
  t.test('upstreams rest in the worker, and are seen and served as if they did not', async (t) => {
    const world = await World.create(t)
    const { discovery } = world.cluster
    discovery.put(TYPE.cluster, upstream(SNI), upstream(OTHER))
    const at = (name: string, ...ports: number[]) =>
      endpoints(
        name,
        ports.map((port) => ({ port })),
      )
    const { port } = world.target
    discovery.put(TYPE.endpoints, at(SNI, port), at(OTHER, 9))
    const pod = world.start(t, '--runtime', runtime)
    await pod.ready('gateway')

    const packed = await given(world, [READS_PAGES])
    t.same(packed.get(TYPE.cluster), [])
    const pages = packed.get(TYPE.upstreamPage) ?? []
    const resting = pages.flatMap(({ body }) => [...new UpstreamPage(body).read().upstreams.keys()])
    t.same(resting.sort(), [OTHER, SNI].sort())
    const whole = await given(world, [])
    t.same(
      names(whole.get(TYPE.cluster)),
      [OTHER, SNI].sort(),
      'a worker of an older version has each by itself',
    )
    t.same(names(whole.get(TYPE.upstreamPage)), [])

    const admin = await pod.url('admin')
    const clusters = async () => (await fetch(`${admin}/clusters`)).text()
    t.match(await clusters(), new RegExp(`${OTHER}::127.0.0.1:9::health_flags::healthy`))
    t.match(await clusters(), new RegExp(`${SNI}::127.0.0.1:${port}::cx_total::0`))
    const metrics = await (await fetch(`${await pod.url('metrics')}/metrics`)).text()
    for (const name of [SNI, OTHER]) {
      t.match(metrics, `isthmus_upstream_endpoints{upstream="${name}",healthy="true"} 1`)
      t.match(metrics, `isthmus_upstream_connections{upstream="${name}"} 0`)
    }
    t.match(JSON.stringify((await getJson(`${admin}/config_dump`)).body), OTHER)

    const kept = await world.connect()
    t.equal(await echoes(kept, 'one'), 'one')
    t.match(await clusters(), new RegExp(`${SNI}::127.0.0.1:${port}::cx_total::1`))
    // Another endpoint beside it: seen by who is called, and by who still rests.
    discovery.put(TYPE.endpoints, at(SNI, port, 10), at(OTHER, 11))
    await eventually(
      clusters,
      (text) => text.includes(`${SNI}::127.0.0.1:10::`) && text.includes(`${OTHER}::127.0.0.1:11::`),
    )
    discovery.put(TYPE.cluster, upstream(SNI))
    await eventually(clusters, (text) => !text.includes(OTHER))
    t.equal(await echoes(kept, 'two'), 'two')
    kept.destroy()
  })
})
