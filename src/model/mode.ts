import { workloadId } from '../identity/spiffe-id.ts'
import { own } from '../lib/own.ts'
import { MODE_ANNOTATION, SERVICE_MODES, type ServiceMode } from '../objects/types.ts'
import { isMeshWorkload, MESH_LABEL } from './endpoints.ts'
import { serviceObject } from './headless.ts'
import { byText } from './labels.ts'
import type { ChosenMode, ClusterInfo, Exposure, ModelGateway, ModelService } from './types.ts'

/** What was asked for, and by which field. */
interface Wish {
  readonly mode: ServiceMode
  readonly source: string
}

const DEFAULT: Wish = { mode: 'terminate', source: 'the default' }

/**
 * How the gateway serves an exposed service. The Service's own annotation counts before the exposing item's; what is no mode counts as
 * none was given, since terminating is what verifies. `keptOut`: clusters that reachability keeps out, which only termination can.
 */
export function chooseMode(
  service: ModelService,
  item: { readonly mode: ServiceMode | undefined; readonly source: string },
  keptOut: readonly string[],
): ChosenMode {
  const wish =
    wishOf(service) ?? (item.mode === undefined ? DEFAULT : { mode: item.mode, source: item.source })
  if (wish.mode === 'terminate') return { mode: wish.mode, reason: wish.source }
  if (wish.mode === 'passthrough')
    return { mode: wish.mode, reason: `${wish.source}${leftOut(service)}${letIn(keptOut)}` }
  const { mode, why } = judge(service, keptOut)
  return { mode, reason: `auto (${wish.source}): ${why}` }
}

/** SPIFFE ids that answer for a service at its gateway: the gateway's own, or those of the workloads that it passes through to. */
export function answeringIds(
  cluster: ClusterInfo,
  { service, mode }: Exposure,
  gateway: ModelGateway,
): readonly string[] {
  return mode?.mode === 'passthrough' ? workloadIdsOf(cluster, service) : gateway.spiffeIds
}

/** Ids of the mesh workloads behind a service, sorted. */
export function workloadIdsOf({ trustDomain }: ClusterInfo, service: ModelService): readonly string[] {
  const workloads = service.ports.flatMap(({ endpoints }) => endpoints.filter(isMeshWorkload))
  const ids = workloads.map(({ serviceAccount }) =>
    workloadId(trustDomain, service.namespace, serviceAccount),
  )
  return [...new Set(ids)].sort(byText)
}

function wishOf(service: ModelService): Wish | undefined {
  const said = own(service.annotations, MODE_ANNOTATION)
  const mode = SERVICE_MODES.find((each) => each === said)
  const source = `${serviceObject(service)} metadata.annotations["${MODE_ANNOTATION}"]`
  return mode === undefined ? undefined : { mode, source }
}

/** Where nobody's identity is known, nobody can be kept out by it. */
const letIn = (keptOut: readonly string[]): string =>
  keptOut.length === 0
    ? ''
    : `; reachability does not keep ${keptOut.join(', ')} out here, the workload has to`

/** Nothing but mesh TLS is passed through, so only a mesh workload gets any. */
function leftOut(service: ModelService): string {
  const ready = service.ports.flatMap(({ endpoints }) => endpoints.filter((endpoint) => endpoint.ready))
  const outside = ready.filter((endpoint) => !isMeshWorkload(endpoint)).length
  return outside === 0
    ? ''
    : `; ${outside} of ${ready.length} ready endpoints are no mesh workloads (label ${MESH_LABEL}: istio) and get nothing`
}

function judge(service: ModelService, keptOut: readonly string[]): { mode: ChosenMode['mode']; why: string } {
  const ready = service.ports.flatMap(({ endpoints }) => endpoints.filter((endpoint) => endpoint.ready))
  const outside = ready.find((endpoint) => !isMeshWorkload(endpoint))
  if (ready.length === 0) return { mode: 'terminate', why: 'no endpoint is ready' }
  if (outside !== undefined) {
    const name = outside.podName === '' ? outside.address : `pod ${outside.podName}`
    return { mode: 'terminate', why: `${name} is no mesh workload (label ${MESH_LABEL}: istio)` }
  }
  if (keptOut.length > 0) {
    const why = `reachability keeps ${keptOut.join(', ')} out, which is told by the caller's certificate`
    return { mode: 'terminate', why }
  }
  return { mode: 'passthrough', why: 'every ready endpoint is a mesh workload' }
}
