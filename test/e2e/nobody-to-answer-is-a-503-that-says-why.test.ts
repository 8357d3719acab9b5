// PROMISE (S11): no healthy endpoint anywhere is a 503 with the reason, on CONNECT and on plain HTTP, and UH in the access log;
// a gateway without an address is AwaitingAddress in the status; explain names the hop in both cases.
import { Resolver } from 'node:dns/promises'
import t from 'tap'
import { run, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
const TARGET = 'productpage.bookinfo:9080'

t.test('nobody to answer', async (t) => {
  const demo = await startDemo(t)
  const explain = () => demo.sh(`./isthmus explain cluster-2 ${TARGET} --state state.json`)
  const resolver = new Resolver({ timeout: 1_000, tries: 3 })
  resolver.setServers([demo.cluster('cluster-2').sidecar?.dns ?? ''])
  const [listener = ''] = await resolver.resolve4('PRODUCTPAGE.bookinfo.svc')
  t.match((await explain()).output, /the call works/)

  await t.test('no endpoint', async (t) => {
    t.equal((await demo.apply('cluster-1', 'more/productpage-scaled-to-zero.yaml')).code, 0)
    await until('CONNECT answers 503 and why', 10_000, async () => {
      const { output } = await demo.curl('cluster-2', `${TARGET}/productpage`, '-i')
      return /503 Service Unavailable/.test(output) &&
        /x-isthmus-reason: UH: no healthy upstream/.test(output)
        ? true
        : undefined
    })
    const plain = await run([
      'curl',
      '-sSi',
      '--max-time',
      '5',
      '--noproxy',
      '*',
      `http://${listener}:9080/productpage`,
    ])
    t.match(plain.output, /^HTTP\/1\.1 503 Service Unavailable/)
    t.match(plain.output, /no healthy upstream/)
    t.ok(demo.log('cluster-2', /^sidecar/).some((line) => line['flag'] === 'UH'))
    const { code, output } = await explain()
    t.equal(code, 1)
    t.match(output, /broken at: backend \(cluster-1\)/)
  })
  await t.test('and back', async () => {
    await demo.apply('cluster-1', 'more/productpage.yaml')
    await demo.pageAnswers('cluster-2', 10_000)
  })
  await t.test('no address', async (t) => {
    t.equal((await demo.apply('cluster-1', 'more/gateway-awaiting-address.yaml')).code, 0)
    await until('the status awaits it', 10_000, async () => {
      const { output } = await demo.sh(
        `./isthmus status --admin ${demo.cluster('cluster-1').discovery.admin}`,
      )
      return output.includes('AwaitingAddress') ? true : undefined
    })
    await until('explain names the hop', 10_000, async () =>
      (await explain()).output.includes('broken at: address (cluster-1)') ? true : undefined,
    )
    await demo.apply('cluster-1', 'story/eastwest-gateway.yaml')
    await demo.pageAnswers('cluster-2', 20_000)
    t.pass('and it comes back by itself')
  })
})
