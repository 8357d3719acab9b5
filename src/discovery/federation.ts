import type { ServerHttp2Stream } from 'node:http2'
import { type Credential, leafOf } from '../identity/credential.ts'
import type { Identity } from '../identity/identity.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Result } from '../lib/result.ts'
import type { Model, ModelCondition } from '../model/types.ts'
import type { ObjectStore } from '../objects/store.ts'
import type { DiscoveryDoor } from '../resources/discovery-route.ts'
import type { Refusal } from '../xds/grpc.ts'
import type { ViewSource } from '../xds/snapshot-cache.ts'
import type { NodeInfo, StreamPeer } from '../xds/types.ts'
import { Agreement, lossPolicyOf, writtenEntries } from './agreement.ts'
import type { WatchedCertificate } from './certificate-watch.ts'
import { Certificates } from './certificates.ts'
import { LinkServer } from './link-server.ts'
import { type LinkSide, linkSideOf } from './link-token.ts'
import type { PeerLink } from './peer-link.ts'
import { Peers } from './peers.ts'
import { ReverseStreams } from './reverse-streams.ts'
import type { TrustKeeper } from './trust.ts'

export interface FederationOptions {
  readonly cluster: string
  readonly store: ObjectStore
  readonly credential: () => Credential | undefined
  /** What is in force. */
  readonly state: () => { readonly identity: Identity; readonly model: Model } | undefined
  /** Where this cluster's gateways find this server, to pass peers on to it; undefined: they do not. */
  readonly door: Omit<DiscoveryDoor, 'linkPort'> | undefined
  /** Where tokens of other clusters are taken while one is outstanding; undefined: nowhere. */
  readonly link: { readonly host: string; readonly port: number } | undefined
  /** What a cluster may have of ours. */
  readonly exports: (cluster: string) => ViewSource | undefined
  /** Which peer's discovery server opened a stream. */
  readonly identifyPeer: (peer: StreamPeer) => Result<string, Refusal>
  /** Something to tell has changed. */
  readonly onChange: () => void
  /** What gateways are to be sent has changed. */
  readonly onDoor: () => void
  readonly logger: Logger
  readonly clock: Clock
}

/** All that discovery has to do with other clusters': links, what they say and offer, what trust in them rests on. */
export class Federation {
  readonly peers: Peers
  readonly agreement: Agreement
  readonly #options: FederationOptions
  readonly #reverse: ReverseStreams
  readonly #certificates: Certificates
  readonly #links: LinkServer | undefined

  constructor(options: FederationOptions) {
    this.#options = options
    const { cluster, store, credential, exports, onChange, logger, clock } = options
    this.#certificates = new Certificates(clock, onChange)
    this.peers = new Peers({
      cluster,
      credential,
      written: () => writtenEntries(store),
      policy: (peer) => lossPolicyOf(store, peer),
      exports,
      onCertificate: (peer, der) => this.#certificates.seen(peer, der),
      onChange,
      logger,
      clock,
    })
    this.agreement = new Agreement(store, this.peers)
    this.#reverse = new ReverseStreams({
      identify: options.identifyPeer,
      take: (peer, stream) => this.peers.take(peer, stream),
    })
    this.#links = options.link && this.#linkServer(options.link)
  }

  /** A peer's discovery server was let in. */
  heardFrom(peer: string, node: NodeInfo, certificate: Uint8Array | undefined): void {
    if (certificate !== undefined) this.#certificates.seen(peer, certificate)
    if (this.agreement.heardFrom(peer, node)) this.#options.onChange()
  }

  /** A client offers to serve on a stream that it has opened. */
  onReverse(stream: ServerHttp2Stream, peer: StreamPeer): Refusal | undefined {
    return this.#reverse.accept(stream, peer)
  }

  /** What streams are judged by has changed, or a certificate has ended. */
  judgeAgain(): void {
    this.#reverse.judgeAgain()
  }

  /** `renewed`: we have another certificate. */
  sync(model: Model, identity: Identity, trust: TrustKeeper, renewed: boolean): void {
    const { cluster } = this.#options
    this.#certificates.trust(trust.clusters(cluster, identity, model.peers))
    this.#certificates.seen(cluster, leafOf(identity.credential))
    this.peers.sync(model)
    this.#links?.refresh()
    if (renewed) this.peers.reconnect()
  }

  stop(): void {
    this.peers.stop()
    this.#certificates.stop()
    this.#links?.stop()
  }

  /** The way to here that gateways are told of. */
  get door(): DiscoveryDoor | undefined {
    return this.#options.door && { ...this.#options.door, linkPort: this.#links?.port }
  }

  conditions(model: Model | undefined): ModelCondition[] {
    const certificates = this.#certificates.conditions((cluster) => this.agreement.objectOf(cluster))
    return [...this.agreement.conditions(model), ...certificates]
  }

  /** Of each peer. */
  links(): ReadonlyMap<string, PeerLink> {
    return this.peers.links()
  }

  /** What calls between clusters rest on: of this one and its peers. */
  certificates(): readonly WatchedCertificate[] {
    return this.#certificates.list()
  }

  /** What another cluster has to know of this one to be linked with it; undefined before there is a credential. */
  linkSide(): LinkSide | undefined {
    const state = this.#options.state()
    return state && linkSideOf(state.model, state.identity.bundle.pem)
  }

  /** Tokens that were refused, by reason. */
  get linkRefusals(): ReadonlyMap<string, number> {
    return this.#links?.refusals ?? new Map()
  }

  #linkServer(at: { readonly host: string; readonly port: number }): LinkServer {
    const { store, credential, onDoor, logger, clock } = this.#options
    return new LinkServer({
      at,
      store,
      self: () => this.linkSide(),
      credential,
      onChange: onDoor,
      logger,
      clock,
    })
  }
}
