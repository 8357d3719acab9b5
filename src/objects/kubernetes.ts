// Kubernetes' own kinds: core/v1, apps/v1 and discovery.k8s.io/v1.
import { inspect } from 'node:util'
import type { Field } from './field.ts'
import {
  dnsSubdomain,
  hostOrIp,
  ipAddress,
  ipv4Address,
  ipv6Address,
  notEmpty,
  portName,
  readAnnotations,
  readLabels,
} from './rules.ts'
import type {
  Container,
  DeploymentSpec,
  EndpointSliceSpec,
  Pod,
  PodSpec,
  Secret,
  Service,
  ServicePort,
  ServiceSpec,
  SliceEndpoint,
} from './types.ts'

const PORT_MAX = 65_535
const REPLICAS_MAX = 100_000

export function readPort(field: Field): number {
  return field.integer(1, PORT_MAX)
}

export function readService(document: Field): ServiceSpec {
  const spec = document.get('spec')
  const type = spec.get('type').oneOf(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'], 'ClusterIP')
  const clusterIP = spec.get('clusterIP').text('')
  const ports = spec.get('ports')
  if (type !== 'ExternalName' && clusterIP !== 'None') ports.require('a list of ports')
  return {
    selector: readLabels(spec.get('selector')),
    ports: readServicePorts(ports),
    type,
    clusterIP,
    publishNotReadyAddresses: spec.get('publishNotReadyAddresses').flag(false),
    externalIPs: spec.get('externalIPs').list((ip) => ip.text(undefined, ipAddress)),
  }
}

function readServicePorts(field: Field): ServicePort[] {
  const names = new Set<string>()
  const numbers = new Set<string>()
  let count = 0
  const ports = field.list((port) => {
    const nodePort = port.get('nodePort')
    const number = readPort(port.get('port'))
    const protocol = port.get('protocol').oneOf(['TCP', 'UDP', 'SCTP'], 'TCP')
    const name = port.get('name').text('', (text) => (text === '' ? undefined : dnsSubdomain(text)))
    count++
    if (name !== '' && names.has(name))
      port.get('name').wrong(`expected a name of its own, "${name}" is taken`)
    if (numbers.has(`${protocol} ${number}`))
      port.get('port').wrong(`expected a port of its own, ${number} is taken`)
    names.add(name)
    numbers.add(`${protocol} ${number}`)
    return {
      name,
      port: number,
      targetPort: readTargetPort(port.get('targetPort'), number),
      nodePort: nodePort.present ? nodePort.integer(0, PORT_MAX) || undefined : undefined,
      protocol,
      appProtocol: port.get('appProtocol').optionalText(),
    }
  })
  if (count > 1 && names.has('')) field.wrong('expected a name for each port where there are several')
  return ports
}

/** A number, or the name of a container's port. */
function readTargetPort(field: Field, fallback: number): number | string {
  if (!field.present) return fallback
  if (typeof field.value === 'string') return field.text(undefined, portName)
  // 0 is what an unset targetPort looks like after a trip through some clients.
  return field.value === 0 ? fallback : readPort(field)
}

export function readServiceStatus(document: Field): Pick<Service, 'loadBalancer'> {
  const ingress = document.get('status').get('loadBalancer').get('ingress')
  return {
    loadBalancer: ingress.list((entry) => {
      const ip = entry.get('ip').optionalText(ipAddress)
      const hostname = entry.get('hostname').optionalText(hostOrIp)
      return { ...(ip === undefined ? {} : { ip }), ...(hostname === undefined ? {} : { hostname }) }
    }),
  }
}

export function readEndpointSlice(document: Field): EndpointSliceSpec {
  const addressType = document.get('addressType').oneOf(['IPv4', 'IPv6', 'FQDN'])
  const rule = { IPv4: ipv4Address, IPv6: ipv6Address, FQDN: hostOrIp }[addressType]
  const ports = document.get('ports').list((port) => ({
    name: port.get('name').text(''),
    // A slice may leave a port open to be anything; such a port cannot be dialled.
    port: port.get('port').integer(0, PORT_MAX, 0),
    protocol: port.get('protocol').oneOf(['TCP', 'UDP', 'SCTP'], 'TCP'),
  }))
  return {
    addressType,
    serviceName: document.get('metadata').get('labels').get('kubernetes.io/service-name').text(''),
    ports: ports.filter(({ port }) => port !== 0),
    endpoints: document.get('endpoints').list((endpoint) => readSliceEndpoint(endpoint, rule)),
  }
}

function readSliceEndpoint(endpoint: Field, rule: (text: string) => string | undefined): SliceEndpoint {
  const conditions = endpoint.get('conditions')
  const ready = conditions.get('ready').flag(true)
  const target = endpoint.get('targetRef')
  endpoint.get('addresses').require('a list of addresses')
  const hostname = endpoint.get('hostname').optionalText()
  return {
    addresses: endpoint.get('addresses').list((address) => address.text(undefined, rule)),
    ready,
    serving: conditions.get('serving').flag(ready),
    terminating: conditions.get('terminating').flag(false),
    zone: endpoint.get('zone').text(''),
    nodeName: endpoint.get('nodeName').text(''),
    ...(hostname !== undefined && hostname !== '' && { hostname }),
    podName: target.get('kind').text('') === 'Pod' ? target.get('name').text('') : '',
  }
}

export function readPod(document: Field): PodSpec {
  return readPodSpec(document.get('spec'))
}

export function readPodStatus(document: Field): Pick<Pod, 'podIPs' | 'hostIP' | 'ready'> {
  const status = document.get('status')
  const podIP = status.get('podIP').text('', ipOrEmpty)
  const podIPs = status.get('podIPs').list((entry) => entry.get('ip').text(undefined, ipAddress))
  const conditions = status
    .get('conditions')
    .list((condition) => condition.get('type').value === 'Ready' && condition.get('status').value === 'True')
  return {
    podIPs: podIPs.length > 0 || podIP === '' ? podIPs : [podIP],
    hostIP: status.get('hostIP').text('', ipOrEmpty),
    ready: conditions.includes(true),
  }
}

const ipOrEmpty = (text: string): string | undefined => (text === '' ? undefined : ipAddress(text))

export function readDeployment(document: Field): DeploymentSpec {
  const spec = document.get('spec')
  const template = spec.get('template')
  template.require('a pod template')
  const metadata = template.get('metadata')
  return {
    replicas: spec.get('replicas').integer(0, REPLICAS_MAX, 1),
    selector: { labels: readLabels(spec.get('selector').get('matchLabels')) },
    template: {
      labels: readLabels(metadata.get('labels')),
      annotations: readAnnotations(metadata.get('annotations')),
      spec: readPodSpec(template.get('spec')),
    },
  }
}

function readPodSpec(spec: Field): PodSpec {
  const account = spec.get('serviceAccountName').text('') || spec.get('serviceAccount').text('')
  spec.get('containers').require('a list of containers')
  return {
    serviceAccountName: account === '' ? 'default' : account,
    containers: spec.get('containers').list(readContainer),
    nodeName: spec.get('nodeName').text(''),
  }
}

function readContainer(container: Field): Container {
  return {
    name: container.get('name').text(undefined, notEmpty),
    image: container.get('image').text(''),
    command: container.get('command').list((word) => word.text()),
    args: container.get('args').list((word) => word.text()),
    env: container.get('env').list((variable) => ({
      name: variable.get('name').text(undefined, notEmpty),
      // `valueFrom` is the kubelet's business.
      value: variable.get('value').text(''),
    })),
    ports: container.get('ports').list((port) => ({
      name: port.get('name').text('', (text) => (text === '' ? undefined : portName(text))),
      containerPort: readPort(port.get('containerPort')),
    })),
  }
}

export function readSecret(document: Field): Secret['spec'] {
  const values: [string, string][] = []
  for (const [key, value] of document.get('data').entries()) values.push([key, decodeBase64(value)])
  // As the API server does: stringData wins.
  for (const [key, value] of document.get('stringData').entries()) values.push([key, value.text()])
  return { type: document.get('type').text('Opaque'), data: withoutPrinting(Object.fromEntries(values)) }
}

function decodeBase64(field: Field): string {
  const text = field.text('').replaceAll(/\s/g, '')
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) {
    field.wrong('expected base64 text (use stringData for plain text)')
    return ''
  }
  return Buffer.from(text, 'base64').toString('utf8')
}

/** The same values, shown as key names only by JSON and by the inspector that logs and assertions use. */
function withoutPrinting<T extends Record<string, unknown>>(values: T): T {
  const shown = (): Record<string, string> =>
    Object.fromEntries(Object.keys(values).map((key) => [key, '[redacted]']))
  return Object.defineProperties(values, {
    toJSON: { value: shown },
    [inspect.custom]: { value: shown },
  })
}
