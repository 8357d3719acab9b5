// The rules for serving an Envoy, with the real one in Delta and in State of the World: what it refuses is named, is not sent again, and
// takes nothing else away; a changed cluster has its endpoints unasked.
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import t, { type Test } from 'tap'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { rawResource } from '../../src/xds/resource.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { mintLeaf, mintRoot } from '../identity/mint.ts'
import { credentialSecret, endpoints, trustSecret, upstream } from '../proxy/support.ts'
import { Caller } from './envoy-gateway-world.ts'
import { EnvoyTarget } from './envoy-target.ts'
import { Recorder } from './recorder.ts'
import { edge } from './resources.ts'
import { type Resources, unavailable } from './target.ts'

const root = mintRoot('root')
const leaf = (account: string) => mintLeaf(root, `spiffe://cluster-1.local/ns/bookinfo/sa/${account}`)
const own = leaf('gateway')
const secrets = [
  credentialSecret({ certificatePem: own.pem, privateKeyPem: own.keyPem }),
  trustSecret([{ trustDomain: 'cluster-1.local', bundlePem: root.pem }]),
]

/** With a duration that Envoy's checks let nobody name: the whole batch is refused for it. */
function negative(cluster: XdsResource): XdsResource {
  const message = fromBinary(ClusterSchema, cluster.body)
  if (message.connectTimeout !== undefined) message.connectTimeout.seconds = -1n
  return rawResource(cluster.name, cluster.anyTypeUrl, toBinary(ClusterSchema, message))
}

for (const sotw of [false, true]) {
  t.test(sotw ? 'State of the World' : 'Delta', { skip: unavailable('envoy') ?? false }, async (t) => {
    const [one, two] = await Promise.all([
      Recorder.listen((socket) => socket.once('data', () => socket.end('one'))),
      Recorder.listen((socket) => socket.once('data', () => socket.end('two'))),
    ])
    const resources = (
      clusters: readonly XdsResource[],
      ports: Readonly<Record<string, number>>,
      more: readonly XdsResource[] = [],
    ): Resources => ({
      listeners: [edge('first'), ...more],
      clusters,
      endpoints: Object.entries(ports).map(([name, port]) => endpoints(name, [{ port }])),
      secrets,
    })
    const [a, b] = [upstream('a.example'), upstream('b.example')]
    const at = { 'a.example': one.port, 'b.example': one.port }
    const target = await EnvoyTarget.start(resources([a], { 'a.example': one.port }), { sotw })
    t.teardown(async () => {
      await target.stop()
      await Promise.all([one.close(), two.close()])
    })
    const ask = (sni: string, listener = 'first') =>
      new Caller(target.port(listener), { sni, leaf: leaf('sleep'), says: 'x' }).told(3)
    const answers = async (t: Pick<Test, 'equal'>, wanted: string, sni = 'a.example') => {
      let found = await ask(sni)
      for (let i = 0; found !== wanted && i < 500; i += 1) found = await ask(sni)
      t.equal(found, wanted, `${sni} is answered by ${wanted}`)
    }
    const type = (typeUrl: string) => target.status()?.types[typeUrl]

    await t.test('a bad Listener fails alone, by its name, and is not sent again', async (t) => {
      const bad = edge('second', [{ serverNames: ['x'] }, { serverNames: ['x'] }])
      target.show(resources([a, b], at, [bad]))
      await target.until('the refusal', () => (type(TYPE.listener)?.lastError ?? '') !== '')
      t.match(type(TYPE.listener)?.lastError, /second/)
      await answers(t, 'one', 'b.example')
      const { pushes } = target.status() ?? { pushes: 0 }
      // What comes next is about something else, and is all that comes.
      target.show(resources([a, b], { ...at, 'a.example': two.port }, [bad]))
      await answers(t, 'two')
      t.equal(target.status()?.pushes, pushes + 1)
      const mended = resources([a, b], at, [edge('second')])
      target.show(mended)
      await target.until('the mended one', () => {
        const { sentVersion, ackedVersion, nackedVersion } = type(TYPE.listener) ?? {}
        return sentVersion === ackedVersion && sentVersion !== nackedVersion
      })
      await answers(t, 'one')
    })

    await t.test(
      'one Cluster that spoils its batch: what was good in it is there once that is mended',
      async (t) => {
        const c = upstream('c.example')
        const also = { ...at, 'c.example': two.port }
        target.show(resources([negative(a), b, c], also, [edge('second')]))
        await target.until('the refusal', () => (type(TYPE.cluster)?.lastError ?? '') !== '')
        t.match(type(TYPE.cluster)?.lastError, /duration/i)
        t.equal(await ask('a.example'), 'one', 'its last good form stays')
        target.show(resources([a, b, c], also, [edge('second')]))
        await answers(t, 'two', 'c.example')
      },
    )

    await t.test('a bad assignment leaves the last good one in force, and is not sent again', async (t) => {
      const all = resources([a, b], at, [edge('second')])
      const bad = endpoints('a.example', [{ port: 70_000 }])
      target.show({ ...all, endpoints: [bad, endpoints('b.example', [{ port: one.port }])] })
      await target.until('the refusal', () => (type(TYPE.endpoints)?.lastError ?? '') !== '')
      t.match(type(TYPE.endpoints)?.lastError, /PortValue|port_value/i)
      t.equal(await ask('a.example'), 'one')
      const { pushes } = target.status() ?? { pushes: 0 }
      target.show({ ...all, endpoints: [bad, endpoints('b.example', [{ port: two.port }])] })
      await answers(t, 'two', 'b.example')
      t.equal(target.status()?.pushes, pushes + 1)
      target.show(all)
      await answers(t, 'one', 'b.example')
      target.show(resources([a, b], { ...at, 'a.example': two.port }, [edge('second')]))
      await answers(t, 'two')
      target.show(all)
      await answers(t, 'one')
    })

    await t.test('a changed cluster has its endpoints unasked, and waits for no time-out', async (t) => {
      const changed = upstream('a.example', { connectTimeoutS: 3 })
      target.show(resources([changed, b], at, [edge('second')]))
      const { version } = changed
      const inForce = async () => {
        const { configs = [] } = (await target.get('/config_dump?resource=dynamic_active_clusters')) as {
          configs?: { cluster: { name: string; connect_timeout: string } }[]
        }
        return configs.some(({ cluster }) => cluster.name === 'a.example' && cluster.connect_timeout === '3s')
      }
      while (!(await inForce())) await new Promise((resolve) => setImmediate(resolve))
      t.ok(version !== a.version)
      await answers(t, 'one')
      const { stats } = (await target.get('/stats?format=json&filter=init_fetch_timeout')) as {
        stats: { name: string; value: number }[]
      }
      t.same(
        stats.filter(({ value }) => value > 0),
        [],
      )
    })

    await t.test(
      'without endpoints a service ends its callers; they are there again when it has some',
      async (t) => {
        target.show({
          ...resources([a, b], at, [edge('second')]),
          endpoints: [endpoints('a.example', []), endpoints('b.example', [{ port: one.port }])],
        })
        await answers(t, '')
        target.show(resources([a, b], at, [edge('second')]))
        await answers(t, 'one')
      },
    )
  })
}
