// Where other networks reach a gateway. The sources and their order are those of the reference product; what is awaited or
// wrong is said in the words of the object and field that would mend it.
import { isIP } from 'node:net'
import type { Pod, Service, ServicePort } from '../objects/types.ts'
import { nameOf } from './conditions.ts'
import { isDnsName } from './host.ts'
import { byText } from './labels.ts'
import type { GatewayAddress, ModelGateway } from './types.ts'

/** The port that east-west traffic arrives on, as in Istio. */
const EAST_WEST_PORT = 15_443
/** Service annotation: one IP address, several, or one DNS name; never mixed. */
const ADDRESS_ANNOTATION = 'xcp.tetrate.io/cluster-external-addresses'
/**
 * Prefix of Service annotations, the name of a network behind it: the addresses for clients on that network, in the same form. For names
 * that a key of Kubernetes can have (63 of letters, digits, `-`, `_` and `.`).
 */
const NETWORK_ADDRESS_PREFIX = 'addresses.isthmus.io/'
/** Service label: the port that other networks dial, where it is not 15443 (istio/api label.NetworkingGatewayPort). */
export const PORT_LABEL = 'networking.istio.io/gatewayPort'

export interface AddressOutcome {
  readonly addresses: readonly GatewayAddress[]
  /** `Programmed`, or why not: `AwaitingAddress`, `NoService`, `InvalidAddress`, `InvalidPort`. */
  readonly code: string
  /** Source of the addresses or what is awaited, naming object and field. */
  readonly reason: string
  /** By network: what clients on it are told instead. */
  readonly forNetworks: NonNullable<ModelGateway['forNetworks']>
  /** Annotations for networks that cannot be read. */
  readonly mistakes: readonly string[]
}

const NO_OTHERS = { forNetworks: {}, mistakes: [] }

/** The Service's port for east-west traffic: 15443, else the one named `tls`; undefined where it has neither. */
export function eastWestPort(service: Service): ServicePort | undefined {
  const tcp = service.spec.ports.filter((port) => port.protocol === 'TCP')
  return tcp.find((port) => port.port === EAST_WEST_PORT) ?? tcp.find((port) => port.name === 'tls')
}

/** The best answer of the gateway's Services, in order of their names: the first that has an address, else the first. */
export function gatewayAddresses(
  owner: string,
  services: readonly Service[],
  pods: readonly Pod[],
): AddressOutcome {
  const outcomes = services
    .toSorted((a, b) => byText(a.metadata.name, b.metadata.name))
    .map((service) => addressesOf(service, pods))
  const [first] = outcomes
  if (first === undefined) {
    const reason = `no Service in its namespace selects the pods of ${owner} and has port ${EAST_WEST_PORT} (or one named "tls")`
    return { addresses: [], code: 'NoService', reason, ...NO_OTHERS }
  }
  return outcomes.find((outcome) => outcome.addresses.length > 0) ?? first
}

/** What a Service says for single networks. */
function forNetworks(service: Service, port: number): Pick<AddressOutcome, 'forNetworks' | 'mistakes'> {
  const found: [string, NonNullable<ModelGateway['forNetworks']>[string]][] = []
  const mistakes: string[] = []
  for (const [key, text] of Object.entries(service.metadata.annotations)) {
    if (!key.startsWith(NETWORK_ADDRESS_PREFIX)) continue
    const where = `${nameOf(service)} metadata.annotations["${key}"]`
    const parsed = parseAddresses(text)
    // Nor is what was meant for a network replaced by what was meant for all.
    const wrong = `${where}: found "${text}", expected ${ADDRESSES}`
    if (parsed === undefined) mistakes.push(wrong)
    const addresses = (parsed ?? []).map((address) => ({ address, port }))
    const addressReason = parsed === undefined ? wrong : where
    found.push([key.slice(NETWORK_ADDRESS_PREFIX.length), { addresses, addressReason }])
  }
  return { forNetworks: Object.fromEntries(found.sort(([a], [b]) => byText(a, b))), mistakes }
}

const ADDRESSES = 'IP addresses separated by commas, or one DNS name'

