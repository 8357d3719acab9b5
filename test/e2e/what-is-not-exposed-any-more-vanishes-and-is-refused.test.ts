// PROMISE (S8): with a limited setting only services labelled `failover: enable` or `app: details` stay exposed; the others vanish
// from the other clusters and are refused at the gateway, even for a good certificate.
import t from 'tap'
import { entries, gatewayIn, hasTitle, serverName, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
t.test('the limited setting', async (t) => {
  const demo = await startDemo(t)
  const { sleep } = demo.cluster('cluster-2').identities
  const old = demo.cluster('cluster-1').gateway?.address ?? ''
  t.match((await demo.knock(old, serverName('reviews'), sleep)).output, /HTTP\/1\.1 200/, 'before')

  t.equal(
    (await demo.apply('cluster-1', 'more/gateway-in-eastwest.yaml', 'story/bookinfo-ws-limited.yaml')).code,
    0,
  )
  await until('two entries are left', 20_000, async () => {
    const names = await entries(demo, 'cluster-2')
    return names.join(' ') === 'details productpage' ? true : undefined
  })
  const { address } = await gatewayIn(demo, 'eastwest')
  for (const service of ['details', 'productpage'])
    t.match((await demo.knock(address, serverName(service), sleep)).output, /HTTP\/1\.1 200/, service)
  for (const at of [address, old]) {
    for (const service of ['reviews', 'ratings']) {
      const { output } = await demo.knock(at, serverName(service, service === 'ratings' ? 80 : 9080), sleep)
      t.match(output, /unrecognized name/i, `${service} at ${at}`)
      t.notMatch(output, /HTTP\//)
    }
  }
  t.ok(hasTitle((await demo.page('cluster-2')).output), 'the page calls reviews within its own cluster')
  t.match(
    (await demo.curl('cluster-2', 'reviews.bookinfo:9080/reviews')).output,
    /response 502/,
    'nobody knows reviews there',
  )
})
