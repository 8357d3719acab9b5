// Istio's kinds: networking.istio.io. Rules as in istio/istio pkg/config/validation ServiceEntry and DestinationRule.
import type { Field } from './field.ts'
import { readPort } from './kubernetes.ts'
import { hostOrIp, hostPattern, ipAddress, notEmpty, readLabels } from './rules.ts'
import type { DestinationRule, ServiceEntry, ServiceEntryEndpoint } from './types.ts'

const WEIGHT_MAX = 2 ** 31 - 1
const RESOLUTIONS = ['STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'NONE'] as const

export function readServiceEntry(document: Field): ServiceEntry['spec'] {
  const spec = document.get('spec')
  spec.get('hosts').require('a list of host names')
  const resolution = spec.get('resolution').oneOf(RESOLUTIONS, 'NONE')
  const ports = spec.get('ports').list((port) => {
    const targetPort = port.get('targetPort')
    return {
      name: port.get('name').text(undefined, notEmpty),
      number: readPort(port.get('number')),
      protocol: port.get('protocol').text('TCP').toUpperCase(),
      targetPort: targetPort.present ? readPort(targetPort) : undefined,
    }
  })
  const portNames = new Set(ports.map(({ name }) => name))
  return {
    hosts: spec.get('hosts').list((host) => host.text(undefined, hostPattern)),
    location: spec.get('location').oneOf(['MESH_EXTERNAL', 'MESH_INTERNAL'], 'MESH_EXTERNAL'),
    resolution: resolution === 'DNS_ROUND_ROBIN' ? 'DNS' : resolution,
    ports,
    endpoints: spec.get('endpoints').list((endpoint) => readEndpoint(endpoint, resolution, portNames)),
    subjectAltNames: spec.get('subjectAltNames').list((name) => name.text(undefined, notEmpty)),
    exportTo: spec.get('exportTo').list((namespace) => namespace.text(undefined, notEmpty)),
  }
}

export function readDestinationRule(document: Field): DestinationRule['spec'] {
  const spec = document.get('spec')
  return {
    host: spec.get('host').text(undefined, hostPattern),
    subsets: spec.get('subsets').list((subset) => ({
      name: subset.get('name').text(undefined, notEmpty),
      labels: readLabels(subset.get('labels')),
    })),
    policy: spec.get('trafficPolicy').present,
    exportTo: spec.get('exportTo').list((namespace) => namespace.text(undefined, notEmpty)),
  }
}

function readEndpoint(
  endpoint: Field,
  resolution: (typeof RESOLUTIONS)[number],
  portNames: ReadonlySet<string>,
): ServiceEntryEndpoint {
  const ports: [string, number][] = []
  for (const [name, port] of endpoint.get('ports').entries()) {
    if (!portNames.has(name)) port.wrong('expected the name of a port in spec.ports')
    ports.push([name, readPort(port)])
  }
  return {
    address: endpoint.get('address').text(undefined, resolution === 'STATIC' ? ipAddress : hostOrIp),
    ports: Object.fromEntries(ports),
    labels: readLabels(endpoint.get('labels')),
    locality: endpoint.get('locality').text(''),
    // Istio reads 0 as unset.
    weight: endpoint.get('weight').integer(0, WEIGHT_MAX, 1) || 1,
  }
}
