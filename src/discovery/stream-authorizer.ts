import { discoveryId } from '../identity/spiffe-id.ts'
import { SvidVerifier } from '../identity/verify-svid.ts'
import { canonicalJson } from '../lib/canonical.ts'
import type { Clock } from '../lib/clock.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { isReservedServerName } from '../model/discovery-name.ts'
import type { Model } from '../model/types.ts'
import { GRPC, type Refusal } from '../xds/grpc.ts'
import type { ViewSource } from '../xds/snapshot-cache.ts'
import { type NodeInfo, type StreamPeer, TYPE } from '../xds/types.ts'
import { type Authenticated, authorize, clusterOf, type Grant } from './authorize.ts'
import { MintedSource, type Minter } from './minted-secret.ts'
import type { Trust } from './trust.ts'
import { ViewQuota } from './view-quota.ts'
import { type Views, viewName } from './views.ts'

/** What streams are judged by. */
export interface Judging {
  readonly model: Model
  readonly trust: Trust
  readonly views: Views
}

export interface StreamAuthorizerOptions {
  /** What is in force; undefined: streams are refused with UNAVAILABLE. */
  judging(): Judging | undefined
  /** Puts every open stream to `authorize` again. */
  reauthorize(): void
  /** A peer's discovery server was let in. */
  heardFrom(cluster: string, node: NodeInfo, certificate: Uint8Array | undefined): void
  /** What a gateway's pod gets that is about to stop; `scope` as in ViewSource. */
  withdrawal(nodeId: string, gateway: string, scope: string): ViewSource
  /** Makes certificates for those who prove an id; undefined: there is no key to sign with. */
  readonly minter?: Minter | undefined
  readonly clock: Clock
}

/** No claim at all. */
const NOBODY: NodeInfo = {
  id: '',
  cluster: '',
  metadata: {},
  locality: { region: '', zone: '' },
  userAgentName: '',
}

const notAPeer = (client: Authenticated | undefined): Refusal => ({
  code: GRPC.permissionDenied,
  message: `${client?.id.uri ?? 'a client in clear'} is no peer's discovery server: this is for these alone`,
  reason: 'not-a-peer',
})

/** Judges each stream by its certificate, and again when that ends, or when what it was judged by has changed. */
export class StreamAuthorizer {
  readonly #options: StreamAuthorizerOptions
  readonly #verifier = new SvidVerifier()
  readonly #quota = new ViewQuota()
  /** What each stream was granted, by type: the name of the view that it may be answered from. */
  readonly #granted = new WeakMap<StreamPeer, Map<string, string>>()
  readonly #minted = new WeakMap<StreamPeer, MintedSource>()
  #epoch = ''
  /** When the first certificate of a stream ends. */
  #judgedAgainAtMs = Number.POSITIVE_INFINITY
  #cancelJudging: () => void = () => {}

  constructor(options: StreamAuthorizerOptions) {
    this.#options = options
  }

  authorize(peer: StreamPeer, node: NodeInfo, typeUrl: string): Result<ViewSource, Refusal> {
    const judged = this.#judge(peer, node, typeUrl)
    if (!judged.ok) return judged
    const { views, client, grant } = judged.value
    if (grant.peer !== undefined) this.#options.heardFrom(grant.peer.id, node, peer.certificate)
    return this.#source(views, peer, node, client, grant, typeUrl)
  }

  /** Which peer's discovery server has opened a stream: for what peers alone may do. */
  identifyPeer(peer: StreamPeer): Result<string, Refusal> {
    const judged = this.#judge(peer, NOBODY, TYPE.serviceEntry)
    if (!judged.ok) return judged
    const { client, grant } = judged.value
    return grant.peer === undefined ? fail(notAPeer(client)) : ok(grant.peer.id)
  }

  /** Who a client is, by his certificate; undefined in clear, and for one that is refused anyway. */
  identify(peer: StreamPeer): string | undefined {
    return this.#proved(peer)?.id.uri
  }

