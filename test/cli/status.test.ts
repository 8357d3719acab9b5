import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AdminServer } from '../../src/admin/http.ts'
import { discoveryStatus } from '../../src/discovery/status.ts'
import * as build from '../model/build.ts'
import { isthmus } from './run.ts'

async function serve(t: Test, body: unknown): Promise<string> {
  const admin = new AdminServer({ routes: { '/status': async () => ({ body }) } })
  const { host, port } = await admin.listen('127.0.0.1', 0)
  t.teardown(() => admin.close())
  return `${host}:${port}`
}

const model = build.modelOf(
  build.manifests(
    build.clusterObject('c1', 'vpc-1'),
    build.clusterObject('c2', 'vpc-2'),
    build.service('web', 'shop', { labels: { app: 'web' } }),
    build.service('db', 'shop'),
    build.gateway('east', 'gw'),
    build.gatewayService('east', 'gw', []),
    build.workspace('w', '*/shop'),
    build.setting('s', 'w', { gateway: 'gw', labels: { app: 'east' }, exposed: [{ app: 'web' }] }),
    build.peerSecret('c2'),
  ),
)

const peer = {
  cluster: 'c2',
  trustDomain: 'c2.local',
  adsAddress: '192.0.2.9:15012',
  connected: true,
  entries: 3,
  reversed: false,
  stale: false,
  staleSince: '',
  frozen: 0,
  generation: 1,
  allowed: false,
  reason: 'nothing allows it',
  error: '',
}
const body = discoveryStatus({
  cluster: 'c1',
  pending: [],
  model,
  peers: [peer],
  disagreements: new Map(),
  refused: new Map(),
  claims: new Map(),
  objectOf: (cluster) => `Cluster/acme/${cluster}`,
  problems: [{ object: 'a.yaml#2', field: 'spec', message: 'is broken' }],
  clients: [],
})

t.test('what a discovery server says, as a table', async (t) => {
  const { code, stdout } = await isthmus('status', '--admin', await serve(t, body))
  t.equal(code, 0)
  t.match(stdout, 'cluster c1, network vpc-1, trust domain c1.local; ready; 0 clients')
  t.match(
    stdout,
    /peers:\n {2}c2 {2}192.0.2.9:15012 {2}connected {2}offers 3 hosts {2}not reachable: nothing allows it/,
  )
  t.match(
    stdout,
    /gateways:\n {2}gw\/east {2}AwaitingAddress {2}Service\/gw\/east has no status.loadBalancer.ingress yet/,
  )
  t.match(
    stdout,
    /\nexposed:\n {2}web.shop.svc.cluster.local {2}80 {2}w\/s\[0\] {2}gw\/east \(AwaitingAddress\) {2}terminate {2}WorkspaceSetting\/acme\/eng\/w\/s spec/,
  )
  t.match(
    stdout,
    /not exposed:\n.*db.shop.svc.cluster.local +WorkspaceSetting\/acme\/eng\/w\/s spec.defaultEastWestGatewaySettings: no item's exposedServices match/s,
  )
  t.match(stdout, /problems:\n {2}a.yaml#2: spec: is broken/)
  t.match(stdout, /IngressGateway\/gw\/east +Programmed=False +AwaitingAddress/)
})

t.test('every process of a state file, as JSON; one that is gone makes it exit 1', async (t) => {
  const folder = t.testdir({})
  const file = join(folder, 'state.json')
  const discovery = await serve(t, body)
  const sidecar = await serve(t, { ready: true })
  const clusters = { c1: { discovery: { admin: discovery }, gateway: null, sidecar: { admin: sidecar } } }
  await writeFile(file, JSON.stringify({ clusters }))
  const good = await isthmus('status', '--state', file, '-o', 'json')
  t.equal(good.code, 0)
  t.match(JSON.parse(good.stdout), [
    {
      name: 'c1 discovery',
      admin: discovery,
      status: { cluster: 'c1', exposures: [{}, {}, { host: 'web.shop.svc.cluster.local', exposed: true }] },
    },
    { name: 'c1 sidecar', status: { ready: true } },
  ])
  await writeFile(
    file,
    JSON.stringify({ clusters: { ...clusters, c2: { discovery: { admin: '127.0.0.1:1' } } } }),
  )
  const bad = await isthmus('status', '--state', file)
  t.equal(bad.code, 1)
  t.match(bad.stdout, /c2 discovery \(127.0.0.1:1\)\n=+\n {2}✗ http:\/\/127.0.0.1:1 does not answer/)
  t.match(bad.stdout, /c1 sidecar .*\n=+\n {2}ready: true/)
})

t.test('bad usage ends with 64', async (t) => {
  for (const args of [
    ['--admin', 'x'],
    ['-o', 'xml'],
    ['--state', '/nowhere'],
  ])
    t.equal((await isthmus('status', ...args)).code, 64)
})
