// PROMISE (S12): deleting the gateway takes its entries and routes; connections in flight finish, or are cut at the drain deadline,
// and the log says which.
import t from 'tap'
import { entries, gatewayIn, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
t.test('a gateway goes', async (t) => {
  const demo = await startDemo(t)
  // Its connectionDrainDuration is 4 s.
  await demo.apply('cluster-1', 'more/gateway-in-eastwest.yaml', 'story/bookinfo-ws-limited.yaml')
  const { admin } = await gatewayIn(demo, 'eastwest')
  await until('the entries lead there', 20_000, async () =>
    (await entries(demo, 'cluster-2')).length === 2 ? true : undefined,
  )
  const slow = (seconds: number) =>
    demo.curl(
      'cluster-2',
      `productpage.bookinfo:9080/slow?seconds=${seconds}`,
      '--no-buffer',
      '--max-time',
      '60',
    )
  const short = slow(2)
  const long = slow(50)
  await until('both are in flight', 10_000, async () => {
    const { output } = await demo.sh(`curl -s ${admin}/status`)
    return /"open": ?2\b/.test(output) ? true : undefined
  })
  const startedMs = Date.now()
  await demo.sh('./isthmus delete -f more/gateway-in-eastwest.yaml --dir cluster-1/yaml')
  await until('the entries are gone', 10_000, async () =>
    (await entries(demo, 'cluster-2')).length === 0 ? true : undefined,
  )
  const [finished, cut] = await Promise.all([short, long])
  t.equal(finished.code, 0)
  t.match(finished.output, /the end/)
  t.not(cut.code, 0)
  t.notMatch(cut.output, /the end/)
  t.ok(Date.now() - startedMs < 20_000, 'cut at the deadline')
  const log = await until('the log says which', 10_000, () => {
    const lines = demo.log('cluster-1', /^eastwest\.eastwest-gateway/)
    return lines.some(({ msg }) => msg === 'drained') ? lines : undefined
  })
  t.match(
    log.find(({ msg }) => msg === 'drained'),
    { finished: 1, cut: { 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local': 1 } },
  )
  t.ok(log.some(({ flag }) => flag === 'DRAIN'))
})