  #proved(peer: StreamPeer): Authenticated | undefined {
    const trust = this.#options.judging()?.trust
    if (peer.certificate === undefined || trust === undefined) return undefined
    const svid = this.#verifier.verify(peer.certificate, trust.bundles, this.#options.clock.now())
    return svid.ok ? svid.value : undefined
  }

  /** What every client has is for an operator: on this machine, in clear, or with the certificate of discovery itself. */
  mayReadStatus(peer: StreamPeer): Refusal | undefined {
    if (peer.certificate === undefined) return undefined
    const model = this.#options.judging()?.model
    const client = this.#proved(peer)
    // Where clusters share a trust domain their discovery servers have one id: the CA that signed tells whose it is.
    const cluster = client && model && clusterOf(model, client)
    const own = cluster?.ok === true && cluster.value.id === model?.self.id
    if (own && client?.id.uri === discoveryId(client?.id.trustDomain ?? '')) return undefined
    return {
      code: GRPC.permissionDenied,
      message: `the status of all clients is for this discovery server's own identity, not for ${client?.id.uri ?? 'an unknown one'}${own ? '' : ' of elsewhere'}`,
      reason: 'status-denied',
    }
  }

  /** The second look, where a response is built: the view must be the one that this very stream was granted for the type. */
  mayServe(peer: StreamPeer, source: ViewSource, typeUrl: string): boolean {
    const granted = this.#granted.get(peer)?.get(typeUrl)
    if (granted === undefined || source.scope !== granted) return false
    return !(source instanceof MintedSource) || this.#minted.get(peer) === source
  }

  /** Open streams are judged again when what they are judged by has changed. */
  changed(model: Model, trust: Trust): void {
    const epoch = canonicalJson([
      trust.bundles.epoch,
      model.self.network,
      model.gateways.map(({ namespace, name, spiffeIds }) => [namespace, name, spiffeIds]),
      model.origins,
      model.sharedCas,
      model.peers.map(({ cluster, trustDomain }) => [cluster, trustDomain]),
    ])
    if (epoch === this.#epoch) return
    this.#epoch = epoch
    this.#options.reauthorize()
  }

  #judge(peer: StreamPeer, node: NodeInfo, typeUrl: string) {
    const judging = this.#options.judging()
    if (judging === undefined) return fail({ code: GRPC.unavailable, message: 'not ready yet' })
    const { model, trust, views } = judging
    let client: Authenticated | undefined
    if (peer.certificate !== undefined) {
      const svid = this.#verifier.verify(peer.certificate, trust.bundles, this.#options.clock.now())
      if (!svid.ok) {
        const message = `certificate refused (${svid.error.code}): ${svid.error.message}`
        return fail({ code: GRPC.unauthenticated, message, reason: 'bad-certificate' })
      }
      client = svid.value
      this.#judgeAgainAt(svid.value.notAfterMs)
    }
    const grant = authorize(model, client, node, typeUrl)
    if (!grant.ok) return grant
    if (grant.value.peer === undefined && isReservedServerName(peer.serverName ?? ''))
      return fail(notAPeer(client))
    return ok({ views, client, grant: grant.value })
  }

  #source(
    views: Views,
    peer: StreamPeer,
    node: NodeInfo,
    client: Authenticated | undefined,
    grant: Grant,
    typeUrl: string,
  ): Result<ViewSource, Refusal> {
    const name = viewName(grant.view)
    const identity = client?.id.uri ?? 'who comes in clear'
    // A peer has one view, and peers that share a trust domain have one id.
    const room =
      grant.peer === undefined
        ? this.#quota.admit(identity, name, (view) => views.watched(view))
        : ok(undefined)
    if (!room.ok) return fail({ code: GRPC.resourceExhausted, message: room.error, reason: 'too-many-views' })
    const granted = this.#granted.get(peer) ?? new Map<string, string>()
    this.#granted.set(peer, granted.set(typeUrl, name))
    if (typeUrl === TYPE.withdrawal && grant.view.kind === 'gateway' && client !== undefined)
      return ok(this.#options.withdrawal(node.id, grant.view.gateway, name))
    const view = views.source(grant.view)
    const { minter } = this.#options
    if (minter === undefined || client === undefined || typeUrl !== TYPE.secret) return ok(view)
    const before = this.#minted.get(peer)
    const own = before?.base === view ? before : minter.source(view, client.id.uri, before)
    this.#minted.set(peer, own)
    return ok(own)
  }

  stop(): void {
    this.#cancelJudging()
  }

  /** No stream outlives the certificate that it was opened with; whoever has a new one opens another in time. */
  #judgeAgainAt(ms: number): void {
    if (ms >= this.#judgedAgainAtMs) return
    this.#cancelJudging()
    this.#judgedAgainAtMs = ms
    const inMs = Math.max(0, ms - this.#options.clock.now()) + 1
    this.#cancelJudging = this.#options.clock.after(inMs, () => {
      this.#judgedAgainAtMs = Number.POSITIVE_INFINITY
      this.#options.reauthorize()
    })
  }
}
