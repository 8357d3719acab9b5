// Whoever may write in one namespace only: whatever is there, the services of another are exposed and served as before.
import assert from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import {
  bundlesOf,
  gateway,
  modelOf,
  peer,
  reachability,
  service,
  setting,
  workspace,
  yamlOf,
} from './world.ts'

const bundles = await bundlesOf('cluster-1', 'cluster-2')
const story =
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  service({ name: 'details', pods: ['10.0.1.20:9080'] }) +
  gateway('203.0.113.10') +
  workspace +
  setting() +
  reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
  peer('cluster-2', bundles[1]?.pem ?? '')

/** By type and name: what the gateway of `bookinfo` is told about names of `bookinfo`, and its listener. */
function told(yaml: string): Map<string, string> {
  const model = modelOf(yaml)
  const own = model.gateways.find(({ namespace }) => namespace === 'bookinfo')
  const bind = { address: '0.0.0.0', port: 15443 }
  const snapshot = gatewayResources(model, own, {
    bind,
    bundles,
    secrets: true,
    credentialFile: '',
  }).snapshot()
  const relevant = ({ name }: XdsResource, typeUrl: string) =>
    typeUrl === TYPE.listener || typeUrl === TYPE.secret || name.includes('.bookinfo.')
  return new Map(
    [...snapshot].flatMap(([typeUrl, resources]) =>
      [...resources.values()]
        .filter((resource) => relevant(resource, typeUrl))
        .map(({ name, version }) => [`${typeUrl} ${name}`, version] as const),
    ),
  )
}

// Names of bookinfo's own, so that whatever is found by name alone is found wrongly.
const name = fc.constantFrom('productpage', 'details', 'productpage-1', 'eastwest-gateway', 'reviews')
const labels = fc.dictionary(
  fc.constantFrom('app', 'kubernetes.io/service-name', 'security.istio.io/tlsMode', 'istio'),
  fc.constantFrom('productpage', 'details', 'eastwest-gateway', 'istio', 'eastwestgateway'),
)
const address = fc.constantFrom('10.0.1.10', '10.66.6.6', '169.254.169.254', '127.0.0.1')
const metadata = fc.record({ name, namespace: fc.constant('evil'), labels })
const ports = fc.constant([{ name: 'http', port: 9080, targetPort: 9080 }])
const foreign = fc.oneof(
  fc.record({
    apiVersion: fc.constant('v1'),
    kind: fc.constant('Service'),
    metadata,
    spec: fc.record({ selector: labels, ports }),
  }),
  fc.record({
    apiVersion: fc.constant('discovery.k8s.io/v1'),
    kind: fc.constant('EndpointSlice'),
    metadata,
    addressType: fc.constant('IPv4'),
    ports: fc.constant([{ name: 'http', port: 9080, protocol: 'TCP' }]),
    endpoints: fc.array(
      fc.record({
        addresses: fc.tuple(address),
        conditions: fc.constant({ ready: true }),
        targetRef: fc.record({
          kind: fc.constant('Pod'),
          name,
          namespace: fc.constantFrom('evil', 'bookinfo'),
        }),
      }),
      { minLength: 1, maxLength: 2 },
    ),
  }),
  fc.record({
    apiVersion: fc.constant('v1'),
    kind: fc.constant('Pod'),
    metadata,
    spec: fc.constant({ serviceAccountName: 'productpage', containers: [{ name: 'app', image: 'app' }] }),
    status: fc.record({ podIP: address, phase: fc.constant('Running') }),
  }),
  fc.record({
    apiVersion: fc.constant('install.tetrate.io/v1alpha1'),
    kind: fc.constant('IngressGateway'),
    metadata,
    spec: fc.constant({ eastWestOnly: true }),
  }),
)

const before = told(story)

t.test('objects of another namespace change nothing, whatever they are called', async (t) => {
  t.ok([...before.keys()].filter((key) => key.includes('.productpage.bookinfo.')).length >= 2, 'it is served')
  const others = fc.uniqueArray(foreign, {
    minLength: 1,
    maxLength: 6,
    selector: (object) => `${object.kind}/${object.metadata.name}`,
  })
  fc.assert(
    fc.property(others, (objects) => {
      assert.deepStrictEqual([...told(story + yamlOf(...objects))].sort(), [...before].sort())
    }),
    { numRuns: 300, seed: 4 },
  )
})

t.test('control: the same objects in the namespace itself do', async (t) => {
  const object = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'more',
      namespace: 'bookinfo',
      labels: { 'kubernetes.io/service-name': 'productpage' },
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: [{ addresses: ['10.66.6.6'], conditions: { ready: true } }],
  }
  t.notSame([...told(story + yamlOf(object))].sort(), [...before].sort())
})
