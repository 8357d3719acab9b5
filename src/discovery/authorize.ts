import { discoveryId, parseWorkload, type SpiffeId, workloadId } from '../identity/spiffe-id.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { originOf } from '../model/origins.ts'
import type { ClusterInfo, Model } from '../model/types.ts'
import { parseBindRange } from '../resources/bind-address.ts'
import { GRPC, type Refusal } from '../xds/grpc.ts'
import { isMcpType, type NodeInfo, TYPE } from '../xds/types.ts'
import { authorizeIstio } from './authorize-istio.ts'
import {
  claim,
  clientKind,
  credentialClaim,
  dnsClaim,
  overlongClaim,
  socketClaim,
  tooOldForGateway,
} from './node-claims.ts'
import { parseNodeId } from './node-id.ts'
import { versionSkew } from './version-skew.ts'
import type { ViewKey } from './views.ts'

const DEFAULT_BIND = '127.240.0.0/16'

/** Who a client proved to be. */
export interface Authenticated {
  readonly id: SpiffeId
  /** SHA-256 of the public key of the CA that signed its certificate, hexadecimal. */
  readonly issuer: string
}

/** What a client may have. */
export interface Grant {
  readonly view: ViewKey
  /** Set where the client is another cluster's discovery server. */
  readonly peer?: ClusterInfo
}

/**
 * Decides from the verified id, never from claims alone, which view a client gets: a gateway its own, a sidecar its cluster's,
 * a peer's discovery server what its network may reach, anybody else nothing. `client` undefined: one in clear, which is on
 * this machine and gets this cluster's own views without secrets: asked for one, it is told that there is none (an Envoy asks
 * for what its clusters refer to, and would lose its stream by a refusal).
 */
export function authorize(
  model: Model,
  client: Authenticated | undefined,
  node: NodeInfo,
  typeUrl: string,
): Result<Grant, Refusal> {
  const id = client?.id
  if (client !== undefined) {
    const cluster = clusterOf(model, client)
    if (!cluster.ok) return denied('no-cluster', `${client.id.uri}: ${cluster.error}`)
    if (cluster.value.id !== model.self.id)
      return authorizePeer(model, cluster.value, client.id, node, typeUrl)
  }
  const proved = id === undefined ? 'this is' : 'the certificate is of'
  const mismatch = claimMismatch(node, model.self, proved) ?? networkMismatch(node, model, proved)
  if (mismatch !== undefined) return denied('false-claim', mismatch)
  if (isMcpType(typeUrl)) return authorizeIstio(id, node, typeUrl)
  return authorizeProxy(model, id, node)
}

/**
 * A trust domain that is this cluster's alone is answer enough to its own proxies, whatever a peer's bundle claims: a bundle that was
 * pasted by mistake must not cut a cluster off from its own discovery.
 */
export function clusterOf(model: Model, { id, issuer }: Authenticated): Result<ClusterInfo, string> {
  if (model.clusterByTrustDomain.get(id.trustDomain)?.id === model.self.id) return ok(model.self)
  return originOf(model, id.trustDomain, issuer)
}

function authorizePeer(
  model: Model,
  cluster: ClusterInfo,
  id: SpiffeId,
  node: NodeInfo,
  typeUrl: string,
): Result<Grant, Refusal> {
  if (id.uri !== discoveryId(id.trustDomain)) {
    return denied(
      'wrong-identity',
      `${id.uri} is of cluster ${cluster.id}; only ${discoveryId(id.trustDomain)} of it may subscribe here`,
    )
  }
  if (!model.peers.some((peer) => peer.cluster === cluster.id))
    return denied('no-peer', `${id.uri}: cluster ${cluster.id} is no peer of this one`)
  if (!isMcpType(typeUrl))
    return denied(
      'type-not-allowed',
      `peer ${cluster.id} may subscribe to ${TYPE.serviceEntry} and the like, not to ${typeUrl}`,
    )
  const skew = versionSkew(node.metadata['ISTHMUS_VERSION'])
  if (skew !== undefined) return denied('version-skew', skew)
  const mismatch = claimMismatch(node, cluster)
  return mismatch === undefined
    ? ok({ view: { kind: 'exports', cluster: cluster.id }, peer: cluster })
    : denied('false-claim', mismatch)
}

