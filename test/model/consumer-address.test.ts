import t from 'tap'
import { explainServing, servingTarget } from '../../src/model/explain.ts'
import { exportsFor } from '../../src/model/export-of.ts'
import type { Model } from '../../src/model/types.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { modelOf, peer, reachability, service, setting, workspace, yamlOf } from '../resources/world.ts'

const NETWORKS = ['cluster-1', 'cluster-2', 'cluster-3']

function model(annotations: Record<string, string>, ingress = '203.0.113.7'): Model {
  return modelOf(
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
      workspace +
      setting() +
      reachability(NETWORKS, {
        'cluster-2-network': 'cluster-1-network',
        'cluster-3-network': 'cluster-1-network',
      }) +
      NETWORKS.slice(1)
        .map((name) => peer(name, 'pem'))
        .join('') +
      yamlOf(
        {
          apiVersion: 'install.tetrate.io/v1alpha1',
          kind: 'IngressGateway',
          metadata: { name: 'eastwest-gateway', namespace: 'bookinfo' },
          spec: { eastWestOnly: true },
        },
        {
          apiVersion: 'v1',
          kind: 'Service',
          metadata: { name: 'eastwest-gateway', namespace: 'bookinfo', annotations },
          spec: {
            type: 'LoadBalancer',
            selector: { app: 'eastwest-gateway' },
            ports: [{ name: 'tls', port: 15443 }],
          },
          ...(ingress !== '' && { status: { loadBalancer: { ingress: [{ ip: ingress }] } } }),
        },
      ),
  )
}

/** What a peer is told: the addresses, or why nothing. */
function told(of: Model, cluster: string): string[] {
  const { services, gateways, withheld } = exportsFor(of, of.clusters.get(cluster) ?? of.self)
  if (services.length === 0) return withheld.map(({ reason }) => reason)
  return exportEntries(services, gateways, of.self).flatMap(({ endpoints }) =>
    endpoints.map(({ address }) => address),
  )
}

const programmed = (of: Model) =>
  of.conditions.find(({ object, type }) => object.startsWith('IngressGateway') && type === 'Programmed')

t.test('each network is told the address that is for it, the rest that of the load balancer', async (t) => {
  const world = model({ 'addresses.isthmus.io/cluster-2-network': '10.20.0.7, 10.20.0.8' })
  t.strictSame(told(world, 'cluster-2'), ['10.20.0.7', '10.20.0.8'])
  t.strictSame(told(world, 'cluster-3'), ['203.0.113.7'])
  t.match(programmed(world), {
    status: true,
    message:
      /^203\.0\.113\.7 port 15443, for network cluster-2-network 10\.20\.0\.7 port 15443, 10\.20\.0\.8/,
  })
  t.strictSame(
    ['cluster-2', 'cluster-3'].map(
      (from) => servingTarget(world, 'productpage.bookinfo', 9080, from)?.gateway.addresses[0]?.address,
    ),
    ['10.20.0.7', '203.0.113.7'],
    'explain tries the address that the caller would',
  )
  const hop = explainServing(world, 'cluster-2', 'productpage.bookinfo', 9080).find(
    (each) => each.hop === 'address',
  )
  t.match(hop?.detail, /10\.20\.0\.7 port 15443.*annotations\["addresses\.isthmus\.io\/cluster-2-network"\]/)
})

t.test(
  'what cannot be read is said, and that network gets nothing instead of what is for others',
  async (t) => {
    const world = model({ 'addresses.isthmus.io/cluster-2-network': '10.20.0.7;10.20.0.8' })
    t.match(told(world, 'cluster-2'), [
      /^AwaitingAddress: .*found "10\.20\.0\.7;10\.20\.0\.8", expected IP addresses/,
    ])
    t.strictSame(told(world, 'cluster-3'), ['203.0.113.7'])
    t.match(programmed(world), { status: false, reason: 'InvalidAddress', message: /cluster-2-network/ })
  },
)

t.test('an address for one network is enough for that one', async (t) => {
  const world = model({ 'addresses.isthmus.io/cluster-2-network': 'gateway.internal' }, '')
  t.strictSame(told(world, 'cluster-2'), ['gateway.internal'])
  t.match(told(world, 'cluster-3'), [/AwaitingAddress/])
  t.equal(programmed(world)?.status, true)
})
