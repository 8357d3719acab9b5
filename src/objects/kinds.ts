import type { Kind } from './types.ts'

/** What an object's ref is made of besides its kind and name. */
export type Scope = 'namespaced' | 'cluster' | HierarchyScope
/** Levels of Tetrate's hierarchy above the object: `tenant` = organization and tenant. */
export type HierarchyScope = 'organization' | 'tenant' | 'workspace'

export interface KindInfo {
  readonly kind: Kind
  /** API groups that define it; '' is Kubernetes' core group. */
  readonly groups: readonly string[]
  readonly versions: readonly string[]
  readonly scope: Scope
  readonly plural: string
  readonly short: readonly string[]
}

const TETRATE = ['api.tsb.tetrate.io', 'tsb.tetrate.io']
const ISTIO_VERSIONS = ['v1', 'v1beta1', 'v1alpha3']

const info = (
  kind: Kind,
  groups: readonly string[],
  versions: readonly string[],
  scope: Scope,
  plural: string,
  ...short: string[]
): KindInfo => ({ kind, groups, versions, scope, plural, short })

/** Every kind that Isthmus reads. */
export const KINDS: readonly KindInfo[] = [
  info('Namespace', [''], ['v1'], 'cluster', 'namespaces', 'ns'),
  info('Service', [''], ['v1'], 'namespaced', 'services', 'svc'),
  info('EndpointSlice', ['discovery.k8s.io'], ['v1'], 'namespaced', 'endpointslices', 'eps'),
  info('Pod', [''], ['v1'], 'namespaced', 'pods', 'po'),
  info('Deployment', ['apps'], ['v1'], 'namespaced', 'deployments', 'deploy'),
  info('Secret', [''], ['v1'], 'namespaced', 'secrets'),
  info('Workspace', TETRATE, ['v2'], 'tenant', 'workspaces', 'ws'),
  info('WorkspaceSetting', TETRATE, ['v2'], 'workspace', 'workspacesettings', 'wss'),
  info('OrganizationSetting', TETRATE, ['v2'], 'organization', 'organizationsettings', 'os'),
  info('Cluster', TETRATE, ['v2'], 'organization', 'clusters'),
  info('IngressGateway', ['install.tetrate.io'], ['v1alpha1'], 'namespaced', 'ingressgateways', 'igw'),
  info('Gateway', ['install.tetrate.io'], ['v1alpha1'], 'namespaced', 'gateways', 'gw'),
  info('ServiceEntry', ['networking.istio.io'], ISTIO_VERSIONS, 'namespaced', 'serviceentries', 'se'),
  info('DestinationRule', ['networking.istio.io'], ISTIO_VERSIONS, 'namespaced', 'destinationrules', 'dr'),
  info(
    'AuthorizationPolicy',
    ['security.istio.io'],
    ['v1', 'v1beta1'],
    'namespaced',
    'authorizationpolicies',
    'ap',
  ),
]

const byKind: ReadonlyMap<string, KindInfo> = new Map(KINDS.map((entry) => [entry.kind, entry]))

/** The kind of a document, undefined for one that is not ours: Istio's `Gateway` is not Tetrate's. */
export function findKind(apiVersion: string, kind: string): KindInfo | undefined {
  const slash = apiVersion.indexOf('/')
  const group = slash < 0 ? '' : apiVersion.slice(0, slash)
  const found = byKind.get(kind)
  return found?.groups.includes(group) === true ? found : undefined
}

/** The kind that a word on the command line means: kind, plural or short name, in any case. */
export function kindByWord(word: string): KindInfo | undefined {
  const lower = word.toLowerCase()
  return KINDS.find(({ kind, plural, short }) => [kind.toLowerCase(), plural, ...short].includes(lower))
}
