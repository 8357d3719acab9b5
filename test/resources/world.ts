// The story's cluster-1 as objects, for tests of what is derived from it.
import { parseAllDocuments } from 'yaml'
import { createCa } from '../../src/identity/ca.ts'
import { computeModel } from '../../src/model/compute.ts'
import type { Model } from '../../src/model/types.ts'
import { parseManifest } from '../../src/objects/parse.ts'
import type { ObjectStore } from '../../src/objects/store.ts'
import type { Kind, KubeObject, ObjectOf } from '../../src/objects/types.ts'
import type { DomainBundle } from '../../src/resources/envoy.ts'

/** Reads a YAML stream; a mistake in a test's YAML throws. */
export function parseYaml(text: string): KubeObject[] {
  return parseAllDocuments(text).flatMap((document, i) => {
    const result = parseManifest(document.toJS(), `test.yaml#${i + 1}`)
    if (!result.ok) throw new Error(JSON.stringify(result.error))
    return result.value === undefined ? [] : [result.value]
  })
}

export function listOf(objects: readonly KubeObject[]): ObjectStore['list'] {
  return <K extends Kind>(kind: K) =>
    objects.filter((object) => object.kind === kind) as unknown as ObjectOf[K][]
}

export function modelOf(yaml: string, cluster = 'cluster-1'): Model {
  return computeModel({ cluster, trustDomain: `${cluster}.local`, list: listOf(parseYaml(yaml)) })
}

/** A bundle per trust domain `<cluster>.local`, made once for the test file. */
export async function bundlesOf(...clusters: string[]): Promise<DomainBundle[]> {
  return Promise.all(
    clusters.map(async (cluster) => {
      const trustDomain = `${cluster}.local`
      return { trustDomain, pem: (await createCa({ trustDomain })).bundlePem }
    }),
  )
}

export interface ServiceShape {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  /** address:port of each pod. */
  readonly pods?: readonly string[]
}

/** Service and EndpointSlice with port 9080 `http`, as kubectl would show them. */
export function service(
  { name, labels = {}, annotations = {}, pods = [] }: ServiceShape,
  namespace = 'bookinfo',
): string {
  const endpoints = pods.map((pod) => ({
    addresses: [pod.split(':')[0]],
    conditions: { ready: !pod.endsWith('!'), serving: true, terminating: pod.endsWith('!') },
  }))
  const port = Number(pods[0]?.replace('!', '').split(':')[1] ?? 9080)
  return yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace, labels: { app: name, ...labels }, annotations },
      spec: { selector: { app: name }, ports: [{ name: 'http', port: 9080, targetPort: port }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-1`, namespace, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port, protocol: 'TCP' }],
      endpoints,
    },
  )
}

/** JSON is YAML. */
export const yamlOf = (...documents: readonly unknown[]): string =>
  documents.map((document) => `---\n${JSON.stringify(document)}\n`).join('')

/** The gateway of S3 with the address its load balancer gave; `port` where that is not 15443. */
export const gateway = (address?: string, namespace = 'bookinfo', port?: number): string =>
  yamlOf(
    {
      apiVersion: 'install.tetrate.io/v1alpha1',
      kind: 'IngressGateway',
      metadata: { name: 'eastwest-gateway', namespace },
      spec: { eastWestOnly: true },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: {
        name: 'eastwest-gateway',
        namespace,
        ...(port === undefined ? {} : { labels: { 'networking.istio.io/gatewayPort': String(port) } }),
      },
      spec: {
        type: 'LoadBalancer',
        selector: { app: 'eastwest-gateway' },
        ports: [{ name: 'tls', port: 15443 }],
      },
      ...(address === undefined ? {} : { status: { loadBalancer: { ingress: [{ ip: address }] } } }),
    },
  )

const tsb = (kind: string, metadata: object, spec: object): unknown => ({
  apiVersion: 'api.tsb.tetrate.io/v2',
  kind,
  metadata: { organization: 'acme', ...metadata },
  spec,
})

export const workspace = yamlOf(
  tsb('Workspace', { tenant: 'eng', name: 'bookinfo-ws' }, { namespaceSelector: { names: ['*/bookinfo'] } }),
)

/** WorkspaceSetting of S4; with `exposedServices` that of S8. */
export const setting = (
  exposedServices?: readonly Record<string, string>[],
  namespace = 'bookinfo',
): string =>
  yamlOf(
    tsb(
      'WorkspaceSetting',
      { tenant: 'eng', workspace: 'bookinfo-ws', name: 'bookinfo-ws-setting' },
      {
        defaultEastWestGatewaySettings: [
          {
            workloadSelector: { namespace, labels: { app: 'eastwest-gateway' } },
            ...(exposedServices === undefined
              ? {}
              : { exposedServices: exposedServices.map((serviceLabels) => ({ serviceLabels })) }),
          },
        ],
      },
    ),
  )

/** Cluster objects with networks, and who may call whom (`cluster-2-network: cluster-1-network`). */
export const reachability = (
  clusters: readonly string[],
  networkReachability: Record<string, string>,
): string =>
  yamlOf(
    ...clusters.map((name) =>
      tsb(
        'Cluster',
        { name },
        {
          network: `${name}-network`,
          trustDomain: `${name}.local`,
          locality: { region: `region-of-${name}` },
        },
      ),
    ),
    tsb('OrganizationSetting', { name: 'default' }, { networkSettings: { networkReachability } }),
  )

/** A peer Secret. */
export const peer = (cluster: string, bundle: string, adsAddress = ''): string =>
  yamlOf({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: `peer-${cluster}`, namespace: 'isthmus-system', labels: { 'isthmus.io/peer': 'true' } },
    stringData: {
      cluster,
      trustDomain: `${cluster}.local`,
      bundle,
      ...(adsAddress === '' ? {} : { adsAddress }),
    },
  })
