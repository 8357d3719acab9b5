// In which order the endpoints of a host are tried. The reference product's rules (FailoverSettings; Istio's LocalityLbSetting below
// them): the setting of the workspace that the host is of, else the organization's, else the own cluster first and then by distance.
import { own } from '../lib/own.ts'
import type { FailoverSettings, OrganizationSetting } from '../objects/types.ts'
import { FAILOVER_LABEL_PREFIX } from '../objects/types.ts'
import { nameOf } from './conditions.ts'
import { byText, type Labels } from './labels.ts'
import type { ClusterInfo } from './types.ts'
import type { WorkspaceIndex } from './workspaces.ts'

/** The order of one host's endpoints, with the object and field it comes from. */
export interface FailoverRule extends Omit<FailoverSettings, 'field'> {
  readonly source: string
}

/** Where an endpoint or a caller is, and what `failoverPriority` may ask of it. */
export interface Place {
  readonly cluster: string
  readonly network: string
  readonly region: string
  /** '' = not known; it then matches every zone. */
  readonly zone: string
  readonly labels: Labels
}

const DEFAULT: FailoverRule = {
  topologyChoice: 'CLUSTER',
  failoverPriority: [],
  regionalFailover: [],
  automaticLoadBalancing: false,
  source: 'the default',
}

/** Labels that are facts of topology (k8s.io/api well-known labels, istio/api label): they need not be written on anything. */
const TOPOLOGY: Readonly<Record<string, (place: Place) => string>> = {
  'topology.kubernetes.io/region': ({ region }) => region,
  'topology.kubernetes.io/zone': ({ zone }) => zone,
  'topology.istio.io/cluster': ({ cluster }) => cluster,
  'topology.istio.io/network': ({ network }) => network,
}

/** Which rule counts for a host of `namespace` that `clusters` serve. A workspace's own settings count whole, and alone. */
export function failoverRules(
  workspaces: Pick<WorkspaceIndex, 'settingFor'>,
  organization: OrganizationSetting | undefined,
): (namespace: string, clusters: readonly string[]) => FailoverRule {
  const general =
    organization === undefined ? undefined : ruleOf(organization.spec.failover, nameOf(organization))
  return (namespace, clusters) => {
    const setting = namespace === '' ? undefined : workspaces.settingFor(namespace, clusters)
    const special = setting === undefined ? undefined : ruleOf(setting.spec.failover, nameOf(setting))
    return special ?? general ?? DEFAULT
  }
}

function ruleOf(settings: FailoverSettings | undefined, object: string): FailoverRule | undefined {
  if (settings === undefined) return undefined
  const { field, ...rule } = settings
  return { ...rule, source: `${object} ${field}` }
}

/** Where the callers of a cluster are; their labels are those of its Cluster object. */
export const placeOf = ({ id, network, locality }: ClusterInfo, labels: Labels = {}): Place => ({
  cluster: id,
  network,
  ...locality,
  labels,
})

/** 0 first; what a rule leaves between two of them is not kept free. */
export function priorityOf(rule: FailoverRule, caller: Place, endpoint: Place): number {
  if (rule.automaticLoadBalancing) return 0
  const { failoverPriority } = rule
  if (failoverPriority.length > 0)
    return failoverPriority.length - matching(failoverPriority, caller, endpoint)
  const isOwn = endpoint.cluster === caller.cluster
  if (rule.topologyChoice === 'CLUSTER') return isOwn ? 0 : 1 + distance(rule, caller, endpoint)
  return isOwn && caller.region === '' ? 0 : distance(rule, caller, endpoint)
}

/** How many labels match before the first that does not. */
function matching(labels: readonly string[], caller: Place, endpoint: Place): number {
  const first = labels.findIndex((label) => {
    const [key = '', wanted] = label.split('=')
    return (wanted ?? labelOf(caller, key)) !== labelOf(endpoint, key)
  })
  return first < 0 ? labels.length : first
}

const labelOf = (place: Place, key: string): string =>
  own(TOPOLOGY, key)?.(place) ?? own(place.labels, key) ?? ''

/** 0: the same region and zone; 1: the same region; 2: the region that this one fails over to; 3: any other. */
function distance({ regionalFailover }: FailoverRule, caller: Place, endpoint: Place): number {
  if (caller.region !== '' && caller.region === endpoint.region) {
    const sameZone = caller.zone === '' || endpoint.zone === '' || caller.zone === endpoint.zone
    return sameZone ? 0 : 1
  }
  const to =
    caller.region === '' ? undefined : regionalFailover.find(({ from }) => from === caller.region)?.to
  return to !== undefined && to === endpoint.region ? 2 : 3
}

/** Those labels of a Service that go along with its endpoints. A ServiceEntry has room for some only: the first by name. */
const COPIED_MAX = 6

/** What of several objects' labels `failoverPriority` may ask for; the first that has a label says what it is. */
export function failoverLabels(...sources: readonly (Labels | undefined)[]): Labels {
  const found = new Map<string, string>()
  for (const source of sources) {
    for (const [key, value] of Object.entries(source ?? {}))
      if (key.startsWith(FAILOVER_LABEL_PREFIX) && !found.has(key)) found.set(key, value)
  }
  return Object.fromEntries([...found].sort(([a], [b]) => byText(a, b)).slice(0, COPIED_MAX))
}

/** The rule in plain words: `the own cluster first, then the same region, …`. */
export function describeRule(rule: FailoverRule, region: string): string {
  const { automaticLoadBalancing, failoverPriority, topologyChoice, regionalFailover } = rule
  if (automaticLoadBalancing) return 'near and far share the calls by their ready endpoints'
  if (failoverPriority.length > 0) return `by the labels ${failoverPriority.join(', ')}`
  const to = regionalFailover.find(({ from }) => from === region)?.to
  const steps = [
    ...(topologyChoice === 'CLUSTER' ? ['the own cluster'] : []),
    'the same zone',
    'the same region',
    ...(to === undefined || region === '' ? [] : [`region ${to}`]),
    'any other',
  ]
  return `${steps[0]} first, then ${steps.slice(1).join(', then ')}`
}
