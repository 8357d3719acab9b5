import { workloadId } from '../identity/spiffe-id.ts'
import { share } from '../lib/memo.ts'
import type { Deployment, Gateway, IngressGateway, Pod, Service } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { describeAddresses, hasAddress } from './consumer-address.ts'
import { failoverLabels } from './failover.ts'
import { type AddressOutcome, eastWestPort, gatewayAddresses } from './gateway-address.ts'
import { byText, formatLabels, type Labels, matchesLabels } from './labels.ts'
import type { PodIndex } from './pod-index.ts'
import type { ModelGateway } from './types.ts'

/** `workloadSelector` of a WorkspaceSetting: labels of the gateway's pods in one namespace. */
export interface WorkloadSelector {
  readonly namespace: string
  readonly labels: Labels
}

/** Drain of gateways that no object describes, milliseconds. */
const DEFAULT_DRAIN_MS = 45_000

type GatewayObject = IngressGateway | Gateway

/** What runs a gateway's pods: an object of the cluster, or (`object` undefined) only the pods that a selector found. */
interface Owner {
  readonly name: string
  readonly namespace: string
  readonly object: GatewayObject | undefined
  readonly pods: readonly Pod[]
  /** Labels that its pods have or will have, one set for each kind of pod. */
  readonly labelSets: readonly Labels[]
  readonly serviceAccounts: readonly string[]
}

export interface GatewaySet {
  readonly gateways: readonly ModelGateway[]
  /** Gateways whose pods a selector matches, by name; the first one serves. */
  readonly select: (selector: WorkloadSelector) => readonly ModelGateway[]
  /** The gateway whose own Service this is; undefined for any other Service. */
  readonly ownService: (namespace: string, name: string) => ModelGateway | undefined
  /** The outcome of looking for a gateway's addresses. */
  readonly addressOutcome: (gateway: ModelGateway) => AddressOutcome
}

export interface GatewayInputs {
  readonly trustDomain: string
  readonly objects: readonly GatewayObject[]
  readonly deployments: readonly Deployment[]
  readonly services: readonly Service[]
  readonly pods: PodIndex
  /** Every workloadSelector in force: pods that they match are gateways although no object describes them. */
  readonly selectors: readonly WorkloadSelector[]
}

/** East-west gateways of the cluster, with identities and addresses. One that is equal to what it was in `previous` is the same object. */
export function collectGateways(
  inputs: GatewayInputs,
  conditions: Conditions,
  previous: readonly ModelGateway[] = [],
): GatewaySet {
  const { trustDomain, pods } = inputs
  const declared = declaredOwners(inputs, conditions)
  const owners = [...declared.serving, ...foundOwners(inputs.selectors, pods, declared.claimedPods)]
  const servicesIn = Map.groupBy(inputs.services, (service) => service.metadata.namespace)
  const outcomes = new Map<ModelGateway, AddressOutcome>()
  const ownerOf = new Map<ModelGateway, Owner>()
  const ownServices = new Map<string, ModelGateway>()
  for (const owner of owners.sort((a, b) => byText(a.namespace, b.namespace) || byText(a.name, b.name))) {
    const services = (servicesIn.get(owner.namespace) ?? []).filter((service) => isServiceOf(owner, service))
    const outcome = gatewayAddresses(`${owner.namespace}/${owner.name}`, services, owner.pods)
    const copied = failoverLabels(...services.map((service) => service.metadata.labels))
    const before = previous.find(
      ({ namespace, name }) => namespace === owner.namespace && name === owner.name,
    )
    const gateway = share<ModelGateway>(before, {
      name: owner.name,
      namespace: owner.namespace,
      labelSets: owner.pods.length > 0 ? owner.pods.map((pod) => pod.metadata.labels) : owner.labelSets,
      spiffeIds: owner.serviceAccounts.map((account) => workloadId(trustDomain, owner.namespace, account)),
      addresses: outcome.addresses,
      addressReason: outcome.reason,
      ...(Object.keys(outcome.forNetworks).length > 0 && { forNetworks: outcome.forNetworks }),
      drainMs: owner.object?.spec.drainMs ?? DEFAULT_DRAIN_MS,
      ...(Object.keys(copied).length > 0 && { failoverLabels: copied }),
      proxyProtocolSources: owner.object?.spec.proxyProtocolSources ?? [],
    })
    outcomes.set(gateway, outcome)
    ownerOf.set(gateway, owner)
    for (const service of services) ownServices.set(`${owner.namespace}/${service.metadata.name}`, gateway)
    reportGateway(owner, outcome, conditions)
  }
  return {
    gateways: [...ownerOf.keys()],
    select: (selector) =>
      [...ownerOf].filter(([, owner]) => isSelected(owner, selector)).map(([gateway]) => gateway),
    ownService: (namespace, name) => ownServices.get(`${namespace}/${name}`),
    addressOutcome: (gateway) => outcomes.get(gateway) as AddressOutcome,
  }
}

