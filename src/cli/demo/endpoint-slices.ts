import { contentHash } from '../../lib/canonical.ts'
import type { Container, Manifest, Service, ServicePort } from '../../objects/types.ts'

/** What the EndpointSlice controller needs to know of a pod. */
export interface PodFacts {
  readonly name: string
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
  readonly ip: string
  readonly nodeName: string
  readonly zone: string
  readonly ready: boolean
  readonly terminating: boolean
  readonly containers: readonly Container[]
}

export const MANAGED_BY = 'endpointslice-controller.k8s.io'

/**
 * The EndpointSlices of one Service as Kubernetes' controller would write them: pods whose ports resolve to the same
 * numbers share a slice, so a named targetPort that is another number on each pod makes a slice for each.
 */
export function endpointSlices(service: Service, pods: readonly PodFacts[]): Manifest[] {
  const { selector, ports } = service.spec
  if (Object.keys(selector).length === 0) return []
  const groups = new Map<string, { ports: readonly Manifest[]; pods: PodFacts[] }>()
  for (const pod of pods) {
    if (pod.namespace !== service.metadata.namespace || pod.ip === '' || !matches(selector, pod.labels))
      continue
    const resolved = ports.flatMap((port) => resolvePort(port, pod))
    const key = JSON.stringify(resolved)
    const group = groups.get(key) ?? { ports: resolved, pods: [] }
    group.pods.push(pod)
    groups.set(key, group)
  }
  return [...groups].map(([key, group]) =>
    slice(service, contentHash(key).slice(0, 5), group.ports, group.pods),
  )
}

export function matches(
  selector: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value)
}

/** Nothing where the pod has no container port of that name: as Kubernetes does, the pod then lacks this port only. */
function resolvePort(port: ServicePort, pod: PodFacts): Manifest[] {
  const number =
    typeof port.targetPort === 'number'
      ? port.targetPort
      : pod.containers.flatMap(({ ports }) => ports).find(({ name }) => name === port.targetPort)
          ?.containerPort
  return number === undefined ? [] : [{ name: port.name, port: number, protocol: port.protocol }]
}

function slice(
  service: Service,
  suffix: string,
  ports: readonly Manifest[],
  pods: readonly PodFacts[],
): Manifest {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${service.metadata.name}-${suffix}`,
      namespace: service.metadata.namespace,
      labels: {
        'kubernetes.io/service-name': service.metadata.name,
        'endpointslice.kubernetes.io/managed-by': MANAGED_BY,
      },
    },
    addressType: 'IPv4',
    ports,
    endpoints: pods.map((pod) => ({
      addresses: [pod.ip],
      conditions: {
        ready: (pod.ready && !pod.terminating) || service.spec.publishNotReadyAddresses,
        serving: pod.ready,
        terminating: pod.terminating,
      },
      nodeName: pod.nodeName,
      zone: pod.zone,
      targetRef: { kind: 'Pod', name: pod.name, namespace: pod.namespace },
    })),
  }
}
