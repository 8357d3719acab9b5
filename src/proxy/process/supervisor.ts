import type { FederationFiles } from '../../identity/federation-files.ts'
import type { CredentialSource, Identity } from '../../identity/identity.ts'
import { discoveryId } from '../../identity/spiffe-id.ts'
import { discoveryTls } from '../../identity/tls.ts'
import { TrustBundles } from '../../identity/trust-bundle.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { fail, formatProblem, ok, type Problem, type Result } from '../../lib/result.ts'
import { OWN_CERTIFICATE } from '../../resources/envoy.ts'
import { ownSecret } from '../../resources/own-secret.ts'
import { type ClientState, XdsClient, type XdsUpdate } from '../../xds/client.ts'
import type { ClientTls } from '../../xds/client-channel.ts'
import { XdsServer } from '../../xds/server.ts'
import { SnapshotFile } from '../../xds/snapshot-file.ts'
import { type NodeInfo, type Snapshot, TYPE } from '../../xds/types.ts'
import type { DrainReport } from '../engine.ts'
import { LocalTrustAssembly } from './local-trust.ts'
import { RefusedResources } from './refused-resources.ts'
import { ResourceSet } from './resource-set.ts'
import { RestingUpstreams } from './resting-upstreams.ts'
import { socketPaths } from './run-directory.ts'
import { SnapshotKeeper } from './snapshot-keeper.ts'
import type { SupervisorStatus, SupervisorView } from './supervisor-view.ts'
import { Withdrawal } from './withdrawal.ts'
import type { WorkerStatus } from './worker.ts'
import { WorkerSource } from './worker-source.ts'
import type { WorkerStats } from './worker-stats.ts'
import { WORKER_ADS_LIMITS, Workers } from './workers.ts'

export interface SupervisorOptions {
  /** Who we say we are to discovery. */
  readonly node: NodeInfo
  /** True for a sidecar: names are part of what makes it ready. */
  readonly nameTable: boolean
  /** `host:port` of discovery, ADS over mutual TLS. */
  readonly discovery: string
  /** Started and stopped by the supervisor, as is `federation`. */
  readonly credentials: CredentialSource
  /** Trust domains that are decided about on this machine. */
  readonly federation?: FederationFiles | undefined
  /** Sockets and snapshot live there; it must exist, and be ours alone. */
  readonly runDirectory: string
  /** As the workers have it: endpoints on this machine are called. Default false. */
  readonly allowLocalEndpoints?: boolean
  /** An older snapshot on disk is not started from, milliseconds. Default 24 hours. */
  readonly snapshotMaxAgeMs?: number
  readonly logger: Logger
  readonly clock?: Clock
}

/**
 * Everything of a proxy that is not traffic: the stream to discovery, our credential, the last good configuration on disk; and
 * the worker's source of all of these. It may die at any time: the worker goes on, and its successor begins with the snapshot.
 */
export class Supervisor implements SupervisorView {
  readonly fixed: Snapshot = new Map()
  readonly #options: SupervisorOptions
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #credentials: CredentialSource
  readonly #trust = new LocalTrustAssembly()
  readonly #resources: ResourceSet
  readonly #given: WorkerSource
  readonly #resting: RestingUpstreams
  readonly #server: XdsServer
  readonly #workers: Workers
  readonly #keeper: SnapshotKeeper
  #client: XdsClient | undefined
  #source = ''
  #published = false
  #subscribed = -1
  #lastUpdateMs = 0
  #identifier = ''
  readonly #withdrawal: Withdrawal
  #withdrawn: Promise<string> | undefined
  readonly #refused: RefusedResources