/** Objects that serve 15443, and the pods of all gateway objects (one of type EGRESS keeps its pods to itself, too). */
function declaredOwners(
  inputs: GatewayInputs,
  conditions: Conditions,
): { serving: Owner[]; claimedPods: Set<Pod> } {
  const templates = new Map(
    inputs.deployments.map((each) => [
      `${each.metadata.namespace}/${each.metadata.name}`,
      each.spec.template,
    ]),
  )
  const owners = new Map<string, Owner>()
  const claimedPods = new Set<Pod>()
  // IngressGateway sorts after Gateway: the newer kind wins where both have one name.
  for (const object of inputs.objects.toSorted((a, b) => byText(nameOf(a), nameOf(b)))) {
    const { name, namespace } = object.metadata
    const pods = inputs.pods.select(namespace, { app: name })
    for (const pod of pods) claimedPods.add(pod)
    const other = owners.get(`${namespace}/${name}`)?.object
    if (!object.spec.eastWest) {
      conditions.holds(object, 'Accepted', 'NotEastWest', 'spec.type: this gateway does not serve port 15443')
    } else if (other !== undefined) {
      conditions.fails(
        object,
        'Accepted',
        'Conflicted',
        `metadata.name: ${nameOf(other)} has the same name and runs the same pods`,
      )
    } else {
      const template = templates.get(`${namespace}/${name}`)
      const labelSets = [{ ...template?.labels, app: name }, ...pods.map((pod) => pod.metadata.labels)]
      const account = template?.spec.serviceAccountName || name
      const serviceAccounts = pods.length > 0 ? accountsOf(pods) : [account]
      owners.set(`${namespace}/${name}`, { name, namespace, object, pods, labelSets, serviceAccounts })
    }
  }
  return { serving: [...owners.values()], claimedPods }
}

/** Gateways that somebody else runs (Istio's own, a hand-written Deployment): known only by the pods a selector matches. */
function foundOwners(
  selectors: readonly WorkloadSelector[],
  pods: PodIndex,
  claimed: ReadonlySet<Pod>,
): Owner[] {
  const found = new Set(selectors.flatMap(({ namespace, labels }) => pods.select(namespace, labels)))
  const free = [...found].filter((pod) => !claimed.has(pod))
  const groups = Map.groupBy(
    free,
    (pod) => `${pod.metadata.namespace}/${pod.metadata.labels['app'] ?? accountOf(pod)}`,
  )
  return [...groups].map(([key, members]) => {
    const slash = key.indexOf('/')
    return {
      name: key.slice(slash + 1),
      namespace: key.slice(0, slash),
      object: undefined,
      pods: members,
      labelSets: members.map((pod) => pod.metadata.labels),
      serviceAccounts: accountsOf(members),
    }
  })
}

const accountOf = (pod: Pod): string => pod.spec.serviceAccountName || 'default'
const accountsOf = (pods: readonly Pod[]): string[] => [...new Set(pods.map(accountOf))].sort(byText)

const isSelected = (owner: Owner, { namespace, labels }: WorkloadSelector): boolean =>
  owner.namespace === namespace && owner.labelSets.some((set) => matchesLabels(labels, set))

/** A Service of the gateway selects its pods (those to come, where there are none) and has the east-west port. */
function isServiceOf(owner: Owner, service: Service): boolean {
  const { selector } = service.spec
  return eastWestPort(service) !== undefined && owner.labelSets.some((set) => matchesLabels(selector, set))
}

function reportGateway(owner: Owner, outcome: AddressOutcome, conditions: Conditions): void {
  const { object, pods, name } = owner
  if (object === undefined) return
  conditions.holds(object, 'Accepted', 'Accepted', 'serves port 15443')
  if (outcome.code === 'NoService') conditions.fails(object, 'ResolvedRefs', 'NoService', outcome.reason)
  if (pods.length === 0) {
    conditions.fails(
      object,
      'ResolvedRefs',
      'NoMatchingPods',
      `no pod in its namespace carries ${formatLabels({ app: name })} yet`,
    )
  } else {
    conditions.holds(object, 'ResolvedRefs', 'ResolvedRefs', `pods: ${pods.length}`)
  }
  for (const mistake of outcome.mistakes) conditions.fails(object, 'Programmed', 'InvalidAddress', mistake)
  if (!hasAddress(outcome)) {
    const code = outcome.code === 'NoService' ? 'AwaitingAddress' : outcome.code
    conditions.fails(object, 'Programmed', code, outcome.reason)
  } else {
    const from = outcome.addresses.length === 0 ? '' : `, from ${outcome.reason}`
    conditions.holds(object, 'Programmed', 'Programmed', `${describeAddresses(outcome)}${from}`)
  }
}
