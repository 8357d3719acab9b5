import { isIP } from 'node:net'
import { Memo } from '../lib/memo.ts'
import { own } from '../lib/own.ts'
import {
  type DestinationRule,
  type EndpointSlice,
  MODE_ANNOTATION,
  type Pod,
  SERVICE_MODES,
  type Service,
  type ServicePort,
} from '../objects/types.ts'
import type { Conditions } from './conditions.ts'
import { endpointsOf } from './endpoints.ts'
import { portListMistake } from './exposed-ports.ts'
import { podServices } from './headless.ts'
import { isDnsLabel, serviceHost } from './host.ts'
import { byText, formatLabels } from './labels.ts'
import { PodIndex } from './pod-index.ts'
import { selectProtocol } from './protocol.ts'
import { proxyProtocolMistake } from './proxy-protocol.ts'
import { Stage } from './stage.ts'
import { collectSubsets, hostOfRule } from './subsets.ts'
import type { ModelPort, ModelService } from './types.ts'

interface ServiceInputs {
  readonly service: Service
  readonly slices: readonly EndpointSlice[]
  /** Those that the Service selects and those that its slices name. */
  readonly pods: readonly Pod[]
  /** Those of its host. */
  readonly rules: readonly DestinationRule[]
}

/** Runs for a slice or a Service where it, or what it is resolved with, is another than at the last model. */
export class ServiceStages {
  readonly slices = new Stage(({ slice }: { slice: EndpointSlice }, said) => isUsable(slice, said))
  readonly services = new Stage(resolveServices, { shares: true })
  readonly pods = new Memo()
}

/**
 * Services with their TCP ports and, port by port, the endpoints of the EndpointSlices labelled with their name. Sorted by
 * host. What cannot be resolved is a condition of the Service or the slice, and costs the others nothing.
 */
export function collectServices(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  pods: PodIndex,
  rules: readonly DestinationRule[],
  stages: ServiceStages,
  conditions: Conditions,
): readonly ModelService[] {
  const usable = slices.filter((slice) => stages.slices.get({ slice }, conditions, keyOf(slice)))
  const slicesOf = Map.groupBy(usable, (slice) => `${slice.metadata.namespace}/${slice.spec.serviceName}`)
  const rulesOf = Map.groupBy(rules, hostOfRule)
  const collected: ModelService[] = []
  for (const service of services) {
    const key = keyOf(service)
    const mine = slicesOf.get(key) ?? []
    slicesOf.delete(key)
    const inputs = {
      service,
      slices: mine,
      pods: stages.pods.get(key, { service, slices: mine, pods }, podsOf),
      rules: rulesOf.get(hostOf(service)) ?? [],
    }
    const resolved = stages.services.get(inputs, conditions, key)
    collected.push(...resolved)
  }
  for (const orphans of slicesOf.values()) {
    for (const slice of orphans) {
      const message = `metadata.labels["kubernetes.io/service-name"]: there is no Service "${slice.spec.serviceName}" in namespace "${slice.metadata.namespace}"`
      conditions.fails(slice, 'ResolvedRefs', 'NoService', message)
    }
  }
  stages.slices.sweep()
  stages.services.sweep()
  stages.pods.sweep()
  return collected.sort((a, b) => byText(a.host, b.host))
}

const hostOf = ({ metadata }: Service): string => serviceHost(metadata.name, metadata.namespace)

const keys = new WeakMap<Service | EndpointSlice, string>()

/** `namespace/name`, made once for each object: it is asked for at every model. */
function keyOf(object: Service | EndpointSlice): string {
  let key = keys.get(object)
  if (key === undefined) {
    key = `${object.metadata.namespace}/${object.metadata.name}`
    keys.set(object, key)
  }
  return key
}

function podsOf({
  service,
  slices,
  pods,
}: {
  service: Service
  slices: readonly EndpointSlice[]
  pods: PodIndex
}): readonly Pod[] {
  const { namespace } = service.metadata
  const found = new Set(pods.select(namespace, service.spec.selector))
  for (const slice of slices) {
    for (const { podName } of slice.spec.endpoints) {
      const pod = podName === '' ? undefined : pods.get(namespace, podName)
      if (pod !== undefined) found.add(pod)
    }
  }
  return [...found]
}

/** The Service, and each pod of it that has a name of its own; empty where it cannot be called. */
function resolveServices(inputs: ServiceInputs, conditions: Conditions): readonly ModelService[] {
  const service = resolveService(inputs, conditions)
  return service === undefined ? [] : [service, ...podServices(inputs.service, service, conditions)]
}

function resolveService(
  { service, slices, pods: relevant, rules }: ServiceInputs,
  conditions: Conditions,
): ModelService | undefined {
  if (!isCallable(service, conditions)) return undefined
  const { name, namespace, labels, annotations, creationTimestamp } = service.metadata
  const pods = new PodIndex(relevant)
  const ports = service.spec.ports
    .filter((port) => port.protocol === 'TCP')
    .map((port) => resolvePort(service, port, slices, pods))
  reportPorts(service, ports, slices, pods, conditions)
  reportMode(service, conditions)
  const list = portListMistake(annotations, ports)
  if (list !== undefined) conditions.fails(service, 'Accepted', 'InvalidExposedPorts', list)
  const mistake = proxyProtocolMistake(annotations)
  if (mistake !== undefined) conditions.fails(service, 'Accepted', 'InvalidProxyProtocol', mistake)
  const host = hostOf(service)
  const subsets = collectSubsets({ host, namespace, ports }, rules, conditions)
  return {
    name,
    namespace,
    host,
    labels,
    annotations,
    selector: service.spec.selector,
    ports,
    ...(ports.length < service.spec.ports.length && { notOnlyTcp: true as const }),
    ...(subsets.length > 0 && { subsets }),
    ...(rules.some(({ metadata, spec }) => metadata.namespace === namespace && spec.policy) && {
      policed: true as const,
    }),
    ...(creationTimestamp !== undefined && { creationTimestamp }),
  }
}

