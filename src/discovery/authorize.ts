import { isIP } from 'node:net'
import { discoveryId, parseWorkload, type SpiffeId, workloadId } from '../identity/spiffe-id.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { ClusterInfo, Model } from '../model/types.ts'
import { parseBindRange } from '../resources/bind-address.ts'
import { GRPC, type Refusal } from '../xds/grpc.ts'
import { type NodeInfo, TYPE } from '../xds/types.ts'
import { parseNodeId } from './node-id.ts'
import type { ViewKey } from './views.ts'

const DEFAULT_BIND = '127.240.0.0/16'

/** What a client may have. */
export interface Grant {
  readonly view: ViewKey
  /** Set where the client is another cluster's discovery server. */
  readonly peer?: ClusterInfo
}

/**
 * Decides from the verified id, never from claims alone, which view a client gets: a gateway its own, a sidecar its cluster's,
 * a peer's discovery server what its network may reach, anybody else nothing. `id` undefined: a client in clear, which is on
 * this machine and gets this cluster's own views without secrets: asked for one, it is told that there is none (an Envoy asks
 * for what its clusters refer to, and would lose its stream by a refusal).
 */
export function authorize(
  model: Model,
  id: SpiffeId | undefined,
  node: NodeInfo,
  typeUrl: string,
): Result<Grant, Refusal> {
  if (id !== undefined && id.trustDomain !== model.self.trustDomain)
    return authorizePeer(model, id, node, typeUrl)
  if (typeUrl === TYPE.serviceEntry) {
    return denied(
      `${typeUrl} is for the discovery servers of peers, ${id?.uri ?? 'a client in clear'} is none`,
    )
  }
  const mismatch = id === undefined ? undefined : claimMismatch(node, model.self)
  if (mismatch !== undefined) return denied(mismatch)
  return authorizeProxy(model, id, node)
}

function authorizePeer(model: Model, id: SpiffeId, node: NodeInfo, typeUrl: string): Result<Grant, Refusal> {
  if (id.uri !== discoveryId(id.trustDomain)) {
    return denied(
      `${id.uri} is of another trust domain; only ${discoveryId(id.trustDomain)} may subscribe here`,
    )
  }
  const peer = model.peers.find(({ trustDomain }) => trustDomain === id.trustDomain)
  if (peer === undefined) return denied(`${id.uri}: no peer has the trust domain ${id.trustDomain}`)
  const cluster = model.clusterByTrustDomain.get(id.trustDomain)
  if (cluster === undefined) {
    return denied(
      `${id.uri}: several clusters have the trust domain ${id.trustDomain}, they cannot be told apart`,
    )
  }
  if (typeUrl !== TYPE.serviceEntry)
    return denied(`peer ${cluster.id} may subscribe to ${TYPE.serviceEntry} only, not to ${typeUrl}`)
  const mismatch = claimMismatch(node, cluster)
  return mismatch === undefined
    ? ok({ view: { kind: 'exports', cluster: cluster.id }, peer: cluster })
    : denied(mismatch)
}

function authorizeProxy(model: Model, id: SpiffeId | undefined, node: NodeInfo): Result<Grant, Refusal> {
  const parsed = parseNodeId(node.id)
  if (!parsed.ok) return fail({ code: GRPC.invalidArgument, message: parsed.error })
  const { kind, name, namespace } = parsed.value
  const secrets = id !== undefined
  const credentialFile = claim(node, 'ISTHMUS_CREDENTIAL_FILE') ?? ''
  if (kind === 'router') {
    const refusal = id === undefined ? undefined : wrongGateway(model, id, name, namespace)
    if (refusal !== undefined) return denied(refusal)
    const bind = readGatewayBind(node)
    if (!bind.ok) return fail({ code: GRPC.invalidArgument, message: bind.error })
    return ok({
      view: { kind: 'gateway', gateway: `${namespace}/${name}`, bind: bind.value, secrets, credentialFile },
    })
  }
  const workload = id === undefined ? undefined : parseWorkload(id)
  if (id !== undefined && workload?.namespace !== namespace) {
    return denied(`${id.uri} is not a workload of namespace ${namespace}, which node.id names`)
  }
  const bind = claim(node, 'ISTHMUS_BIND') ?? DEFAULT_BIND
  const range = parseBindRange(bind)
  if (!range.ok)
    return fail({ code: GRPC.invalidArgument, message: `node.metadata.ISTHMUS_BIND ${range.error}` })
  return ok({
    view: { kind: 'sidecar', bind, secrets, credentialFile, hostNames: node.userAgentName !== 'envoy' },
  })
}

/**
 * Why an id may not have the view of a gateway. One that nothing describes any more has nothing in its view: its pods, by the id
 * that they get by default, are to hear just that, or they would serve their last state until they end.
 */
function wrongGateway(model: Model, id: SpiffeId, name: string, namespace: string): string | undefined {
  const gateway = model.gateways.find((each) => each.name === name && each.namespace === namespace)
  const ids = gateway?.spiffeIds ?? [workloadId(id.trustDomain, namespace, name)]
  if (ids.includes(id.uri)) return undefined
  return `${id.uri} is not gateway ${namespace}/${name}, whose id is ${ids.join(' or ')}`
}

/** A client that names another cluster or network than its certificate proves is misconfigured, or lying. */
function claimMismatch(node: NodeInfo, proved: ClusterInfo): string | undefined {
  const cluster = claim(node, 'CLUSTER_ID') ?? proved.id
  if (cluster !== proved.id)
    return `node.metadata.CLUSTER_ID is "${cluster}", the certificate is of cluster ${proved.id}`
  return undefined
}

function readGatewayBind(
  node: NodeInfo,
): Result<{ readonly address: string; readonly port: number }, string> {
  const text = claim(node, 'ISTHMUS_BIND') ?? '0.0.0.0:15443'
  const colon = text.lastIndexOf(':')
  const address = text.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  const port = Number(text.slice(colon + 1))
  if (isIP(address) === 0 || !Number.isInteger(port) || port < 0 || port > 65_535) {
    return fail(`node.metadata.ISTHMUS_BIND "${text}": expected IP:PORT such as 0.0.0.0:15443`)
  }
  return ok({ address, port })
}

function claim(node: NodeInfo, name: string): string | undefined {
  const value = node.metadata[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

const denied = (message: string): { readonly ok: false; readonly error: Refusal } =>
  fail({ code: GRPC.permissionDenied, message })
