// The cluster that is grown and shrunk: a gateway, one peer that may call, and exposed services, as objects in a store.
import type { Manifest } from '../../src/objects/types.ts'

export const CLUSTER = 'cluster-1'
export const TRUST_DOMAIN = 'cluster-1.local'
/** Of the callers. */
export const PEER_TRUST_DOMAIN = 'cluster-2.local'
export const GATEWAY = { namespace: 'edge', name: 'eastwest-gateway' } as const
const SERVICES_PER_NAMESPACE = 50
export const ENDPOINTS_PER_SERVICE = 2
const PORT = 9080

const namespaceOf = (index: number): string => `ns-${Math.floor(index / SERVICES_PER_NAMESPACE)}`

/** The server name of a service, and so its upstream. */
export function serverNameOf(index: number): string {
  return `outbound_.${PORT}_._.service-${index}.${namespaceOf(index)}.svc.cluster.local`
}

/** Every second service is one of mesh workloads, which a gateway speaks mutual TLS to; the others are called in clear. */
export function isMesh(index: number): boolean {
  return index % 2 === 1
}

/** Of one endpoint: an address of its own on loopback, where the backend listens on all of them. */
export function addressOf(index: number, endpoint: number): string {
  return `127.${64 + (index >> 14)}.${(index >> 6) & 255}.${((index & 63) << 2) + endpoint + 1}`
}

/** What a service is made of. `moved`: its first endpoint has another address. */
export function serviceObjects(index: number, port: number, moved = false): Manifest[] {
  const [name, namespace] = [`service-${index}`, namespaceOf(index)]
  const pods = Array.from({ length: ENDPOINTS_PER_SERVICE }, (_, i) => ({
    name: `${name}-${i}`,
    address: addressOf(index, i === 0 && moved ? ENDPOINTS_PER_SERVICE : i),
  }))
  const service: Manifest = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace, labels: { app: name } },
    spec: { selector: { app: name }, ports: [{ name: 'tcp', port: PORT, targetPort: port }] },
  }
  const slice: Manifest = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-1`, namespace, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [{ name: 'tcp', port, protocol: 'TCP' }],
    endpoints: pods.map((pod) => ({
      addresses: [pod.address],
      conditions: { ready: true, serving: true, terminating: false },
      targetRef: { kind: 'Pod', name: pod.name, namespace },
    })),
  }
  const labels = { app: name, 'security.istio.io/tlsMode': 'istio' }
  const workloads = pods.map((pod) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: pod.name, namespace, labels },
    spec: { serviceAccountName: name, containers: [{ name: 'main', image: 'main' }] },
  }))
  return [service, slice, ...(isMesh(index) ? workloads : [])]
}

/** All that is there before the first service: who the gateway is, and who may call it. */
export function worldObjects(peerBundle: string): Manifest[] {
  const tsb = (kind: string, metadata: object, spec: object): Manifest => ({
    apiVersion: 'api.tsb.tetrate.io/v2',
    kind,
    metadata: { organization: 'acme', ...metadata } as Manifest['metadata'],
    spec,
  })
  const app = GATEWAY.name
  const settings = [{ workloadSelector: { namespace: GATEWAY.namespace, labels: { app } } }]
  return [
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
      spec: { type: 'LoadBalancer', selector: { app }, ports: [{ name: 'tls', port: 15443 }] },
      status: { loadBalancer: { ingress: [{ ip: '203.0.113.10' }] } },
    },
    tsb('Workspace', { tenant: 'eng', name: 'all' }, { namespaceSelector: { names: ['*/ns-*'] } }),
    tsb(
      'WorkspaceSetting',
      { tenant: 'eng', workspace: 'all', name: 'all' },
      { defaultEastWestGatewaySettings: settings },
    ),
    ...['cluster-1', 'cluster-2'].map((name) =>
      tsb('Cluster', { name }, { network: `${name}-network`, trustDomain: `${name}.local` }),
    ),
    tsb(
      'OrganizationSetting',
      { name: 'default' },
      { networkSettings: { networkReachability: { 'cluster-2-network': 'cluster-1-network' } } },
    ),
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        name: 'peer-cluster-2',
        namespace: 'isthmus-system',
        labels: { 'isthmus.io/peer': 'true' },
      },
      stringData: { cluster: 'cluster-2', trustDomain: PEER_TRUST_DOMAIN, bundle: peerBundle },
    },
  ]
}
