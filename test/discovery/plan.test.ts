import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { AdminServer } from '../../src/admin/http.ts'
import { discoveryRoutes } from '../../src/cli/discovery-routes.ts'
import { createCa } from '../../src/identity/ca.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { TYPE } from '../../src/xds/types.ts'
import { isthmus } from '../cli/run.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const HOST = (name: string): string => `${name}.bookinfo.svc.cluster.local`
const other = await createCa({ trustDomain: 'cluster-2.local' })
const cluster = await TestCluster.start('cluster-1', {
  yaml:
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    service({ name: 'details', pods: ['10.0.1.20:9080'] }) +
    gateway('203.0.113.10') +
    workspace +
    setting() +
    reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
    peer('cluster-2', other.bundlePem),
})
t.teardown(() => cluster.stop())
await cluster.until('the exposures', () => (cluster.discovery.model?.exposures.size ?? 0) > 1)
const router = (
  await cluster.client(
    { id: 'router~10.0.0.7~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local' },
    { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' },
  )
)
  .subscribe(
    TYPE.endpoints,
    ['details', 'productpage'].map((name) => `outbound_.9080_._.${HOST(name)}`),
  )
  .start()
await router.until(
  'everything',
  () => router.names(TYPE.endpoints).length === 2 && router.names(TYPE.listener).length === 1,
)

const docs = (yaml: string): unknown[] =>
  parseAllDocuments(yaml).map((document) => document.toJS() as unknown)
const versions = () =>
  JSON.stringify(
    [...cluster.discovery.dump()].map(([view, snapshot]) => [
      view,
      [...snapshot].map(([, all]) => [...all.values()].map(({ version }) => version)),
    ]),
  )

t.test('a setting that exposes less: who loses what, and what would be pushed; and nothing is', async (t) => {
  const [before, updates] = [versions(), router.updates]
  const plan = cluster.discovery.plan({ apply: docs(setting([{ app: 'details' }])), delete: [] })
  t.match(plan, {
    objects: [{ change: 'configured' }],
    exposed: [
      // The same, by another rule.
      { change: 'changed', subject: HOST('details'), detail: /app=details/ },
      { change: 'removed', subject: HOST('productpage'), detail: /WorkspaceSetting/ },
    ],
    access: [{ change: 'removed', subject: `cluster-2 → ${HOST('productpage')} in cluster-1` }],
    told: [{ change: 'removed', subject: `cluster-2: ${HOST('productpage')}` }],
  })
  t.match(plan?.pushes, {
    clients: 1,
    types: { Cluster: { clients: 1, removed: [`outbound_.9080_._.${HOST('productpage')}`], added: [] } },
  })
  t.equal(versions(), before)
  t.equal(router.updates, updates)
})

t.test('what it says of pushes is what comes once it is applied', async (t) => {
  const yaml = service({ name: 'details', pods: ['10.0.1.20:9080', '10.0.1.21:9080'] })
  const plan = cluster.discovery.plan({ apply: docs(yaml), delete: [] })
  t.match(plan?.pushes, {
    clients: 1,
    responses: 1,
    types: { ClusterLoadAssignment: { changed: [`outbound_.9080_._.${HOST('details')}`] } },
  })
  t.same(plan?.exposed, [])
  const name = `outbound_.9080_._.${HOST('details')}`
  const all = () =>
    [TYPE.listener, TYPE.cluster, TYPE.endpoints].flatMap((type) =>
      router.names(type).map((each) => `${each} ${router.get(type, each)?.version}`),
    )
  const before = all()
  const was = router.get(TYPE.endpoints, name)?.version
  await cluster.apply(yaml)
  await router.until('the endpoints', () => router.get(TYPE.endpoints, name)?.version !== was)
  const changed = all().filter((each) => !before.includes(each))
  t.same(
    changed.map((each) => each.split(' ')[0]),
    plan?.pushes.types['ClusterLoadAssignment']?.changed,
  )
})

t.test('a peer that is deleted loses everything, and is named as the reason', async (t) => {
  const secret = cluster.store
    .list('Secret')
    .find(({ metadata }) => metadata.labels['isthmus.io/peer'] === 'true')
  t.ok(secret)
  if (secret === undefined) return
  const { kind, metadata } = secret
  const { namespace, organization, tenant, workspace: space, name } = metadata
  const ref = { kind, namespace, organization, tenant, workspace: space, name }
  const plan = cluster.discovery.plan({ apply: [], delete: [ref] })
  t.match(plan?.access, [
    {
      change: 'removed',
      subject: `cluster-2 → ${HOST('details')} in cluster-1`,
      detail: /cannot be verified/,
    },
    { change: 'removed', subject: `cluster-2 → ${HOST('productpage')} in cluster-1` },
  ])
})

t.test('the command: a folder given, text and JSON; broken input and a dead server', async (t) => {
  const admin = new AdminServer({ routes: discoveryRoutes(cluster.process, silentLogger) })
  const at = await admin.listen('127.0.0.1', 0)
  t.teardown(() => admin.close())
  const address = `${at.host}:${at.port}`
  const folder = t.testdir({})
  await writeFile(join(folder, 'setting.yaml'), setting([{ app: 'details' }]))
  const text = await isthmus('plan', '-f', folder, '--admin', address)
  t.equal(text.code, 0, text.stderr)
  t.match(text.stdout, /^cluster cluster-1: 1 objects would change, 0 would stay\n/)
  t.match(text.stdout, new RegExp(`- {2}loses {2}cluster-2 → ${HOST('productpage')} in cluster-1`))
  t.match(text.stdout, /pushes: \d+ responses to 1 clients:/)
  const json = await isthmus('plan', '--delete', '-f', folder, '--admin', address, '-o', 'json')
  t.match(JSON.parse(json.stdout), { cluster: 'cluster-1', objects: [{ change: 'deleted' }] })
  await writeFile(join(folder, 'broken.yaml'), 'apiVersion: v1\nkind: Service\nmetadata: {}\n')
  const broken = await isthmus('plan', '-f', folder, '--admin', address)
  t.equal(broken.code, 64)
  t.match(broken.stderr, /broken\.yaml.*metadata\.name/)
  t.equal((await isthmus('plan', '-f', join(folder, 'setting.yaml'), '--admin', '127.0.0.1:1')).code, 1)
  const wrong = await fetch(`http://${address}/plan`, {
    method: 'POST',
    body: '{"delete": [{"kind": "Service"}]}',
  })
  t.equal(wrong.status, 400)
  t.match(await wrong.text(), 'delete: expected an array of {kind, namespace')
  t.equal((await fetch(`http://${address}/plan`)).status, 405)
})
