// PROMISE: a discovery server that is restarted while networks are being named goes on from where the one before was.
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { TRANSITION_MS } from '../../src/model/network-transition.ts'
import { REMEMBERED, recallTransition, rememberTransition } from '../../src/model/remembered-transition.ts'
import type { Model } from '../../src/model/types.ts'
import { peer, reachability, yamlOf } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const other = await createCa({ trustDomain: 'cluster-2.local' })
const clusterOn = (name: string, network: string) =>
  yamlOf({
    apiVersion: 'api.tsb.tetrate.io/v2',
    kind: 'Cluster',
    metadata: { name, organization: 'acme' },
    spec: { network, trustDomain: `${name}.local` },
  })
const UNNAMED = clusterOn('cluster-1', '') + clusterOn('cluster-2', '') + peer('cluster-2', other.bundlePem)

function verdict({ clusters, mayCall, self }: Model): { allowed: boolean; reason: string } {
  const from = clusters.get('cluster-2')
  return from === undefined ? { allowed: false, reason: 'unknown' } : mayCall(from, self)
}

const remembered = ({ store }: TestCluster): unknown => {
  const own = store.list('Cluster').find(({ metadata }) => metadata.name === 'cluster-1')
  return (own?.raw['status'] as Record<string, unknown> | undefined)?.[REMEMBERED]
}

t.test(
  'what was allowed before stays allowed over a restart, and is forgotten when the change is whole',
  async (t) => {
    const first = await TestCluster.start('cluster-1', { yaml: UNNAMED })
    await first.until('the model', () => first.discovery.model?.clusters.size === 2)
    t.equal(remembered(first), undefined, 'nothing to remember')
    await first.apply(clusterOn('cluster-1', 'cluster-1-network'))
    await first.until('the change', () => remembered(first) !== undefined)
    await first.stop(true)

    const second = await TestCluster.start('cluster-1', { ca: first.ca, folder: first.folder })
    t.teardown(() => second.stop())
    const model = () => second.discovery.model as Model
    t.match(verdict(model()), {
      allowed: true,
      reason: /^still allowed, as before: networks are being named/,
    })
    await second.apply(reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }))
    await second.until('the end of the change', () => remembered(second) === null)
    t.match(verdict(model()), { allowed: true, reason: /networkReachability/ })
    await second.apply(reachability(['cluster-1', 'cluster-2'], {}))
    await second.until('the removal', () => !verdict(model()).allowed)
  },
)

t.test('what is too old, of a time to come, or no transition is not believed', async (t) => {
  const first = await TestCluster.start('cluster-1', { yaml: UNNAMED })
  t.teardown(() => first.stop())
  await first.until('the model', () => first.discovery.model?.clusters.size === 2)
  await first.apply(clusterOn('cluster-1', 'cluster-1-network'))
  await first.until('the change', () => remembered(first) !== undefined)
  const { transition } = first.discovery.model as Model
  const { steppedAtMs } = transition
  const clusters = first.store.list('Cluster')
  const recall = (nowMs: number, list = clusters) => recallTransition(list, 'cluster-1', nowMs)
  const known = recall(steppedAtMs + 1)
  t.match(known, { steppedAtMs, step: transition.step })
  t.strictSame(known?.allowed, transition.allowed)
  t.strictSame(known?.settled, transition.settled)
  t.equal(recall(steppedAtMs + TRANSITION_MS), undefined, 'its time is over')
  t.equal(recall(steppedAtMs - 1), undefined, 'the clock was set back')
  t.equal(recallTransition(clusters, 'cluster-2', steppedAtMs), undefined, "another's")
  const good = rememberTransition(transition) as unknown as Record<string, unknown>
  for (const bad of [
    null,
    'text',
    {},
    { ...good, allowed: 'all' },
    { ...good, settled: undefined },
    { ...good, settled: { ...(good['settled'] as object), names: [['a']] } },
    { ...good, steppedAtMs: '1' },
  ]) {
    const list = clusters.map((each) => ({ ...each, raw: { status: { [REMEMBERED]: bad } } }))
    t.equal(recall(steppedAtMs + 1, list), undefined, JSON.stringify(bad))
  }
  t.equal(rememberTransition({ ...transition, pending: [] }), undefined)
})
