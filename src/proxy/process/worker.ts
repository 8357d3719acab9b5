import type { RevocationMode } from '../../identity/revocation.ts'
import { Backoff } from '../../lib/backoff.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Problem } from '../../lib/result.ts'
import { inSlices } from '../../lib/slices.ts'
import { decodeNameTable } from '../../resources/name-table.ts'
import { type ClientState, XdsClient, type XdsUpdate } from '../../xds/client.ts'
import { TYPE, type XdsResource } from '../../xds/types.ts'
import type { AccessLogEntry } from '../access-log.ts'
import type { InheritedSocket } from '../context.ts'
import { type DrainReport, Engine, type EngineStatus } from '../engine.ts'
import { NameTable } from '../names/name-table.ts'
import { READS_PAGES } from '../upstream-page.ts'
import type { ChildNotice } from './child.ts'
import { ControlClient, type WorkerHello } from './control.ts'
import { InheritedSockets } from './inherited-sockets.ts'
import { NameServers, type NameServersOptions } from './name-servers.ts'
import { ReferenceIndex } from './reference-index.ts'
import { socketPaths } from './run-directory.ts'
import { workerIdentity } from './worker-identity.ts'
import { type SpanCounts, WorkerStatsReader } from './worker-stats.ts'

export interface WorkerOptions {
  /** The gateway's or sidecar's name, for logs. */
  readonly name: string
  readonly runDirectory: string
  readonly logger: Logger
  /** What a missing or expired CRL means. Default `soft-fail`. */
  readonly revocation?: RevocationMode | undefined
  readonly allowLocalEndpoints?: boolean | undefined
  /** One call for each connection, when it has ended. */
  readonly accessLog: (entry: AccessLogEntry) => void
  /** Log lines that nobody read in time; default none. */
  readonly logLinesDropped?: () => number
  /** Present where spans are sent. */
  readonly spans?: (() => SpanCounts) | undefined
  /** Present for a sidecar. */
  readonly nameServers?: Pick<NameServersOptions, 'addresses' | 'upstreams' | 'upstreamsGiven'>
  /** Listening sockets that the launcher made, as in `INHERITED_SOCKETS`. Default none. */
  readonly inherited?: string
  /** Tells the launcher. Default nobody. */
  readonly tell?: (notice: ChildNotice) => void
  readonly clock?: Clock
}

/** What the worker tells the supervisor. */
export interface WorkerStatus extends WorkerHello {
  readonly state: 'starting' | 'serving' | 'draining' | 'drained'
  /** What is missing before it serves; empty = serving. */
  readonly pending: readonly string[]
  readonly supervisor: ClientState
  /** Real addresses of a sidecar's DNS, SOCKS5 and CONNECT servers. */
  readonly nameServers: Readonly<Record<string, string>>
  readonly names: number
  readonly engine: EngineStatus
}

/** The process that carries traffic: the engine, a sidecar's name servers, and nothing that could stop them. */
export class Worker {
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #engine: Engine
  readonly #stats: WorkerStatsReader
  readonly #client: XdsClient
  readonly #control: ControlClient
  readonly #references = new ReferenceIndex()
  readonly #names = new NameTable()
  readonly #nameServers: NameServers | undefined
  readonly #identity = workerIdentity()
  readonly #tell: (notice: ChildNotice) => void
  readonly #applied = new Set<string>()
  readonly #subscribed = new Map<string, ReadonlySet<string>>()
  #generation = -1
  #draining: Promise<DrainReport> | undefined
  #drained = false

