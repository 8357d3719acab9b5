// An endpoint of one service moves: object, model and gateway's view anew, as discovery does it, of few services and of ten times as many.
import { Views } from '../../src/discovery/views.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { computeModel } from '../../src/model/compute.ts'
import { ModelStages } from '../../src/model/model-stages.ts'
import type { Manifest } from '../../src/objects/types.ts'
import { MemoryStore, namespaceOf, service, slice } from '../discovery/objects.ts'
import type { Micro } from './micro.ts'

const GATEWAY = { name: 'eastwest', namespace: 'gateways' }
const LABELS = { app: GATEWAY.name }

/** What exposes every service of these namespaces through one gateway. */
function exposure(namespaces: readonly string[]): Manifest[] {
  const owner = { organization: 'bench', tenant: 'bench' }
  const api = 'api.tsb.tetrate.io/v2'
  return [
    {
      apiVersion: api,
      kind: 'Workspace',
      metadata: { ...owner, name: 'all' },
      spec: { namespaceSelector: { names: ['*/gateways', ...namespaces.map((name) => `*/${name}`)] } },
    },
    {
      apiVersion: api,
      kind: 'WorkspaceSetting',
      metadata: { ...owner, workspace: 'all', name: 'all' },
      spec: {
        defaultEastWestGatewaySettings: [
          { workloadSelector: { namespace: GATEWAY.namespace, labels: LABELS }, exposedServices: [] },
        ],
      },
    },
    {
      apiVersion: 'install.tetrate.io/v1alpha1',
      kind: 'IngressGateway',
      metadata: GATEWAY,
      spec: { eastWestOnly: true },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: GATEWAY,
      spec: { type: 'LoadBalancer', selector: LABELS, ports: [{ name: 'tls', port: 15_443 }] },
      status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } },
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...GATEWAY, labels: LABELS },
      spec: { containers: [{ name: 'main', image: 'main' }] },
      status: { podIP: '10.0.0.1', hostIP: '198.51.100.1', conditions: [{ type: 'Ready', status: 'True' }] },
    },
  ]
}

function update(services: number): Pick<Micro, 'once' | 'counted'> {
  const store = new MemoryStore()
  const indexes = Array.from({ length: services }, (_, i) => i)
  store.put([
    ...exposure([...new Set(indexes.map(namespaceOf))]),
    ...indexes.flatMap((i) => [service(i), slice(i, 0)]),
  ])
  const stages = new ModelStages()
  const inputs = () => ({
    model: computeModel({ cluster: 'c1', trustDomain: 'c1.local', list: store.list }, stages),
    ...{ bundles: [{ trustDomain: 'c1.local', pem: 'PEM' }], clusterBundles: new Map(), complete: true },
  })
  const views = new Views(inputs(), silentLogger)
  const source = views.source({
    ...{ kind: 'gateway', gateway: `${GATEWAY.namespace}/${GATEWAY.name}`, secrets: true },
    ...{ bind: { address: '0.0.0.0', port: 15_443 }, issuers: true, credentialFile: '' },
  })
  let told = 0
  source.watch((changes) => {
    for (const names of changes.values()) told += names.size
  })
  const first = views.counters
  if (first.encoded < 2 * services)
    throw new Error(`only ${first.encoded} resources for ${services} services: they are not exposed`)
  let revision = 0
  return {
    once: () => {
      revision++
      store.put([slice(revision % services, revision)])
      views.refresh(inputs())
    },
    counted: () => {
      const { encoded, derived } = views.counters
      return { updates: revision, encoded: encoded - first.encoded, derived: derived - first.derived, told }
    },
  }
}

export function viewUpdateMicros(few: number): Micro[] {
  const beside = `view update, 1 of ${few} services`
  return [
    { name: beside, ...update(few) },
    { name: `view update, 1 of ${10 * few} services`, beside, ...update(10 * few) },
  ]
}
