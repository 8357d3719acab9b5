// What an operator is told of the clients that are connected.
import t from 'tap'
import { AdminServer } from '../../src/admin/http.ts'
import { discoveryRoutes } from '../../src/cli/discovery-routes.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { TYPE } from '../../src/xds/types.ts'
import { isthmus } from '../cli/run.ts'
import { gateway, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const routerNode = { id: 'router~10.0.0.7~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local' }
const identity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
const cluster = await TestCluster.start('cluster-1', {
  yaml:
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    gateway('203.0.113.10') +
    workspace +
    setting(),
})
t.teardown(() => cluster.stop())
const admin = new AdminServer({ routes: discoveryRoutes(cluster.process, silentLogger) })
const at = await admin.listen('127.0.0.1', 0)
t.teardown(() => admin.close())
const address = `${at.host}:${at.port}`

const explained = async () => {
  const reply = await fetch(`http://${address}/explain?host=productpage.bookinfo&port=9080&from=cluster-1`)
  const { hops } = (await reply.json()) as { hops: { hop: string; ok: boolean; detail: string }[] }
  return hops.find(({ hop }) => hop === 'config')
}

t.test('explain says whether the gateway has what it was told', async (t) => {
  await cluster.until('the exposure', () => (cluster.discovery.model?.exposures.size ?? 0) > 0)
  t.match(await explained(), {
    ok: true,
    detail: /no pod of gateway bookinfo\/eastwest-gateway is connected here/,
  })
  const router = (await cluster.client(routerNode, identity)).start()
  await router.until('the cluster', () => router.names(TYPE.cluster).length === 1)
  await cluster.poll('the answer', () =>
    cluster.discovery.clients().every(({ types }) => Object.values(types).every(({ settled }) => settled)),
  )
  t.match(await explained(), {
    ok: true,
    detail: 'all 1 connected of gateway bookinfo/eastwest-gateway have what they were told',
  })
  router.stop()
})

t.test('status says of each client its kind, its view, and what it has not taken', async (t) => {
  const router = await cluster.client(routerNode, identity)
  router.refuse(TYPE.cluster, 'circuit_breakers: not here')
  router.start()
  await cluster.poll('the refusal', () =>
    cluster.discovery
      .clients()
      .some(({ types }) => types[TYPE.cluster]?.lastError !== '' && types[TYPE.cluster] !== undefined),
  )
  const { code, stdout } = await isthmus('status', '--admin', address)
  t.equal(code, 0)
  t.match(
    stdout,
    /clients:\n {2}router~10\.0\.0\.7~eastwest-gateway\.bookinfo~bookinfo\.svc\.cluster\.local {2}gateway {2}bookinfo\/eastwest-gateway {2}127\.0\.0\.1:\d+ {2}delta, \d+ s/,
  )
  t.match(stdout, /✗ CDS +sent \w+, has -; refused \w+: .*circuit_breakers: not here/)
  t.match(
    (await explained())?.detail,
    /1 of 1 connected of gateway bookinfo\/eastwest-gateway have not: router~.*Cluster refused: .*circuit_breakers: not here/,
  )
  const json = JSON.parse((await isthmus('status', '--admin', address, '-o', 'json')).stdout)
  t.match(json, [
    {
      status: {
        clients: [
          {
            kind: 'gateway',
            view: 'bookinfo/eastwest-gateway',
            types: { [TYPE.cluster]: { settled: /true|false/, lagMs: Number } },
          },
        ],
      },
    },
  ])
  router.refuse(TYPE.cluster)
  await cluster.apply(setting([{ app: 'nobody' }]))
  await router.until('nothing', () => router.names(TYPE.cluster).length === 0)
  await cluster.apply(setting())
  await router.until('the service again', () => router.names(TYPE.cluster).length === 1)
  await cluster.poll('all of it', () =>
    cluster.discovery.clients().every(({ types }) => Object.values(types).every(({ settled }) => settled)),
  )
  t.match((await explained())?.detail, /^all 1 connected/, 'what was refused once and is taken now')
  t.notMatch((await isthmus('status', '--admin', address)).stdout, '✗')
  router.stop()
})
