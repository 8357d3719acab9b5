import t, { type Test } from 'tap'
import { AdminServer } from '../../src/admin/http.ts'
import { topologyOf } from '../../src/discovery/topology.ts'
import * as build from '../model/build.ts'
import { isthmus } from './run.ts'

const clusters = [
  build.clusterObject('c1', 'vpc-1'),
  build.clusterObject('c2', 'vpc-2'),
  build.clusterObject('c3', 'vpc-3'),
]

const c1 = topologyOf(
  build.modelOf(
    build.manifests(
      ...clusters,
      build.organization({ 'vpc-2': 'vpc-1' }),
      build.service('web', 'shop', { labels: { app: 'web' } }),
      build.gateway('east', 'gw'),
      build.gatewayService('east', 'gw', [{ ip: '203.0.113.7' }]),
      build.workspace('w', '*/shop'),
      build.setting('s', 'w', { gateway: 'gw', labels: { app: 'east' } }),
      build.peerSecret('c2'),
    ),
  ),
)
const c2 = topologyOf(build.modelOf(build.manifests(...clusters, build.peerSecret('c1')), 'c2'))

async function serve(t: Test, body: unknown): Promise<string> {
  const admin = new AdminServer({ routes: { '/topology': async () => ({ body }) } })
  const { host, port } = await admin.listen('127.0.0.1', 0)
  t.teardown(() => admin.close())
  return `${host}:${port}`
}

t.test('a cluster says who may call whom, and what it exposes to whom', async (t) => {
  t.match(c1, {
    cluster: 'c1',
    clusters: [
      { id: 'c1', relation: 'self' },
      { id: 'c2', network: 'vpc-2', relation: 'peer' },
      { id: 'c3', relation: 'known' },
    ],
    networks: [{ name: 'vpc-1', clusters: ['c1'] }, {}, {}],
    gateways: [{ name: 'gw/east', addresses: [{ address: '203.0.113.7', port: 15_443 }] }],
    exposed: [
      {
        host: 'web.shop.svc.cluster.local',
        ports: [80],
        callers: ['c2'],
        toldTo: ['c2'],
        callerVerified: true,
      },
    ],
  })
  const reaches = c1.reachability.filter(({ allowed }) => allowed).map(({ from, to }) => `${from} ${to}`)
  t.same(reaches, ['vpc-2 vpc-1'])
})

t.test('several clusters as one table; where two copies disagree it is refused, and said', async (t) => {
  const { code, stdout } = await isthmus(
    'topology',
    '--admin',
    await serve(t, c1),
    '--admin',
    await serve(t, c2),
  )
  t.equal(code, 0)
  t.match(stdout, / {2}c2 {2}vpc-2 {2}c2\.local {2}- {2}linked to c1\n/)
  t.match(stdout, / {2}c3 .*not linked, not asked\n/)
  t.match(stdout, / {2}vpc-2 {2}c2 {2}reaches no other\n/, 'as the last speaker has it')
  t.match(stdout, /calls.*:\n {6}c1 +c2 +c3\n {2}c1 +· +no +no\?\n {2}c2 +no! +· +no\?\n {2}c3 +no +no +·\n/)
  t.match(stdout, '! c2 to c1: c1 allows it (')
  t.match(stdout, '), c2 refuses it (')
  t.match(
    stdout,
    /exposed:\n {2}c1 {2}web\.shop\.svc\.cluster\.local {2}80 {2}gw\/east {2}terminate, caller verified {2}lets in c2\n/,
  )
})

t.test('JSON has what each said, and who said nothing makes it exit 1', async (t) => {
  const run = await isthmus('topology', '--admin', await serve(t, c1), '--admin', '127.0.0.1:1', '-o', 'json')
  t.equal(run.code, 1)
  t.match(JSON.parse(run.stdout), {
    said: [{ cluster: 'c1' }],
    silent: [{ admin: '127.0.0.1:1', error: /does not answer/ }],
  })
  t.equal((await isthmus('topology', '-o', 'xml')).code, 64)
})
