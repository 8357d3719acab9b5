import t from 'tap'
import { GatewayLifecycle } from '../../src/controllers/gateway-lifecycle.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { DirectoryStore } from '../../src/objects/directory-store.ts'
import { yamlOf } from '../resources/world.ts'
import { applyAll, counted, ref, storeWith } from './store.ts'

const object = (spec: object, kind = 'IngressGateway') =>
  yamlOf({
    apiVersion: 'install.tetrate.io/v1alpha1',
    kind,
    metadata: { name: 'eastwest-gateway', namespace: 'bookinfo' },
    spec,
  })
const pods = { cluster: 'cluster-1', image: 'isthmus:test', discovery: 'discovery:15012' }

function start(test: { teardown(end: () => Promise<void>): void }, store: DirectoryStore): GatewayLifecycle {
  const controller = new GatewayLifecycle({ store, logger: silentLogger, pods })
  test.teardown(() => controller.stop())
  controller.start()
  return controller
}

t.test('a gateway object has a Deployment and a Service, as long as it is there', async (t) => {
  const store = await storeWith(t, object({ eastWestOnly: true, connectionDrainDuration: '5s' }))
  const controller = start(t, store)
  await controller.idle()
  const [deployment] = store.list('Deployment')
  t.match(deployment, {
    metadata: {
      name: 'eastwest-gateway',
      namespace: 'bookinfo',
      labels: { 'app.kubernetes.io/managed-by': 'isthmus' },
    },
    spec: {
      replicas: 1,
      selector: { labels: { app: 'eastwest-gateway' } },
      template: { labels: { app: 'eastwest-gateway' }, spec: { serviceAccountName: 'eastwest-gateway' } },
    },
  })
  const [container] = deployment?.spec.template.spec.containers ?? []
  t.strictSame(container?.command, ['isthmus', 'gateway'])
  t.strictSame(container?.args, [
    ...['--cluster', 'cluster-1', '--name', 'eastwest-gateway', '--namespace', 'bookinfo'],
    ...[
      '--discovery',
      'discovery:15012',
      '--certs',
      '/etc/isthmus/certs',
      '--run-dir',
      '/run/isthmus',
      '--drain',
      '5s',
    ],
  ])
  t.match(store.list('Service'), [
    {
      metadata: { name: 'eastwest-gateway', namespace: 'bookinfo' },
      spec: {
        type: 'LoadBalancer',
        selector: { app: 'eastwest-gateway' },
        ports: [{ name: 'tls', port: 15443 }],
      },
    },
  ])
  await store.delete(ref('IngressGateway', 'bookinfo', 'eastwest-gateway'))
  await controller.idle()
  t.strictSame([store.list('Deployment'), store.list('Service')], [[], []])
})

t.test('nothing is written twice; what somebody removes is made again', async (t) => {
  const real = await storeWith(t, object({}))
  const { store, writes } = counted(real)
  const controller = start(t, store)
  await controller.idle()
  t.strictSame(writes, ['apply', 'apply'])
  await real.updateStatus(ref('Service', 'bookinfo', 'eastwest-gateway'), {
    loadBalancer: { ingress: [{ ip: '203.0.113.1' }] },
  })
  await controller.idle()
  t.strictSame(writes, ['apply', 'apply'], 'an address is no reason to write')
  t.strictSame(real.list('Service')[0]?.loadBalancer, [{ ip: '203.0.113.1' }])
  await real.delete(ref('Deployment', 'bookinfo', 'eastwest-gateway'))
  await controller.idle()
  t.equal(real.list('Deployment').length, 1)
})

t.test('a change of the object reaches its Deployment', async (t) => {
  const store = await storeWith(t, object({ kubeSpec: { deployment: { replicaCount: 1 } } }))
  const controller = start(t, store)
  await controller.idle()
  await applyAll(
    store,
    object({
      kubeSpec: { deployment: { replicaCount: 3 }, service: { type: 'NodePort', annotations: { a: 'b' } } },
    }),
  )
  await controller.idle()
  t.equal(store.list('Deployment')[0]?.spec.replicas, 3)
  t.match(store.list('Service')[0], { metadata: { annotations: { a: 'b' } }, spec: { type: 'NodePort' } })
})

t.test("somebody else's Deployment of that name is left alone and reported", async (t) => {
  const foreign = yamlOf({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'eastwest-gateway', namespace: 'bookinfo' },
    spec: {
      selector: { matchLabels: { app: 'x' } },
      template: { metadata: { labels: { app: 'x' } }, spec: { containers: [{ name: 'x', image: 'x' }] } },
    },
  })
  const store = await storeWith(t, foreign + object({}))
  const controller = start(t, store)
  await controller.idle()
  t.strictSame(store.list('Deployment')[0]?.spec.selector.labels, { app: 'x' })
  t.match(controller.problems(), [
    { object: /Deployment\/bookinfo\/eastwest-gateway/, message: /left alone/ },
  ])
  await store.delete(ref('IngressGateway', 'bookinfo', 'eastwest-gateway'))
  await controller.idle()
  t.equal(store.list('Deployment').length, 1, 'nor is it deleted with the object')
  t.strictSame(controller.problems(), [])
})

t.test('an egress gateway is none of ours', async (t) => {
  const store = await storeWith(t, object({ type: 'EGRESS' }, 'Gateway'))
  await start(t, store).idle()
  t.strictSame(store.list('Deployment'), [])
})
