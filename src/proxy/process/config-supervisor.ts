import { discoveryTls } from '../../identity/tls.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { fail, formatProblem, ok, type Problem, type Result } from '../../lib/result.ts'
import { acceptSecret } from '../../resources/accept-secret.ts'
import type { AdsConfig } from '../../resources/bootstrap/ads.ts'
import type { BootstrapConfig } from '../../resources/bootstrap/bootstrap.ts'
import { XdsClient, type XdsUpdate } from '../../xds/client.ts'
import type { ClientTls, XdsTarget } from '../../xds/client-channel.ts'
import { XdsServer } from '../../xds/server.ts'
import { SnapshotFile } from '../../xds/snapshot-file.ts'
import { type NodeInfo, type Snapshot, TYPE } from '../../xds/types.ts'
import type { DrainReport } from '../engine.ts'
import { formatAuthority } from '../names/authority.ts'
import { SecretStore } from '../secrets.ts'
import { BootstrapFile } from './bootstrap-file.ts'
import { RefusedResources } from './refused-resources.ts'
import { ResourceSet } from './resource-set.ts'
import { RestingUpstreams } from './resting-upstreams.ts'
import { socketPaths } from './run-directory.ts'
import { SnapshotKeeper } from './snapshot-keeper.ts'
import type { SupervisorStatus, SupervisorView } from './supervisor-view.ts'
import type { WorkerStatus } from './worker.ts'
import { WorkerSource } from './worker-source.ts'
import type { WorkerStats } from './worker-stats.ts'
import { WORKER_ADS_LIMITS, Workers } from './workers.ts'

export interface ConfigSupervisorOptions {
  /** An Envoy bootstrap in YAML or JSON. */
  readonly file: string
  /** True for a sidecar: its workers want a table of names, which is empty here. */
  readonly nameTable: boolean
  readonly runDirectory: string
  /** As the workers have it: endpoints on this machine are called. Default false. */
  readonly allowLocalEndpoints?: boolean
  /** Bounds the age of what a start without discovery may serve; default that of `SnapshotFile`. */
  readonly snapshotMaxAgeMs?: number
  readonly logger: Logger
  readonly clock?: Clock
}

/**
 * The supervisor of a proxy that is configured by an Envoy bootstrap: everything is in the file, or the file says which discovery
 * server has the rest. Certificates are those of the file, so there is no credential of its own. What discovery sent is also on disk,
 * for a start without it; what is in the file is not, for it is there.
 */
export class ConfigSupervisor implements SupervisorView {
  readonly #options: ConfigSupervisorOptions
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #file: BootstrapFile
  readonly #resources: ResourceSet
  readonly #secrets = new SecretStore()
  readonly #source: WorkerSource
  readonly #resting: RestingUpstreams
  readonly #server: XdsServer
  readonly #workers: Workers
  #client: XdsClient | undefined
  /** What the client was made for. */
  #stream: string | undefined
  #published = false
  #subscribed = -1
  readonly #refused: RefusedResources
  readonly #keeper: SnapshotKeeper
  #lastUpdateMs = 0
  #identifier = ''

