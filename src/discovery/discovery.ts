import type { CredentialSource, Identity } from '../identity/identity.ts'
import type { SigningCa } from '../identity/signing-ca.ts'
import { serverTlsOptions } from '../identity/tls.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { share } from '../lib/memo.ts'
import { Readiness } from '../lib/readiness.ts'
import { fail, type Problem } from '../lib/result.ts'
import { computeModel, type ModelInput } from '../model/compute.ts'
import { ModelStages } from '../model/model-stages.ts'
import { type NetworkTransition, TRANSITION_MS } from '../model/network-transition.ts'
import { recallTransition } from '../model/remembered-transition.ts'
import type { Model, ModelCondition } from '../model/types.ts'
import { type ObjectEdit, overlay } from '../objects/overlay.ts'
import type { ObjectStore } from '../objects/store.ts'
import { type DomainBundle, domainBundle } from '../resources/envoy.ts'
import type { EntryConfig } from '../resources/service-entry.ts'
import { type Listening, XdsServer } from '../xds/server.ts'
import type { Snapshot } from '../xds/types.ts'
import { Coalescer } from './coalescer.ts'
import { Completeness } from './exports-identifier.ts'
import { Federation, type FederationOptions } from './federation.ts'
import { GatewayDrains } from './gateway-drains.ts'
import { type HostAddresses, HostNames } from './host-names.ts'
import { mintSvid } from './mint-svid.ts'
import { Minter } from './minted-secret.ts'
import { type Plan, planOf } from './plan.ts'
import { discoveryStatus } from './status.ts'
import { StreamAuthorizer } from './stream-authorizer.ts'
import { type Trust, TrustKeeper } from './trust.ts'
import { Views, viewKind } from './views.ts'

/** How long changes of objects are gathered after the first of a burst, milliseconds. */
const WINDOW_MS = 50

export interface DiscoveryOptions {
  readonly cluster: string
  readonly store: ObjectStore
  /** Of `/ns/isthmus-system/sa/isthmus-discovery`; its trust domain is this cluster's. */
  readonly credentials: Pick<CredentialSource, 'current' | 'onChange' | 'problems'>
  /** Signs SVIDs for the clients; undefined: they have theirs from elsewhere. */
  readonly signingCa?: Pick<SigningCa, 'current' | 'problems'> | undefined
  /** How long those SVIDs live, milliseconds. Default and most: 58 minutes. */
  readonly svidLifetimeMs?: number | undefined
  /** ADS over mutual TLS. */
  readonly ads: { readonly host: string; readonly port: number }
  /** ADS in clear, loopback only. */
  readonly adsPlain?: { readonly host: string; readonly port: number } | undefined
  /** Resolves gateways' host names for clients that take addresses alone; undefined: these do without such gateways. */
  readonly hostAddresses?: ((onChange: () => void) => HostAddresses) | undefined
  /** Where this cluster's gateways find this server, to pass peers on to it; undefined: they do not. */
  readonly door?: FederationOptions['door']
  /** Where tokens of other clusters are taken while one is outstanding; undefined: nowhere. */
  readonly link?: FederationOptions['link']
  readonly logger: Logger
  readonly clock?: Clock
}

/** What is in force, as one consistent whole. */
interface State {
  readonly identity: Identity
  readonly model: Model
  readonly trust: Trust
  readonly bundles: readonly DomainBundle[]
  readonly clusterBundles: ReadonlyMap<string, DomainBundle>
}