function authorizeProxy(model: Model, id: SpiffeId | undefined, node: NodeInfo): Result<Grant, Refusal> {
  const parsed = parseNodeId(node.id)
  if (!parsed.ok) return invalid(parsed.error)
  const { kind, name, namespace } = parsed.value
  const long = overlongClaim(node)
  if (long !== undefined) return invalid(long)
  const secrets = id !== undefined
  const credential = credentialClaim(node)
  if (!credential.ok) return invalid(credential.error)
  const credentialFile = credential.value
  const client = clientKind(node)
  if (kind === 'router') {
    if (client === 'grpc') return invalid(`node.id "${node.id}": a gRPC client is a sidecar~…, not a gateway`)
    const old = tooOldForGateway(node)
    if (old !== undefined) return invalid(`node.user_agent_build_version: ${old}`)
    const refusal = id === undefined ? undefined : wrongGateway(model, id, name, namespace)
    if (refusal !== undefined) return denied('false-claim', refusal)
    const bind = socketClaim('ISTHMUS_BIND', claim(node, 'ISTHMUS_BIND') ?? '0.0.0.0:15443')
    if (!bind.ok) return invalid(bind.error)
    return ok({
      view: {
        kind: 'gateway',
        gateway: `${namespace}/${name}`,
        bind: bind.value,
        issuers: node.userAgentName === 'isthmus',
        secrets,
        credentialFile,
      },
    })
  }
  const workload = id === undefined ? undefined : parseWorkload(id)
  if (id !== undefined && workload?.namespace !== namespace) {
    return denied('false-claim', `${id.uri} is not a workload of namespace ${namespace}, which node.id names`)
  }
  if (client === 'grpc') return ok({ view: { kind: 'grpc' } })
  const bind = claim(node, 'ISTHMUS_BIND') ?? DEFAULT_BIND
  const range = parseBindRange(bind)
  if (!range.ok) return invalid(`node.metadata.ISTHMUS_BIND ${range.error}`)
  const envoy = client === 'envoy'
  const dns = envoy ? dnsClaim(node) : ok(undefined)
  if (!dns.ok) return invalid(dns.error)
  return ok({
    view: { kind: 'sidecar', bind, secrets, credentialFile, hostNames: !envoy, http: envoy, dns: dns.value },
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
function claimMismatch(
  node: NodeInfo,
  proved: ClusterInfo,
  how = 'the certificate is of',
): string | undefined {
  const cluster = claim(node, 'CLUSTER_ID') ?? proved.id
  if (cluster !== proved.id) return `node.metadata.CLUSTER_ID is "${cluster}", ${how} cluster ${proved.id}`
  return undefined
}

/**
 * The network is the cluster's, as its objects say; a proxy that was told another one would be answered with what it may not reach from
 * there. While networks are being renamed the old name counts too.
 */
function networkMismatch(node: NodeInfo, { self, transition }: Model, how: string): string | undefined {
  const network = claim(node, 'NETWORK')
  if (network === undefined || network === self.network) return undefined
  if (transition.pending.length > 0 && network === transition.settled.names.get(self.id)) return undefined
  const where = self.network === '' ? 'on no named network' : `on network "${self.network}"`
  return `node.metadata.NETWORK is "${network}", ${how} cluster ${self.id}, which is ${where}`
}

const denied = (reason: string, message: string): { readonly ok: false; readonly error: Refusal } =>
  fail({ code: GRPC.permissionDenied, message, reason })

const invalid = (message: string): { readonly ok: false; readonly error: Refusal } =>
  fail({ code: GRPC.invalidArgument, message, reason: 'bad-claim' })