  constructor(options: ConfigSupervisorOptions) {
    const { file, logger, clock = systemClock, runDirectory } = options
    this.#options = options
    this.#logger = logger
    this.#clock = clock
    this.#file = new BootstrapFile({ file, logger, clock, onChange: (config) => this.#onConfig(config) })
    this.#resources = new ResourceSet({ ...options, nameTable: false })
    this.#source = new WorkerSource({ resources: this.#resources, identifier: file, clock })
    this.#resting = new RestingUpstreams(this.#source.view, this.#resources, { clock, logger })
    this.#server = new XdsServer({
      // The socket is ours alone (0600, in our folder): whoever opens it is a worker.
      authorize: (_peer, node) => ok(this.#source.for(node)),
      ready: () => this.#published,
      limits: WORKER_ADS_LIMITS,
      logger,
      clock,
    })
    this.#workers = new Workers({ path: socketPaths(runDirectory).control, logger })
    const { snapshotMaxAgeMs: maxAgeMs } = options
    const snapshotFile = new SnapshotFile({
      directory: runDirectory,
      owner: file,
      clock,
      ...(maxAgeMs !== undefined && { maxAgeMs }),
    })
    this.#keeper = new SnapshotKeeper({
      file: snapshotFile,
      resources: this.#resources,
      connected: () => this.#client?.state.phase === 'connected',
      clock,
      logger,
    })
    this.#refused = new RefusedResources(logger)
  }

  /** Resolves when it serves the workers, whether or not there is anything to serve yet. Rejects when a socket is taken. */
  async start(): Promise<void> {
    await this.#workers.listen()
    await this.#server.listen({ path: socketPaths(this.#options.runDirectory).xds })
    this.#file.start()
  }

  async stop(): Promise<void> {
    this.#file.stop()
    this.#keeper.stop()
    this.#source.stop()
    this.#client?.stop()
    await Promise.all([this.#workers.close(), this.#server.close(0)])
  }

  get node(): NodeInfo {
    return this.#file.current?.node ?? NOBODY
  }

  get level(): string {
    return this.#logger.level
  }

  get fixed(): Snapshot {
    return this.#file.current?.resources ?? new Map()
  }

  async pending(): Promise<string[]> {
    const pending = this.#published ? [] : ['configuration', ...this.#file.problems.map(formatProblem)]
    if (!this.#published) pending.push(...this.#resources.missing().map((name) => `configuration: ${name}`))
    return [...pending, ...(await this.#workers.pending())]
  }

  status(): SupervisorStatus {
    const { phase = 'idle', sinceMs = 0, lastError = '' } = this.#client?.state ?? {}
    const problems = [...this.#file.problems, ...this.#refused.problems.values()]
    return {
      node: this.node.id,
      discovery: {
        address: addressOf(this.#file.current?.ads),
        phase,
        sinceMs,
        lastError,
        identifier: this.#identifier,
        lastUpdate: this.#lastUpdateMs === 0 ? '' : new Date(this.#lastUpdateMs).toISOString(),
      },
      resources: this.#resources.counts(),
      source: this.#options.file,
      refused: problems.map(formatProblem),
      nacks: this.#refused.nacks,
      nacksByType: this.#refused.nacksByType,
      snapshotSaved: this.#keeper.saved,
      snapshotProblems: this.#keeper.problems,
    }
  }

  async workers(): Promise<readonly WorkerStatus[]> {
    return this.#resting.addTo(await this.#workers.statuses())
  }

  async stats(): Promise<readonly WorkerStats[]> {
    return this.#resting.addHealth(await this.#workers.stats())
  }

  /** Discovery, where the file names one, is not ours: it goes by the readiness of the pod. */
  async withdraw(): Promise<string> {
    return 'nobody is to be told'
  }

  drain(deadlineMs: number, delayMs: number): Promise<Result<DrainReport, string>> {
    return this.#workers.drain(deadlineMs, delayMs)
  }

  async setLevel(level: string): Promise<Result<unknown, string>> {
    const { values } = this.#logger.levels
    if (!(level in values) && level !== 'silent')
      return fail(`there is no level "${level}"; there are ${Object.keys(values).join(', ')}`)
    this.#logger.level = level
    return this.#workers.setLevel(level)
  }

  resources(): Snapshot {
    return this.#source.current()
  }

  identity(): undefined {
    return undefined
  }

  refused(): ReadonlyMap<string, Problem> {
    return this.#refused.problems
  }

  credentialProblems(): readonly Problem[] {
    return this.#file.problems
  }

  #onConfig(config: BootstrapConfig): void {
    const before = this.#secrets.list().map(({ name }) => name)
    for (const name of before) this.#secrets.delete(name)
    for (const resource of config.resources.get(TYPE.secret)?.values() ?? []) {
      const secret = acceptSecret(resource)
      if (secret.ok) this.#secrets.set(secret.value)
    }
    this.#resources.setFixed(config.resources)
    this.#follow(config.ads)
    this.#publish()
  }

  /** A stream to the discovery server of the configuration; another one where that changed. */
  #follow(ads: AdsConfig | undefined): void {
    const stream = ads === undefined ? '' : JSON.stringify([ads, this.node])
    if (stream === this.#stream) {
      // New certificates are for a new connection.
      this.#client?.reconnect()
      this.#subscribe()
      return
    }
    this.#client?.stop()
    this.#client = undefined
    this.#stream = stream
    for (const [typeUrl, wanted] of [
      [TYPE.cluster, ads?.clusters],
      [TYPE.listener, ads?.listeners],
    ] as const)
      if (wanted !== true) this.#resources.update(typeUrl, [], this.#namesOf(typeUrl))
    if (ads === undefined) return
    if (!this.#published) this.#keeper.restore()
    const client = new XdsClient({
      target: this.#targetOf(ads),
      node: () => this.node,
      mode: ads.mode,
      onUpdate: (typeUrl, update) => this.#onUpdate(typeUrl, update),
      onState: ({ phase }) => {
        if (phase === 'connected') this.#logger.info({ discovery: addressOf(ads) }, 'connected to discovery')
      },
      logger: this.#logger,
      clock: this.#clock,
    })
    this.#client = client
    this.#subscribed = -1
    if (ads.clusters) client.subscribe(TYPE.cluster, '*')
    if (ads.listeners) client.subscribe(TYPE.listener, '*')
    this.#subscribe()
    client.start()
  }

  #namesOf(typeUrl: string): string[] {
    return [...(this.#resources.snapshot().get(typeUrl)?.keys() ?? [])]
  }

  #targetOf(ads: AdsConfig): XdsTarget {
    if ('path' in ads.target) return ads.target
    const address = formatAuthority(ads.target)
    const { tls } = ads
    if (tls === undefined) return { address }
    return { address, tls: () => this.#clientTls(tls), ...(tls.sni !== '' && { serverName: tls.sni }) }
  }

  #clientTls(tls: NonNullable<AdsConfig['tls']>): ClientTls | undefined {
    const material = this.#secrets.pinnedMaterial(tls)
    if (!material.ok) return undefined
    const { credential, bundles } = material.value
    const ids = tls.peerIds.map(({ value }) => value)
    return discoveryTls(credential, bundles, this.#clock, ids)
  }

  #onUpdate(typeUrl: string, { upserted, removed, identifier }: XdsUpdate): readonly Problem[] {
    const problems = this.#resources.update(typeUrl, upserted, removed)
    this.#lastUpdateMs = this.#clock.now()
    this.#identifier = identifier
    this.#refused.update(typeUrl, { upserted, removed }, problems)
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

  /** Gives the workers what there is; for the first time only once it is whole. */
  #publish(): void {
    if (!this.#published) {
      if (this.#resources.missing().length > 0) return
      this.#published = true
      this.#logger.info({ source: this.#options.file, ...this.#resources.counts() }, 'configuration complete')
    }
    const snapshot = new Map(this.#resources.whole())
    if (this.#options.nameTable) snapshot.set(TYPE.nameTable, new Map())
    this.#source.set(snapshot)
  }
}

const NOBODY: NodeInfo = {
  id: '',
  cluster: '',
  metadata: {},
  locality: { region: '', zone: '' },
  userAgentName: 'isthmus',
}

function addressOf(ads: AdsConfig | undefined): string {
  if (ads === undefined) return ''
  return 'path' in ads.target ? ads.target.path : formatAuthority(ads.target)
}