/** The discovery server of one cluster: objects in, ADS out; and the client of its peers' exports. */
export class Discovery {
  /** `objects`, `credential`, `ads`: streams are refused with UNAVAILABLE until all are there. */
  readonly readiness = new Readiness()
  readonly #options: DiscoveryOptions
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #server: XdsServer
  readonly #recompute: Coalescer
  /** What this has to do with other clusters'. */
  readonly federation: Federation
  readonly #completeness = new Completeness()
  readonly #trust = new TrustKeeper()
  readonly #stages = new ModelStages()
  readonly #hostNames: HostNames
  readonly #drains: GatewayDrains
  readonly #authorizer: StreamAuthorizer
  readonly #minter: Minter | undefined
  readonly #listeners = new Set<() => void>()
  readonly #ends: (() => void)[] = []
  #views: Views | undefined
  #state: State | undefined
  #tlsEpoch = ''
  #secure: Promise<void> | undefined
  #addresses: { ads?: Listening; adsPlain?: Listening } = {}
  #computed = 0
  #cancelTransition: () => void = () => {}

  constructor(options: DiscoveryOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#logger = options.logger
    for (const task of ['objects', 'credential', 'ads']) this.readiness.pending(task)
    this.#minter = options.signingCa && this.#minterOf(options.signingCa)
    this.#authorizer = new StreamAuthorizer({
      judging: () =>
        this.#state === undefined || this.#views === undefined
          ? undefined
          : { ...this.#state, views: this.#views },
      reauthorize: () => {
        this.#server.reauthorize()
        this.federation.judgeAgain()
      },
      withdrawal: (nodeId, gateway, scope) => this.#drains.source(nodeId, gateway, scope),
      minter: this.#minter,
      heardFrom: (peer, node, certificate) => this.federation.heardFrom(peer, node, certificate),
      clock: this.#clock,
    })
    this.#server = new XdsServer({
      authorize: (peer, node, typeUrl) => this.#authorizer.authorize(peer, node, typeUrl),
      mayServe: (peer, source, typeUrl) => this.#authorizer.mayServe(peer, source, typeUrl),
      identify: (peer) => this.#authorizer.identify(peer),
      mayReadStatus: (peer) => this.#authorizer.mayReadStatus(peer),
      onReverse: (stream, peer) => this.federation.onReverse(stream, peer),
      ready: () => this.readiness.ready,
      logger: this.#logger,
      clock: this.#clock,
    })
    this.#hostNames = new HostNames(options.hostAddresses?.(() => this.#recompute.trigger()))
    this.#drains = new GatewayDrains({
      nodeIds: () =>
        this.#server.clients().flatMap(({ view, nodeId }) => (viewKind(view) === 'gateway' ? nodeId : [])),
      pods: () => options.store.list('Pod'),
      changed: () => this.#recompute.trigger(),
      settled: (timeoutMs) => this.#server.settled(timeoutMs),
      clock: this.#clock,
    })
    // Streams write in the next turn of the event loop.
    const pushed = (callback: () => void) => setImmediate(() => setImmediate(callback))
    this.#recompute = new Coalescer(this.#clock, WINDOW_MS, () => this.#compute(), pushed)
    this.federation = new Federation({
      cluster: options.cluster,
      store: options.store,
      credential: () => this.#options.credentials.current()?.credential,
      state: () => this.#state,
      door: options.door,
      link: options.link,
      exports: (cluster) => this.#views?.source({ kind: 'exports', cluster }),
      identifyPeer: (peer) => this.#authorizer.identifyPeer(peer),
      onChange: () => this.#tell(),
      onDoor: () => this.#recompute.trigger(),
      logger: this.#logger,
      clock: this.#clock,
    })
  }

  /**
   * Call it once the store is synced: what was not read yet would look deleted. Resolves when the listener in clear is open and
   * the first model is computed; the one over TLS opens as soon as there is a credential (`readiness`). Rejects when an address
   * is taken.
   */
  async start(): Promise<void> {
    const { store, credentials, adsPlain } = this.#options
    this.readiness.done('objects')
    this.#ends.push(store.watch(() => this.#recompute.trigger()))
    this.#ends.push(credentials.onChange(() => this.#recompute.trigger()))
    if (adsPlain !== undefined) this.#addresses.adsPlain = await this.#server.listen(adsPlain)
    this.#recompute.trigger()
    await this.#secure
  }

  /** Ends every stream, cutting what is left after `graceMs` milliseconds. */
  async stop(graceMs = 1_000): Promise<void> {
    for (const end of this.#ends.splice(0)) end()
    this.#authorizer.stop()
    this.#cancelTransition()
    // What changed last goes out too; closing waits for its answers.
    this.#recompute.flush()
    this.#recompute.stop()
    this.#hostNames.stop()
    this.#drains.stop()
    this.federation.stop()
    await this.#secure?.catch(() => {})
    await this.#server.close(graceMs)
  }

  /** Where it listens; `ads` is undefined while there is no credential. */
  get addresses(): { readonly ads?: Listening; readonly adsPlain?: Listening } {
    return this.#addresses
  }

  get model(): Model | undefined {
    return this.#state?.model
  }

  /** The ServiceEntries that this cluster should have; undefined before anything is known. */
  desiredEntries(): readonly EntryConfig[] | undefined {
    return this.#state === undefined ? undefined : this.federation.peers.desiredEntries()
  }

  /** Called after the model, a peer or a claim changed. Returns the function that ends it. */
  onChange(callback: () => void): () => void {
    this.#listeners.add(callback)
    return () => this.#listeners.delete(callback)
  }

  problems(): readonly Problem[] {
    const { store, credentials } = this.#options
    return [
      ...store.problems(),
      ...credentials.problems(),
      ...(this.#options.signingCa?.problems() ?? []),
      ...(this.#state?.trust.problems ?? []),
      ...this.federation.peers.problems(),
    ]
  }

  status() {
    const status = discoveryStatus({
      cluster: this.#options.cluster,
      pending: this.readiness.list(),
      ...this.federation.agreement.inputs(this.#state?.model),
      peers: this.federation.peers.status(),
      problems: this.problems(),
      clients: this.#server.clients(),
    })
    return { ...status, conditions: this.conditions(), certificates: this.federation.certificates() }
  }

  /** What would be different with these objects; undefined before anything is known. Nothing is. */
  plan(edit: ObjectEdit): Plan | undefined {
    const state = this.#state
    if (state === undefined || this.#views === undefined) return undefined
    const edited = overlay(this.#options.store, edit)
    const trust = new TrustKeeper()
    const input = this.#modelInput(state.identity, trust)
    const after = this.#drains.mark(computeModel({ ...input, list: edited.list, refused: edited.refused }))
    const bundles = trust.collect(state.identity, after.peers).bundles.list.map(domainBundle)
    const [resolved, clusterBundles] = [this.#hostNames.known(after), trust.clusterBundles(after)]
    const views = this.#views.preview({ model: after, resolved, bundles, clusterBundles })
    return planOf({ before: state.model, after, ...edited, views, clients: this.#server.clients() })
  }

  /** What the model made of each object, and where a peer's copy of them disagrees. */
  conditions(): readonly ModelCondition[] {
    const model = this.#state?.model
    return [...(model?.conditions ?? []), ...this.federation.conditions(model)]
  }

  clients() {
    return this.#server.clients()
  }

  /** Whoever is at the other end of a stream now, in either direction. */
  connected() {
    return { clients: this.#server.clients(), peers: this.federation.peers.status() }
  }

  /** Counters for metrics. */
  get counters() {
    const { minted = 0, failed: mintsFailed = 0 } = this.#minter?.counters ?? {}
    const { refusals } = this.#server
    return { models: this.#computed, views: this.#views?.size ?? 0, minted, mintsFailed, refusals }
  }

  /** What each view serves now. */
  dump(): ReadonlyMap<string, Snapshot> {
    return this.#views?.dump() ?? new Map()
  }

  #minterOf(signingCa: Pick<SigningCa, 'current'>): Minter {
    const clock = this.#clock
    const mint = async (id: string) =>
      this.#state === undefined
        ? fail('not ready yet')
        : mintSvid(signingCa.current(), this.#state, id, clock.now(), this.#options.svidLifetimeMs)
    return new Minter({ mint, clock, logger: this.#logger })
  }

  #compute(): void {
    const identity = this.#options.credentials.current()
    if (identity === undefined) return
    try {
      this.#install(identity)
    } catch (error) {
      this.#logger.error({ err: error }, 'BUG: the model could not be computed; the last one stays in force')
      return
    }
    this.readiness.done('credential')
    this.#tell()
  }

  #install(identity: Identity): void {
    const model = this.#drains.mark(computeModel(this.#modelInput(identity, this.#trust), this.#stages))
    const trust = this.#trust.collect(identity, model.peers)
    const bundles = share(this.#state?.bundles, trust.bundles.list.map(domainBundle))
    const clusterBundles = share(this.#state?.clusterBundles, this.#trust.clusterBundles(model))
    const complete = this.#completeness.judge(model)
    const resolved = this.#hostNames.resolve(model)
    const inputs = { model, resolved, bundles, clusterBundles, complete, door: this.federation.door }
    const renewed = this.#state !== undefined && this.#state.identity !== identity
    this.#state = { identity, model, trust, bundles, clusterBundles }
    this.#computed++
    this.#computeAgainFor(model)
    if (this.#views === undefined) this.#views = new Views(inputs, this.#logger)
    else this.#views.refresh(inputs)
    this.#drains.computed()
    this.#secureListener(identity, trust)
    this.#authorizer.changed(model, trust)
    this.federation.sync(model, identity, this.#trust, renewed)
  }

  /** At the start, what the process before wrote down in the middle of a change. */
  #lastTransition(): NetworkTransition | undefined {
    const { cluster, store } = this.#options
    if (this.#state !== undefined) return this.#state.model.transition
    return recallTransition(store.list('Cluster'), cluster, this.#clock.now())
  }

  #modelInput(identity: Identity, trust: TrustKeeper): ModelInput {
    const { cluster, store } = this.#options
    return {
      cluster,
      trustDomain: identity.credential.id.trustDomain,
      list: (kind) => store.list(kind),
      refused: (kind) => store.refused(kind),
      transition: { previous: this.#lastTransition(), nowMs: this.#clock.now() },
      bundleOf: (peer) => (peer === undefined ? identity.bundle : trust.bundleOf(peer)),
    }
  }

  /** Networks that were named by halves stay so for a time only. */
  #computeAgainFor({ transition }: Model): void {
    this.#cancelTransition()
    if (transition.pending.length === 0) return
    const endsInMs = Math.max(0, transition.steppedAtMs + TRANSITION_MS - this.#clock.now())
    this.#cancelTransition = this.#clock.after(endsInMs, () => this.#recompute.trigger())
  }

  /** Opens the listener when there is the first credential, gives it the new one after that. */
  #secureListener(identity: Identity, { bundles }: Trust): void {
    const epoch = `${bundles.epoch} ${identity.credential.certificatePem}`
    if (epoch === this.#tlsEpoch) return
    this.#tlsEpoch = epoch
    const tls = serverTlsOptions(identity.credential, bundles)
    if (this.#secure !== undefined) {
      this.#server.setSecureContext(tls)
      return
    }
    this.#secure = this.#server.listen({ ...this.#options.ads, tls }).then((at) => {
      this.#addresses = { ...this.#addresses, ads: at }
      // Trust may have changed while the socket was being opened.
      const { identity: now, trust } = this.#state ?? { identity, trust: { bundles } }
      this.#server.setSecureContext(serverTlsOptions(now.credential, trust.bundles))
      this.readiness.done('ads')
      this.#tell()
    })
    this.#secure.catch((error) =>
      this.#logger.error({ err: error, ads: this.#options.ads }, 'ADS cannot listen'),
    )
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener()
      } catch (error) {
        this.#logger.error({ err: error }, 'BUG: a listener to discovery threw')
      }
    }
  }
}