function isUsable(slice: EndpointSlice, conditions: Conditions): boolean {
  if (slice.spec.addressType === 'FQDN') {
    const message = 'addressType: "FQDN" is deprecated in Kubernetes and not used; expected IPv4 or IPv6'
    conditions.fails(slice, 'Accepted', 'UnsupportedAddressType', message)
    return false
  }
  const family = slice.spec.addressType === 'IPv4' ? 4 : 6
  for (const [i, endpoint] of slice.spec.endpoints.entries()) {
    const address = endpoint.addresses[0]
    if (address !== undefined && isIP(address) === family) continue
    const message = `endpoints[${i}].addresses[0]: found "${address ?? ''}", expected an ${slice.spec.addressType} address; this endpoint is not used`
    conditions.fails(slice, 'Accepted', 'InvalidAddress', message)
  }
  return slice.spec.serviceName !== ''
}

/** A Service that clients can be told of: it has a name fit for DNS and endpoints of its own. */
function isCallable(service: Service, conditions: Conditions): boolean {
  const { name, namespace } = service.metadata
  if (!isDnsLabel(name) || !isDnsLabel(namespace)) {
    conditions.fails(
      service,
      'Accepted',
      'InvalidName',
      `metadata.name: "${name}.${namespace}" is not a DNS name; expected lower-case labels`,
    )
    return false
  }
  if (service.spec.type === 'ExternalName') {
    conditions.fails(
      service,
      'Accepted',
      'InvalidServiceType',
      'spec.type: ExternalName has no endpoints in this cluster and is not offered to others',
    )
    return false
  }
  return true
}

function reportMode(service: Service, conditions: Conditions): void {
  const said = own(service.metadata.annotations, MODE_ANNOTATION)
  if (said === undefined || SERVICE_MODES.some((mode) => mode === said)) return
  const message = `metadata.annotations["${MODE_ANNOTATION}"]: expected one of ${SERVICE_MODES.join(', ')}, found "${said}"; it counts as not given`
  conditions.fails(service, 'Accepted', 'InvalidMode', message)
}

function resolvePort(
  service: Service,
  port: ServicePort,
  slices: readonly EndpointSlice[],
  pods: PodIndex,
): ModelPort {
  return {
    name: port.name,
    number: port.port,
    protocol: selectProtocol(port.name, port.appProtocol),
    endpoints: endpointsOf(port.name, slices, pods, service.spec.publishNotReadyAddresses),
  }
}

/** At most one message per field: no TCP port, a port name that nothing defines, no endpoint at all. */
function reportPorts(
  service: Service,
  ports: readonly ModelPort[],
  slices: readonly EndpointSlice[],
  pods: PodIndex,
  conditions: Conditions,
): void {
  if (ports.length === 0) {
    conditions.fails(
      service,
      'Accepted',
      'NoTcpPort',
      'spec.ports: has no TCP port; only TCP is carried between clusters',
    )
    return
  }
  const others = service.spec.ports.filter((port) => port.protocol !== 'TCP')
  if (others.length > 0) {
    const list = others.map((port) => `${port.port}/${port.protocol}`).join(', ')
    conditions.holds(
      service,
      'Accepted',
      'PortsIgnored',
      `spec.ports: ${list} not carried between clusters, only TCP; sidecars leave its name to ordinary DNS`,
    )
  }
  const selected = pods.select(service.metadata.namespace, service.spec.selector)
  for (const [i, port] of service.spec.ports.entries()) {
    if (port.protocol !== 'TCP' || isDefined(port, slices, selected)) continue
    const field = `spec.ports[${i}].targetPort`
    const message = `${field}: no container port named "${port.targetPort}" in the ${selected.length} pods that the Service selects, and no EndpointSlice resolves it`
    conditions.fails(service, 'ResolvedRefs', 'UnknownPortName', message)
  }
  if (ports.some((port) => port.endpoints.length > 0)) return
  const selector = service.spec.selector
  const message =
    Object.keys(selector).length === 0
      ? 'no EndpointSlice labelled kubernetes.io/service-name with its name has endpoints'
      : `spec.selector: ${formatLabels(selector)} has no endpoints (${selected.length} pods match)`
  conditions.fails(service, 'ResolvedRefs', 'NoEndpoints', message)
}

/**
 * Whether a port's target exists as far as can be told. A number needs nobody to define it; a name is resolved by whoever
 * wrote the slices, so a slice with the port's name is proof enough, and without any pod or endpoint there is nothing to ask.
 */
function isDefined(port: ServicePort, slices: readonly EndpointSlice[], selected: readonly Pod[]): boolean {
  const { targetPort } = port
  if (typeof targetPort === 'number') return true
  if (
    slices.some((slice) =>
      slice.spec.ports.some((each) => each.name === port.name && each.protocol === 'TCP'),
    )
  )
    return true
  const witnesses = selected.length + slices.reduce((sum, slice) => sum + slice.spec.endpoints.length, 0)
  const containers = selected.flatMap((pod) => pod.spec.containers)
  return (
    witnesses === 0 ||
    containers.some((container) => container.ports.some((each) => each.name === targetPort))
  )
}
