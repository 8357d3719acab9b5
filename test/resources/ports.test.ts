// Which ports of a service other clusters may call, and what is said where clusters disagree about them.
import t from 'tap'
import { explainServing } from '../../src/model/explain.ts'
import type { Model } from '../../src/model/types.ts'
import { callableHosts } from '../../src/resources/callable.ts'
import { gatewayRoutes } from '../../src/resources/gateway-upstreams.ts'
import { portConflicts } from '../../src/resources/port-conflicts.ts'
import type { EntryConfig } from '../../src/resources/service-entry.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { gateway, modelOf, reachability, setting, workspace, yamlOf } from './world.ts'

const HOST = 'details.bookinfo.svc.cluster.local'

type Port = readonly [name: string, port: number]

function service(ports: readonly Port[], annotation?: string): string {
  return yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: {
        name: 'details',
        namespace: 'bookinfo',
        annotations: annotation === undefined ? {} : { 'isthmus.io/exposed-ports': annotation },
      },
      spec: { selector: { app: 'details' }, ports: ports.map(([name, port]) => ({ name, port })) },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: 'details-1',
        namespace: 'bookinfo',
        labels: { 'kubernetes.io/service-name': 'details' },
      },
      addressType: 'IPv4',
      ports: ports.map(([name, port]) => ({ name, port, protocol: 'TCP' })),
      endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready: true } }],
    },
  )
}

const TWO: readonly Port[] = [
  ['http', 9080],
  ['http-admin', 9090],
]
const rest =
  gateway('203.0.113.10') +
  workspace +
  reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
/** The item that exposes it has a list of its own. */
const ofItem = (list: string): string =>
  setting().replace(
    '"workloadSelector"',
    `"configGenerationMetadata":{"annotations":{"isthmus.io/exposed-ports":"${list}"}},"workloadSelector"`,
  )

/** Ports that the gateway serves, and that others are told of. */
function exposed(model: Model): { readonly served: number[]; readonly told: number[] } {
  const [entry] = exportEntries([...model.exposures.values()], model.gateways, model.self)
  return {
    served: gatewayRoutes(model, 'bookinfo/eastwest-gateway').map(({ name }) => Number(name.split('_.')[1])),
    told: entry?.ports.map(({ number }) => number) ?? [],
  }
}

const both = (ports: number[]) => ({ served: ports, told: ports })

t.test('all ports are exposed unless a list says which, by name or number', async (t) => {
  t.strictSame(exposed(modelOf(service(TWO) + setting() + rest)), both([9080, 9090]))
  t.strictSame(exposed(modelOf(service(TWO, 'http') + setting() + rest)), both([9080]))
  t.strictSame(exposed(modelOf(service(TWO, '9090') + setting() + rest)), both([9090]))
  t.strictSame(exposed(modelOf(service(TWO) + ofItem('http, 9081') + rest)), both([9080]))
})

t.test('a list narrows: a port must be on that of the Service and on that of the item', async (t) => {
  t.strictSame(exposed(modelOf(service(TWO, 'http,http-admin') + ofItem('9090') + rest)), both([9090]))
  const none = modelOf(service(TWO, 'http') + ofItem('9090') + rest)
  t.strictSame(exposed(none), both([]))
  t.match(none.exposures.get(HOST)?.decision, { allowed: false, reason: /none of its ports/ })
})

t.test(
  'a list that cannot be read exposes nothing; one that names no port of the Service is said',
  async (t) => {
    const conditions = (annotation: string) => {
      const model = modelOf(service(TWO, annotation) + setting() + rest)
      const said = model.conditions.find(({ reason }) => reason === 'InvalidExposedPorts')
      return { ...exposed(model), said: said?.message ?? '' }
    }
    t.match(conditions('9080;9090'), {
      served: [],
      told: [],
      said: /found "9080;9090", expected names or numbers/,
    })
    t.match(conditions(''), { served: [], told: [], said: /no port is exposed/ })
    t.match(conditions('9080, metrics'), { served: [9080], told: [9080], said: /has no TCP port "metrics"/ })
    t.throws(() => modelOf(ofItem('a b')), /exposed-ports.*names or numbers of ports/)
  },
)

t.test('at home the other ports are called as before, and explain says why not from elsewhere', async (t) => {
  const model = modelOf(service(TWO, 'http') + setting() + rest)
  const [home] = callableHosts(model, true)
  t.strictSame(
    home?.ports.map(({ number }) => number),
    [9080, 9090],
  )
  const [hop] = explainServing(model, 'cluster-2', 'details.bookinfo', 9090)
  t.match(hop, {
    ok: false,
    code: 'PortNotExposed',
    detail: /port 9090 is not exposed, only 9080/,
    fix: /exposed-ports/,
  })
})

t.test('clusters that disagree about a port are named, with whose word counts', async (t) => {
  const offer = (ports: readonly (readonly [string, number, string])[]): ReadonlyMap<string, EntryConfig> => {
    const entry = { ports: ports.map(([name, number, protocol]) => ({ name, number, protocol })) }
    return new Map([[HOST, entry as unknown as EntryConfig]])
  }
  const offers = new Map([
    [
      'cluster-3',
      offer([
        ['http', 9080, 'HTTP'],
        ['admin', 9091, 'TCP'],
      ]),
    ],
    [
      'cluster-2',
      offer([
        ['grpc', 9080, 'GRPC'],
        ['admin', 9090, 'TCP'],
      ]),
    ],
  ])
  const far = portConflicts('cluster-1', [], offers)
  t.strictSame(
    far.map(({ object, type, status, reason }) => [object, type, status, reason]),
    [
      [
        'ServiceEntry/xcp-multicluster/global-gwinternal-details-bookinfo-svc-cluster-local',
        'Agreed',
        false,
        'PortConflict',
      ],
    ],
  )
  t.match(far[0]?.message, /port 9080 is grpc in cluster-2, which counts, and http in cluster-3/)
  t.match(far[0]?.message, /port "admin" is 9090 in cluster-2 and 9091 in cluster-3/)

  const { services } = modelOf(service([['http', 9080]]))
  const near = portConflicts('cluster-1', services, offers)
  t.strictSame(
    near.map(({ object }) => object.split('/')[0]),
    ['ServiceEntry', 'Service'],
  )
  t.match(near[1]?.message, /port 9080 is http in cluster-1, which counts, and grpc in cluster-2/)
  t.strictSame(
    portConflicts('cluster-1', services, new Map([['cluster-3', offer([['web', 9080, 'HTTP']])]])),
    [],
  )
})