  constructor(options: WorkerOptions) {
    const { logger, clock = systemClock, nameServers } = options
    const paths = socketPaths(options.runDirectory)
    this.#logger = logger
    this.#clock = clock
    this.#tell = options.tell ?? (() => {})
    const inherited = new InheritedSockets(options.inherited ?? '', {
      onListening: (address) => this.#tell({ notice: 'listening', address }),
      onReleased: (address) => this.#tell({ notice: 'released', address }),
      onUsedUp: () => this.#tell({ notice: 'replace' }),
    })
    const inheritedSocket: InheritedSocket = (...at) => inherited.take(...at)
    this.#engine = new Engine({
      name: options.name,
      revocation: options.revocation,
      allowLocalEndpoints: options.allowLocalEndpoints,
      logger,
      clock,
      accessLog: options.accessLog,
      inheritedSocket,
      // An address that we bind ourselves is shared with the other workers, and with our successor while we drain.
      reusePort: true,
    })
    this.#stats = new WorkerStatsReader({
      engine: this.#engine,
      identity: this.#identity,
      logLinesDropped: options.logLinesDropped ?? (() => 0),
      spans: options.spans,
    })
    this.#client = new XdsClient({
      target: { path: paths.xds },
      node: () => ({
        id: `worker~${process.pid}`,
        cluster: '',
        metadata: {},
        locality: NOWHERE,
        userAgentName: 'isthmus',
        clientFeatures: [READS_PAGES],
      }),
      onUpdate: (typeUrl, update) => this.#onUpdate(typeUrl, update),
      // On the same machine, and back within moments: no reason to wait long.
      backoff: new Backoff({ baseMs: 50, maxMs: 1_000 }),
      logger,
      clock,
    })
    this.#control = new ControlClient({
      path: paths.control,
      hello: this.#identity,
      clock,
      handlers: {
        status: async () => this.status(),
        pending: async () => this.#pending(),
        stats: async () => this.#stats.read(this.#draining !== undefined),
        drain: (params) => {
          const { deadlineMs, delayMs } = params as { deadlineMs: number; delayMs?: number }
          this.#tell({ notice: 'draining' })
          return this.drain(deadlineMs, delayMs)
        },
        logging: async (params) => {
          logger.level = (params as { level: string }).level
        },
      },
    })
    if (nameServers !== undefined) {
      const open: NameServersOptions['open'] = (address, port, downstream) =>
        this.#engine.open(address, port, downstream)
      this.#nameServers = new NameServers({
        ...nameServers,
        names: this.#names,
        open,
        inheritedSocket,
        logger,
        clock,
      })
    }
  }

  start(): void {
    for (const typeUrl of this.#wholeTypes()) this.#client.subscribe(typeUrl, '*')
    this.#client.start()
    this.#control.start()
    this.#sayWhenReady()
  }

  /**
   * Is not ready any more, and after `delayMs`, in which others hear of that, stops accepting; lets connections finish until the
   * deadline, which begins then, cuts and logs the rest. A second call is the first one.
   */
  drain(deadlineMs: number, delayMs = 0): Promise<DrainReport> {
    this.#draining ??= this.#drain(deadlineMs, delayMs)
    return this.#draining
  }

  async stop(): Promise<void> {
    this.#client.stop()
    await Promise.all([this.#nameServers?.close(), this.#engine.close()])
    // Last, when everything has been counted.
    await this.#control.stop(this.#stats.read(true))
  }

  status(): WorkerStatus {
    const pending = this.#pending()
    const state = this.#drained
      ? 'drained'
      : this.#draining
        ? 'draining'
        : pending.length > 0
          ? 'starting'
          : 'serving'
    return {
      ...this.#identity,
      state,
      pending,
      supervisor: this.#client.state,
      nameServers: this.#nameServers?.addresses() ?? {},
      names: this.#names.size,
      engine: this.#engine.status(),
    }
  }

  /** One line with the real addresses, once all is there. */
  #sayWhenReady(): void {
    if (this.#draining !== undefined) return
    if (this.#pending().length > 0) {
      this.#clock.after(READY_CHECK_MS, () => this.#sayWhenReady())
      return
    }
    const listeners = this.#engine.listeners().map(({ name, address }) => ({ name, address }))
    const { slot, generation, runtime, version } = this.#identity
    const addresses = this.#nameServers?.addresses()
    this.#logger.info({ ...addresses, listeners, slot, generation, runtime, version }, 'ready')
    this.#tell({ notice: 'serving' })
  }

  #wholeTypes(): string[] {
    return this.#nameServers === undefined
      ? [TYPE.cluster, TYPE.upstreamPage, TYPE.listener]
      : [TYPE.cluster, TYPE.upstreamPage, TYPE.listener, TYPE.nameTable]
  }

  #pending(): string[] {
    if (this.#draining !== undefined) return ['draining']
    const types = this.#wholeTypes().filter((typeUrl) => !this.#applied.has(typeUrl))
    return [
      ...types.map((typeUrl) => `worker: ${typeUrl.slice(typeUrl.lastIndexOf('.') + 1)}`),
      ...this.#engine
        .listeners()
        .filter(({ phase }) => phase !== 'listening')
        .map(({ name, phase, detail }) => `listener ${name}: ${detail || phase}`),
      ...(this.#nameServers?.pending() ?? []),
    ]
  }

  async #onUpdate(typeUrl: string, { upserted, removed }: XdsUpdate): Promise<readonly Problem[]> {
    if (typeUrl === TYPE.nameTable) {
      const table = upserted.at(-1)
      if (table !== undefined) this.#names.set(decodeNameTable(table.body))
      else if (removed.length > 0) this.#names.set(new Map())
      this.#applies(typeUrl)
      return []
    }
    const problems: Problem[] = []
    // Traffic goes on meanwhile: however large an update is, a connection waits for a slice of it at most.
    await inSlices(portions(typeUrl, upserted, removed), ([some, gone]) => {
      problems.push(...this.#engine.update(typeUrl, some, gone))
      this.#references.update(typeUrl, some, gone)
    })
    this.#applies(typeUrl)
    this.#subscribe()
    return problems
  }

  #applies(typeUrl: string): void {
    this.#applied.add(typeUrl)
    if (this.#wholeTypes().every((one) => this.#applied.has(one))) this.#nameServers?.start()
  }

  #subscribe(): void {
    if (this.#generation === this.#references.generation) return
    this.#generation = this.#references.generation
    this.#follow(TYPE.endpoints, this.#references.endpoints())
    this.#follow(TYPE.secret, this.#references.secrets())
  }

  #follow(typeUrl: string, names: string[]): void {
    const before = this.#subscribed.get(typeUrl) ?? new Set()
    const now = new Set(names)
    this.#subscribed.set(typeUrl, now)
    this.#client.subscribe(typeUrl, names)
    // Nobody will tell us of these any more: what nothing refers to is let go.
    const gone = [...before].filter((name) => !now.has(name))
    if (gone.length > 0) this.#engine.update(typeUrl, [], gone)
  }

  async #drain(deadlineMs: number, delayMs: number): Promise<DrainReport> {
    this.#logger.info({ deadlineMs, delayMs }, 'draining')
    if (delayMs > 0) await new Promise<void>((resolve) => this.#clock.after(delayMs, resolve))
    const report = await this.#engine.drain(deadlineMs, this.#nameServers?.drain())
    this.#drained = true
    this.#logger.info({ ...report }, 'drained')
    this.#tell({ notice: 'drained', report: shortened(report) })
    return report
  }
}

/** Upstreams that are named to the launcher; the lifeline takes short messages only. All are named in our own log. */
const MAX_NAMED = 100

function shortened({ finished, cut }: DrainReport): DrainReport {
  const all = Object.entries(cut)
  const others = all.slice(MAX_NAMED).reduce((sum, [, count]) => sum + count, 0)
  return {
    finished,
    cut: { ...Object.fromEntries(all.slice(0, MAX_NAMED)), ...(others > 0 && { other: others }) },
  }
}

type Portion = readonly [upserted: readonly XdsResource[], removed: readonly string[]]

/** One resource at a time. Secrets together, because each change of one is a new TLS context for all that use it. */
function portions(typeUrl: string, upserted: readonly XdsResource[], removed: readonly string[]): Portion[] {
  if (typeUrl === TYPE.secret) return [[upserted, removed]]
  const added = upserted.map((one): Portion => [[one], []])
  const gone = removed.map((one): Portion => [[], [one]])
  // A listener that goes may leave its address to one that comes; anything else is replaced before it goes.
  return typeUrl === TYPE.listener ? [...gone, ...added] : [...added, ...gone]
}

/** How often a worker that is not ready yet looks whether it is. */
const READY_CHECK_MS = 50

const NOWHERE = { region: '', zone: '' }