function addressesOf(service: Service, pods: readonly Pod[]): AddressOutcome {
  const name = nameOf(service)
  const port = advertisedPort(service)
  if (typeof port === 'string')
    return { addresses: [], code: 'InvalidPort', reason: `${name} ${port}`, ...NO_OTHERS }
  const others = forNetworks(service, port.number)
  const at = (addresses: readonly string[], number: number, field: string): AddressOutcome => ({
    addresses: addresses.map((address) => ({ address, port: number })),
    code: 'Programmed',
    reason: `${name} ${field}`,
    ...others,
  })
  const annotation = service.metadata.annotations[ADDRESS_ANNOTATION]
  if (annotation !== undefined) {
    const field = `metadata.annotations["${ADDRESS_ANNOTATION}"]`
    const parsed = parseAddresses(annotation)
    // An override that cannot be read is not passed over: what it was to replace may be an address others must not get.
    if (parsed === undefined) {
      const reason = `${name} ${field}: found "${annotation}", expected ${ADDRESSES}`
      return { addresses: [], code: 'InvalidAddress', reason, ...others }
    }
    return at(parsed, port.number, field)
  }
  const ingress = service.loadBalancer
  const ips = ingress.flatMap(({ ip = '' }) => (isIP(ip) === 0 ? [] : [ip]))
  if (ips.length > 0) return at(unique(ips), port.number, 'status.loadBalancer.ingress')
  const hostname = ingress.find((each) => (each.hostname ?? '') !== '')?.hostname
  if (hostname !== undefined) return at([hostname], port.number, 'status.loadBalancer.ingress')
  if (service.spec.externalIPs.length > 0)
    return at(unique(service.spec.externalIPs), port.number, 'spec.externalIPs')
  if (service.spec.type === 'NodePort' && port.nodePort !== undefined) {
    const hosts = unique(pods.filter((pod) => pod.ready && pod.hostIP !== '').map((pod) => pod.hostIP)).sort(
      byText,
    )
    const field = `spec.ports nodePort ${port.nodePort} on the nodes of its ready pods`
    if (hosts.length > 0) return at(hosts, port.nodePort, field)
  }
  const reason = `${name} ${awaited(service, port.nodePort)}`
  return { addresses: [], code: 'AwaitingAddress', reason, ...others }
}

function awaited(service: Service, nodePort: number | undefined): string {
  const override = `or set metadata.annotations["${ADDRESS_ANNOTATION}"]`
  switch (service.spec.type) {
    case 'LoadBalancer':
      return `has no status.loadBalancer.ingress yet: wait for the load balancer ${override}`
    case 'NodePort':
      return nodePort === undefined
        ? `has no spec.ports nodePort for ${EAST_WEST_PORT} yet: wait for it ${override}`
        : `has no ready pod with a status.hostIP yet: wait for one ${override}`
    default:
      return `spec.type: ${service.spec.type} is not reachable from outside the cluster: use LoadBalancer or NodePort ${override}`
  }
}

/**
 * The label names the Service's port that others dial; without one it is the east-west port. On a node it is that port's
 * nodePort. A label that no port of the Service has is taken at its word: something in front maps it.
 */
function advertisedPort(
  service: Service,
): { readonly number: number; readonly nodePort: number | undefined } | string {
  const label = service.metadata.labels[PORT_LABEL]
  const port = eastWestPort(service)
  if (label === undefined) return { number: port?.port ?? EAST_WEST_PORT, nodePort: port?.nodePort }
  const number = Number(label)
  if (!Number.isInteger(number) || number < 1 || number > 65_535) {
    return `metadata.labels["${PORT_LABEL}"]: found "${label}", expected a port number from 1 to 65535`
  }
  const labelled = service.spec.ports.find((each) => each.port === number && each.protocol === 'TCP')
  return { number, nodePort: labelled === undefined ? number : labelled.nodePort }
}

/** Undefined where the text is none of: IP addresses separated by commas, one DNS name. */
function parseAddresses(text: string): readonly string[] | undefined {
  const parts = unique(
    text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== ''),
  )
  if (parts.length > 0 && parts.every((part) => isIP(part) !== 0)) return parts
  const [only, ...more] = parts
  // A last label of digits is a mistyped IPv4 address (RFC 3696 2: no top-level domain is all-numeric).
  return only !== undefined && more.length === 0 && isDnsName(only.toLowerCase()) && !/\.?\d+$/.test(only)
    ? [only.toLowerCase()]
    : undefined
}

const unique = (items: readonly string[]): string[] => [...new Set(items)]
