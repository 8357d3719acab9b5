// PROMISE: a gateway's address is its load balancer's, what the annotation says (several addresses, of which one may be dead), or
// a node port; while there is none that can be used, nothing is told, and the page is back by itself.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Demo, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
const SOON_MS = 15_000

t.test('where a gateway is', async (t) => {
  const demo = await startDemo(t)
  const balancer = host(demo.cluster('cluster-1').gateway?.address ?? '')
  const node = balancer.replace(/\d+$/, '254')

  await t.test('the annotation names two addresses, one of them dead', async (t) => {
    apply(demo, { annotations: { 'xcp.tetrate.io/cluster-external-addresses': `${node}, ${balancer}` } })
    await endpointsAre(demo, `${node}:15443,${balancer}:15443`)
    for (let call = 0; call < 6; call++) await demo.pageAnswers('cluster-2', 0)
    t.pass('no call was lost')
  })
  await t.test('an annotation that cannot be read withholds the address', async (t) => {
    apply(demo, { annotations: { 'xcp.tetrate.io/cluster-external-addresses': '203.0.113.500' } })
    await endpointsAre(demo, '')
    const { output } = await demo.sh(`./isthmus status --admin ${demo.cluster('cluster-1').discovery.admin}`)
    t.match(output, /AwaitingAddress .*found "203\.0\.113\.500", expected IP addresses/)
  })
  await t.test('a node port', async () => {
    apply(demo, { type: 'NodePort' })
    await endpointsAre(demo, new RegExp(`${node.replaceAll('.', '\\.')}:3\\d{4}(\\s|$)`, 'm'))
    await demo.pageAnswers('cluster-2', SOON_MS)
  })
  await t.test('and its load balancer again', async () => {
    apply(demo, {})
    await endpointsAre(demo, `${balancer}:15443`)
    await demo.pageAnswers('cluster-2', SOON_MS)
  })
})

const host = (address: string): string => address.slice(0, address.lastIndexOf(':'))

/** Saves the gateway with this Service. JSON is YAML. */
function apply(demo: Demo, service: object): void {
  const gateway = {
    apiVersion: 'install.tetrate.io/v1alpha1',
    kind: 'IngressGateway',
    metadata: { name: 'eastwest-gateway', namespace: 'bookinfo' },
    spec: { eastWestOnly: true, kubeSpec: { service } },
  }
  const file = join(demo.cluster('cluster-1').yaml, 'ingressgateway.bookinfo.eastwest-gateway.yaml')
  writeFileSync(file, JSON.stringify(gateway))
}

/** Until cluster-2's entries lead there; '' = there are none. */
function endpointsAre(demo: Demo, wanted: string | RegExp): Promise<boolean> {
  return until(`cluster-2 calls ${wanted}`, SOON_MS, async () => {
    const { output } = await demo.sh('./isthmus get serviceentries -n xcp-multicluster --dir cluster-2/yaml')
    if (wanted === '') return output.includes('No serviceentries') ? true : undefined
    const found = typeof wanted === 'string' ? output.includes(` ${wanted}\n`) : wanted.test(output)
    return found ? true : undefined
  })
}
