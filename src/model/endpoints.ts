import { isIP } from 'node:net'
import { own } from '../lib/own.ts'
import type { EndpointSlice, SliceEndpoint } from '../objects/types.ts'
import { byText } from './labels.ts'
import type { PodIndex } from './pod-index.ts'
import type { ModelEndpoint } from './types.ts'

/** Istio's label of pods whose proxy terminates mesh TLS. */
export const MESH_LABEL = 'security.istio.io/tlsMode'

/** Whether mesh TLS may, and must, be spoken to it: its pod says so, and its identity is known. */
export const isMeshWorkload = ({ labels, serviceAccount }: ModelEndpoint): boolean =>
  own(labels, MESH_LABEL) === 'istio' && serviceAccount !== ''

/** What Kubernetes runs a pod as that names no service account. */
const DEFAULT_SERVICE_ACCOUNT = 'default'

/**
 * The endpoints of one Service port over all its slices. A slice names its ports as the Service does and carries the number
 * that the target port has on *its* endpoints: the same port may have another number in the next slice.
 *
 * An endpoint may stand in two slices while the controller moves it (EndpointSlice API, "Duplicate endpoints"): it counts
 * once, as ready if either says so.
 */
export function endpointsOf(
  portName: string,
  slices: readonly EndpointSlice[],
  pods: PodIndex,
  publishNotReady: boolean,
): readonly ModelEndpoint[] {
  const byAddress = new Map<string, ModelEndpoint>()
  for (const slice of slices) {
    const family = slice.spec.addressType === 'IPv4' ? 4 : 6
    const port = slice.spec.ports.find((each) => each.name === portName && each.protocol === 'TCP')
    if (port === undefined || port.port < 1) continue
    for (const endpoint of slice.spec.endpoints) {
      // All addresses of one endpoint are the same pod ("fungible"): the first stands for it.
      const address = endpoint.addresses[0]
      if (address === undefined || isIP(address) !== family) continue
      const key = `${address} ${port.port}`
      const known = byAddress.get(key)
      const next = toEndpoint(address, port.port, endpoint, slice.metadata.namespace, pods, publishNotReady)
      if (known === undefined || rank(next) > rank(known)) byAddress.set(key, next)
    }
  }
  return [...byAddress.values()].sort((a, b) => byText(a.address, b.address) || a.port - b.port)
}

const rank = (endpoint: ModelEndpoint): number => (endpoint.ready ? 2 : endpoint.draining ? 1 : 0)

function toEndpoint(
  address: string,
  port: number,
  endpoint: SliceEndpoint,
  namespace: string,
  pods: PodIndex,
  publishNotReady: boolean,
): ModelEndpoint {
  const pod = endpoint.podName === '' ? undefined : pods.get(namespace, endpoint.podName)
  // `ready` is never true for a terminating endpoint, unless the Service publishes whatever there is.
  const ready = publishNotReady || (endpoint.ready && !endpoint.terminating)
  const serviceAccount = pod === undefined ? '' : pod.spec.serviceAccountName || DEFAULT_SERVICE_ACCOUNT
  return {
    address,
    port,
    ready,
    draining: !ready && endpoint.serving && endpoint.terminating,
    zone: endpoint.zone,
    podName: endpoint.podName,
    ...(endpoint.hostname !== undefined && { hostName: endpoint.hostname }),
    labels: pod?.metadata.labels ?? {},
    serviceAccount,
  }
}
