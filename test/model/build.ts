// Objects for tests: the real parser on YAML text, and short forms of the kinds that every test needs.
import { parseAllDocuments, stringify } from 'yaml'
import { computeModel } from '../../src/model/compute.ts'
import type { Model, ModelCondition } from '../../src/model/types.ts'
import { parseManifest } from '../../src/objects/parse.ts'
import type { ObjectStore } from '../../src/objects/store.ts'
import type { Kind, KubeObject, Manifest } from '../../src/objects/types.ts'

/** Parses YAML documents; a mistake in the test's own input throws. */
export function objects(text: string): KubeObject[] {
  return parseAllDocuments(text).flatMap((document, i) => {
    const value: unknown = document.toJS()
    if (value === null) return []
    const parsed = parseManifest(value, `test.yaml#${i + 1}`)
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.error))
    return parsed.value === undefined ? [] : [parsed.value]
  })
}

export const manifests = (...documents: Manifest[]): string =>
  documents.map((document) => stringify(document)).join('---\n')

export function listOf(all: readonly KubeObject[]): ObjectStore['list'] {
  return <K extends Kind>(kind: K) => all.filter((object) => object.kind === kind) as never
}

export function modelOf(text: string, cluster = 'c1', trustDomain = `${cluster}.local`): Model {
  return computeModel({ cluster, trustDomain, list: listOf(objects(text)) })
}

/** Conditions of one object as `Type=False Reason: message`. */
export function said(model: Model, object: string): string[] {
  return model.conditions.filter((each) => each.object === object).map(line)
}

export const line = ({ type, status, reason, message }: ModelCondition): string =>
  `${type}=${status ? 'True' : 'False'} ${reason}: ${message}`

type Labels = Readonly<Record<string, string>>

export const service = (
  name: string,
  namespace: string,
  { labels = {}, port = 80 }: { labels?: Labels; port?: number } = {},
): Manifest => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace, labels },
  spec: { selector: { app: name }, ports: [{ port }] },
})

export const workspace = (name: string, ...names: string[]): Manifest => ({
  apiVersion: 'api.tsb.tetrate.io/v2',
  kind: 'Workspace',
  metadata: { organization: 'acme', tenant: 'eng', name },
  spec: { namespaceSelector: { names } },
})

export const setting = (
  name: string,
  workspace: string,
  ...items: { gateway: string; labels: Labels; exposed?: readonly Labels[] }[]
): Manifest => ({
  apiVersion: 'api.tsb.tetrate.io/v2',
  kind: 'WorkspaceSetting',
  metadata: { organization: 'acme', tenant: 'eng', workspace, name },
  spec: {
    defaultEastWestGatewaySettings: items.map(({ gateway, labels, exposed = [] }) => ({
      workloadSelector: { namespace: gateway, labels },
      exposedServices: exposed.map((serviceLabels) => ({ serviceLabels })),
    })),
  },
})

export const gateway = (name: string, namespace: string): Manifest => ({
  apiVersion: 'install.tetrate.io/v1alpha1',
  kind: 'IngressGateway',
  metadata: { name, namespace },
  spec: { eastWestOnly: true },
})

/** A gateway's Service of type LoadBalancer; `ingress` as in its status. */
export const gatewayService = (
  name: string,
  namespace: string,
  ingress: readonly { ip?: string; hostname?: string }[] = [{ ip: '192.0.2.1' }],
): Manifest => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace },
  spec: { type: 'LoadBalancer', selector: { app: name }, ports: [{ name: 'tls', port: 15443 }] },
  status: { loadBalancer: { ingress } },
})

export const pod = (name: string, namespace: string, labels: Labels, serviceAccountName = ''): Manifest => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels },
  spec: {
    ...(serviceAccountName === '' ? {} : { serviceAccountName }),
    containers: [{ name: 'main', image: 'main' }],
  },
  status: { podIP: '10.0.0.1', hostIP: '198.51.100.1', conditions: [{ type: 'Ready', status: 'True' }] },
})

export const clusterObject = (name: string, network: string, trustDomain = `${name}.local`): Manifest => ({
  apiVersion: 'api.tsb.tetrate.io/v2',
  kind: 'Cluster',
  metadata: { organization: 'acme', name },
  spec: { network, trustDomain },
})

export const peerSecret = (cluster: string, trustDomain = `${cluster}.local`): Manifest => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: `peer-${cluster}`, namespace: 'isthmus-system', labels: { 'isthmus.io/peer': 'true' } },
  stringData: { cluster, trustDomain, bundle: 'PEM', adsAddress: '192.0.2.9:15012' },
})

export const organization = (
  reachability: Readonly<Record<string, string>> | undefined,
  name = 'default',
): Manifest => ({
  apiVersion: 'api.tsb.tetrate.io/v2',
  kind: 'OrganizationSetting',
  metadata: { organization: 'acme', name },
  spec: { networkSettings: reachability === undefined ? {} : { networkReachability: reachability } },
})
