// A typo in an AuthorizationPolicy at discovery's start, and after it: whether gateways of its namespace are closed.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { gateway, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const policy = (over: object) =>
  yamlOf({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'only-sleep', namespace: 'bookinfo' },
    spec: { rules: [{ from: [{ source: { principals: ['*/sa/sleep'] } }] }], ...over },
  })
const broken = policy({ acton: 'ALLOW' })

t.test('a policy that cannot be read closes its gateway from the start until it was good once', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-refused-policy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await mkdir(join(folder, 'yaml'))
  const path = join(folder, 'yaml', 'policy.yaml')
  await writeFile(path, broken)
  const story =
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    gateway('203.0.113.10') +
    workspace +
    setting()
  const cluster = await TestCluster.start('cluster-1', { folder, yaml: story })
  t.teardown(() => cluster.stop())
  const inForce = () =>
    [...(cluster.discovery.model?.authorization.values() ?? [])]
      .flat()
      .map(({ name, action, rules }) => `${action} ${name}: ${rules.map((rule) => rule.name).join()}`)
  const refused = () => cluster.discovery.problems().some(({ field }) => field === 'spec.acton')
  const closed = ['DENY bookinfo/only-sleep: AuthorizationPolicy bookinfo/only-sleep cannot be read']
  const good = ['ALLOW bookinfo/only-sleep: ALLOW AuthorizationPolicy/bookinfo/only-sleep rules[0]']
  const becomes = (what: string, expected: readonly string[]) =>
    cluster.until(what, () => inForce().join() === expected.join())

  await becomes('closed', closed)
  t.ok(refused())
  t.match(
    cluster.discovery.conditions().find(({ object }) => object === 'AuthorizationPolicy/bookinfo/only-sleep'),
    { status: false, message: /spec\.acton.*nobody may call/s },
  )

  await writeFile(path, 'kind: [')
  await cluster.poll('the file that is no YAML', () => !refused())
  t.strictSame(inForce(), closed, 'who it was is remembered')

  await writeFile(path, policy({}))
  await becomes('mended', good)
  t.notOk(refused())

  await writeFile(path, broken)
  await cluster.poll('broken again', refused)
  t.strictSame(inForce(), good, 'the last good one stays')

  await rm(path)
  await becomes('gone', [])
  await writeFile(path, broken)
  await becomes('closed by one that was never good', closed)
  await rm(path)
  await becomes('open again when it is taken away', [])
})
