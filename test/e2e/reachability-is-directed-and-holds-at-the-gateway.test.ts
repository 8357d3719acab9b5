// PROMISE (S9): with networks and a directed reachability cluster-2 may call cluster-1, cluster-1 sees nothing of cluster-2, and a
// third cluster sees nothing and is refused at the gateway, whatever certificate of its own it shows.
import t from 'tap'
import { entries, hasTitle, serverName, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
t.test('who may call whom', async (t) => {
  const demo = await startDemo(t)
  const address = demo.cluster('cluster-1').gateway?.address ?? ''
  const { sleep: stranger } = demo.cluster('cluster-3').identities
  const isAt = (cluster: string, names: string) =>
    until(`${cluster} has [${names}]`, 20_000, async () =>
      (await entries(demo, cluster)).join(' ') === names ? true : undefined,
    )

  const all = 'details productpage ratings reviews'
  t.equal((await demo.apply('cluster-2', 'more/cluster-2-exposes-sleep.yaml')).code, 0)
  await isAt('cluster-1', 'sleep')
  await isAt('cluster-3', `${all} sleep`)
  t.match(
    (await demo.knock(address, serverName('productpage'), stranger)).output,
    /HTTP\/1\.1 200/,
    'unnamed networks are one',
  )

  for (const cluster of ['cluster-1', 'cluster-2', 'cluster-3'])
    t.equal((await demo.apply(cluster, 'story/reachability.yaml', 'more/cluster-3.yaml')).code, 0)
  await isAt('cluster-1', '')
  await isAt('cluster-3', '')
  await isAt('cluster-2', all)
  t.equal(demo.cluster('cluster-1').network, 'cluster-1-network')
  t.ok(hasTitle((await demo.page('cluster-2')).output))
  t.notMatch((await demo.knock(address, serverName('productpage'), stranger)).output, /HTTP\//)
  const line = await until('its line in the access log', 5_000, () =>
    demo.log('cluster-1', /eastwest-gateway/).find((entry) => entry['flag'] === 'RBAC_DENIED'),
  )
  t.match(JSON.stringify(line), /spiffe:\/\/cluster-3\.local\/ns\/client\/sa\/sleep/)
})