  constructor(options: SupervisorOptions) {
    const { logger, clock = systemClock, node, runDirectory } = options
    this.#options = options
    this.#logger = logger
    this.#clock = clock
    this.#credentials = options.credentials
    this.#resources = new ResourceSet(options)
    this.#given = new WorkerSource({ resources: this.#resources, identifier: node.id, clock })
    this.#resting = new RestingUpstreams(this.#given.view, this.#resources, { clock, logger })
    this.#server = new XdsServer({
      // The socket is ours alone (0600, in our folder): whoever opens it is the worker.
      authorize: (_peer, node) => ok(this.#given.for(node)),
      ready: () => this.#published,
      limits: WORKER_ADS_LIMITS,
      logger,
      clock,
    })
    this.#workers = new Workers({ path: socketPaths(runDirectory).control, logger })
    const snapshotFile = new SnapshotFile({
      directory: runDirectory,
      owner: ownerOf(node),
      clock,
      ...(options.snapshotMaxAgeMs !== undefined && { maxAgeMs: options.snapshotMaxAgeMs }),
    })
    this.#keeper = new SnapshotKeeper({
      file: snapshotFile,
      resources: this.#resources,
      connected: () => this.#client?.state.phase === 'connected',
      clock,
      logger,
    })
    this.#refused = new RefusedResources(logger)
    this.#withdrawal = new Withdrawal(clock)
  }

  /** Resolves when it serves the worker, whether or not there is anything to serve yet. Rejects when a socket is taken. */
  async start(): Promise<void> {
    await this.#workers.listen()
    await this.#server.listen({ path: socketPaths(this.#options.runDirectory).xds })
    this.#source = this.#keeper.restore() ?? ''
    const { federation } = this.#options
    await federation?.start()
    federation?.onChange(() => this.#publish())
    this.#credentials.onChange(() => this.#credentialChanged())
    await this.#credentials.start()
  }

  async stop(): Promise<void> {
    this.#keeper.stop()
    this.#given.stop()
    this.#client?.stop()
    this.#credentials.stop()
    this.#options.federation?.stop()
    await Promise.all([this.#workers.close(), this.#server.close(0)])
  }

  /** What is missing before traffic may be sent here; empty = ready. */
  async pending(): Promise<string[]> {
    const pending: string[] = []
    const identity = this.#credentials.current()
    if (identity === undefined)
      pending.push(...['credentials', ...this.#credentials.problems().map(formatProblem)])
    else if (identity.credential.notAfterMs <= this.#clock.now())
      pending.push('credentials: the certificate has expired')
    if (!this.#published) pending.push(...this.#resources.missing().map((name) => `configuration: ${name}`))
    if (this.#withdrawn !== undefined) pending.push('draining')
    return [...new Set([...pending, ...(await this.#workers.pending())])]
  }

  status(): SupervisorStatus {
    const { phase = 'idle', sinceMs = 0, lastError = '' } = this.#client?.state ?? {}
    return {
      node: this.#options.node.id,
      discovery: {
        address: this.#options.discovery,
        phase,
        sinceMs,
        lastError,
        identifier: this.#identifier,
        lastUpdate: isoTime(this.#lastUpdateMs),
      },
      resources: this.#resources.counts(),
      source: this.#source,
      refused: [...this.#refused.problems.values()].map(formatProblem),
      nacks: this.#refused.nacks,
      nacksByType: this.#refused.nacksByType,
      snapshotSaved: this.#keeper.saved,
      snapshotProblems: this.#keeper.problems,
    }
  }

  /** What each worker says of itself, by slot, older ones of a slot first. One that does not answer is left out. */
  async workers(): Promise<readonly WorkerStatus[]> {
    return this.#resting.addTo(await this.#workers.statuses())
  }

  /** The first worker's view of itself; the error is one sentence. */
  async worker(): Promise<Result<WorkerStatus, string>> {
    const [first] = await this.workers()
    return first === undefined ? fail('the worker is not connected') : ok(first)
  }

  /** The counters of each worker; one that does not answer is left out. */
  async stats(): Promise<readonly WorkerStats[]> {
    return this.#resting.addHealth(await this.#workers.stats())
  }

  /** Withdraws us, then asks the workers to drain; resolves with the sum of their reports once all are done. */
  async drain(deadlineMs: number, delayMs = 0): Promise<Result<DrainReport, string>> {
    await this.withdraw()
    return this.#workers.drain(deadlineMs, delayMs)
  }

  /**
   * Has discovery tell those who call this gateway from elsewhere that it is about to stop. Resolves, for the log, with how that went:
   * once they have answered, or after 3 s at the latest. From the call on we are not ready.
   */
  withdraw(): Promise<string> {
    this.#withdrawn ??= this.#withdrawal.ask(this.#options.nameTable ? undefined : this.#client)
    return this.#withdrawn
  }

  get level(): string {
    return this.#logger.level
  }

  /** Sets the log level of all processes. */
  async setLevel(level: string): Promise<Result<unknown, string>> {
    if (!(level in this.#logger.levels.values) && level !== 'silent') {
      return fail(
        `there is no level "${level}"; there are ${Object.keys(this.#logger.levels.values).join(', ')}`,
      )
    }
    this.#logger.level = level
    return this.#workers.setLevel(level)
  }

  /** Everything the worker is given, our own credential included. */
  resources(): Snapshot {
    return this.#given.current()
  }

  identity(): Identity | undefined {
    return this.#credentials.current()
  }

  /** Resources whose last version is refused, by `type name`. */
  refused(): ReadonlyMap<string, Problem> {
    return this.#refused.problems
  }

  get node(): NodeInfo {
    return this.#options.node
  }

  /** What is wrong with our credential, and with what is decided here about trust. */
  credentialProblems(): readonly Problem[] {
    const federation = this.#options.federation?.problems() ?? []
    return [...this.#credentials.problems(), ...federation, ...this.#trust.problems]
  }

  #credentialChanged(): void {
    this.#publish()
    if (this.#client === undefined) this.#connect()
    else this.#client.reconnect()
  }

  #connect(): void {
    const snapshot = this.#resources.snapshot()
    const client = new XdsClient({
      target: { address: this.#options.discovery, tls: () => this.#clientTls() },
      node: () => this.#options.node,
      onUpdate: (typeUrl, update) => this.#onUpdate(typeUrl, update),
      onState: (state) => this.#onState(state),
      logger: this.#logger,
      clock: this.#clock,
      initialVersions: versionsOf(snapshot),
    })
    this.#client = client
    for (const typeUrl of this.#resources.wholeTypes) client.subscribe(typeUrl, '*')
    this.#subscribe()
    client.start()
  }

  #clientTls(): ClientTls | undefined {
    const identity = this.#credentials.current()
    if (identity === undefined) return undefined
    const { credential, bundle } = identity
    const discovery = discoveryId(credential.id.trustDomain)
    return discoveryTls(credential, new TrustBundles([bundle]), this.#clock, [discovery])
  }

  #onState(state: ClientState): void {
    if (state.phase === 'connected')
      this.#logger.info({ discovery: this.#options.discovery }, 'connected to discovery')
  }

  #onUpdate(typeUrl: string, { upserted, removed, identifier }: XdsUpdate): readonly Problem[] {
    if (typeUrl === TYPE.withdrawal) {
      this.#withdrawal.heard(upserted)
      return []
    }
    const offered =
      typeUrl === TYPE.secret ? upserted.filter(({ name }) => name !== OWN_CERTIFICATE) : upserted
    const problems = this.#resources.update(typeUrl, offered, removed)
    this.#lastUpdateMs = this.#clock.now()
    this.#identifier = identifier
    this.#refused.update(typeUrl, { upserted: offered, removed }, problems)
    this.#subscribe()
    this.#publish()
    this.#keeper.saveSoon()
    return problems
  }

  #subscribe(): void {
    if (this.#client === undefined || this.#subscribed === this.#resources.generation) return
    this.#subscribed = this.#resources.generation
    const { endpoints, secrets } = this.#resources.wanted()
    this.#client.subscribe(TYPE.endpoints, endpoints)
    this.#client.subscribe(TYPE.secret, secrets)
  }

  /** Gives the worker what there is; for the first time only once it is whole. */
  #publish(): void {
    const identity = this.#credentials.current()
    if (identity === undefined) return
    if (!this.#published) {
      if (this.#resources.missing().length > 0) return
      this.#published = true
      this.#source ||= 'discovery'
      this.#logger.info({ source: this.#source, ...this.#resources.counts() }, 'configuration complete')
    }
    const snapshot = new Map(this.#resources.snapshot())
    const trust = this.#trust.assemble(
      snapshot.get(TYPE.secret),
      identity,
      this.#options.federation?.current(),
    )
    const secrets = new Map(trust).set(OWN_CERTIFICATE, ownSecret(identity.credential))
    this.#given.set(snapshot.set(TYPE.secret, secrets))
  }
}

/** ISO 8601; empty for 0. */
function isoTime(ms: number): string {
  return ms === 0 ? '' : new Date(ms).toISOString()
}

/** A snapshot belongs to a proxy, not to a pod: the address in the node id is left out. */
function ownerOf(node: NodeInfo): string {
  const [kind, , name, domain] = node.id.split('~')
  return [node.metadata['CLUSTER_ID'], kind, name, domain].join('/')
}

function versionsOf(snapshot: Snapshot): Map<string, Map<string, string>> {
  return new Map(
    [...snapshot].map(([typeUrl, resources]) => [
      typeUrl,
      new Map([...resources.values()].map(({ name, version }) => [name, version])),
    ]),
  )
}
