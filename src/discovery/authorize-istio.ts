import { parseWorkload, type SpiffeId } from '../identity/spiffe-id.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { GRPC, type Refusal } from '../xds/grpc.ts'
import type { NodeInfo } from '../xds/types.ts'
import type { Grant } from './authorize.ts'
import { parseNodeId } from './node-id.ts'

/** Where Istio's control plane runs. */
const ISTIO_NAMESPACE = 'istio-system'
/** Its service account: `istiod`, with a revision `istiod-REVISION` (istio/istio manifests/charts/istio-control/istio-discovery). */
const ISTIOD = /^istiod(-[a-z0-9]([-a-z0-9]*[a-z0-9])?)?$/

/**
 * Whether a client of this cluster may have what its Istio control plane is told. Over mutual TLS it must be one: with the service account
 * of istiod, whose namespace its `node.id` must name. In clear, where an istiod of now always comes (its `configSources` know no client
 * certificate), it is on this machine.
 */
export function authorizeIstio(
  id: SpiffeId | undefined,
  node: NodeInfo,
  typeUrl: string,
): Result<Grant, Refusal> {
  const parsed = parseNodeId(node.id)
  if (!parsed.ok) return fail({ code: GRPC.invalidArgument, message: parsed.error, reason: 'bad-claim' })
  if (id === undefined) return ok({ view: { kind: 'istio' } })
  const workload = parseWorkload(id)
  if (workload?.namespace !== ISTIO_NAMESPACE || !ISTIOD.test(workload.serviceAccount)) {
    const message = `${typeUrl} is for the discovery servers of peers and for an Istio control plane of this cluster (/ns/${ISTIO_NAMESPACE}/sa/istiod), ${id.uri} is neither`
    return fail({ code: GRPC.permissionDenied, message, reason: 'wrong-identity' })
  }
  if (parsed.value.namespace === workload.namespace) return ok({ view: { kind: 'istio' } })
  const message = `${id.uri} is not a workload of namespace ${parsed.value.namespace}, which node.id names`
  return fail({ code: GRPC.permissionDenied, message, reason: 'false-claim' })
}
