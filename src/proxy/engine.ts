import type { RevocationMode } from '../identity/revocation.ts'
import { SvidVerifier } from '../identity/verify-svid.ts'
import { type Clock, onClockJump, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, type Problem, type Result } from '../lib/result.ts'
import { acceptListener } from '../resources/accept-listener.ts'
import { listenerSecrets } from '../resources/accept-references.ts'
import { acceptSecret } from '../resources/accept-secret.ts'
import type { ListenerConfig } from '../resources/accept-types.ts'
import { TYPE, type XdsResource } from '../xds/types.ts'
import type { AccessLogEntry, Ending } from './access-log.ts'
import { HandshakeAdmission } from './admission.ts'
import { ConnectionTable } from './connection-table.ts'
import { Connector } from './connector.ts'
import { DEFAULT_LIMITS, type InheritedSocket, type ProxyContext, type ProxyLimits } from './context.ts'
import { CrlWatch } from './crl-watch.ts'
import { Dialer } from './dial.ts'
import {
  byName,
  countPhases,
  type DrainReport,
  type EngineStatus,
  type SecretStatus,
  secretStatus,
} from './engine-status.ts'
import { forbiddenAddress } from './forbidden-address.ts'
import { rejudgeServers } from './forward.ts'
import { ProbeGate } from './health/probe-gate.ts'
import { type Downstream, Listener, type ListenerStatus, type Session } from './listener.ts'
import { ListenersByPort } from './listeners-by-port.ts'
import { createResolve, type Resolve, shared } from './resolve.ts'
import { SecretStore } from './secrets.ts'
import type { TrafficStats } from './traffic-stats.ts'
import { UpstreamRegistry } from './upstream-registry.ts'
import type { UpstreamHealth } from './upstream-status.ts'

export type { Downstream, DrainReport, EngineStatus, SecretStatus, Session, UpstreamHealth }

export interface EngineOptions {
  /** Shown in the status: `gateway`, `sidecar`. */
  readonly name: string
  readonly logger: Logger
  /** One call for each connection, when it has ended. */
  readonly accessLog: (entry: AccessLogEntry) => void
  readonly clock?: Clock
  readonly limits?: Partial<ProxyLimits>
  /** Several processes listen on the same addresses (SO_REUSEPORT). Default false. */
  readonly reusePort?: boolean
  /** Listening sockets that were made for this process by another. Default: none. */
  readonly inheritedSocket?: InheritedSocket
  readonly resolve?: Resolve
  readonly random?: () => number
  /** Endpoints may name loopback, link-local and metadata addresses: for one machine that plays many. Default false. */
  readonly allowLocalEndpoints?: boolean | undefined
  /** What a missing or expired CRL means. Default `soft-fail`. */
  readonly revocation?: RevocationMode | undefined
}

/**
 * The data plane of one process: listeners, upstreams and secrets, configured by Envoy resources one at a time, each of which
 * comes into force alone or is refused alone. What was good before stays in force.
 */
export class Engine {
  readonly #name: string
  readonly #context: ProxyContext
  readonly #connector: Connector
  readonly #table: ConnectionTable
  readonly #listeners = new Map<string, Listener>()
  /** Removed, with connections that may finish. */
  readonly #retired = new Set<Listener>()
  readonly #byPort: ListenersByPort<Listener>
  readonly #upstreams: UpstreamRegistry
  readonly #secrets = new SecretStore()
  /** Configurations whose secrets are not there yet; what was in force before still is. */
  readonly #warmingListeners = new Map<string, ListenerConfig>()
  /** By `type name`. */
  readonly #refused = new Map<string, Problem>()
  readonly #dialer: Dialer
  readonly #crlWatch: CrlWatch
  readonly #cancelJumps: () => void
  #draining = false
  #opensNoMore = false

  constructor(options: EngineOptions) {
    const { clock = systemClock, logger } = options
    const limits = { ...DEFAULT_LIMITS, ...options.limits }
    const mode = options.revocation ?? 'soft-fail'
    const verifier = new SvidVerifier({ revocation: mode })
    this.#crlWatch = new CrlWatch({
      ...{ clock, logger, mode },
      crls: () => this.#secrets.crls(),
      onEnd: () => this.#secretsChanged(),
    })
    this.#name = options.name
    const random = options.random ?? Math.random
    this.#table = new ConnectionTable({
      clock,
      logger,
      capacity: limits.connections,
      accessLog: options.accessLog,
      isUpstream: (name) => this.#upstreams.has(name),
    })
    this.#byPort = new ListenersByPort(this.#listeners, clock)
    const isOwnListener = (host: string, port: number) => this.#byPort.reaches(host, port)
    this.#connector = new Connector({ clock, secrets: this.#secrets, verifier })
    this.#dialer = new Dialer({ clock, connector: this.#connector, random, isOwnListener })
    this.#upstreams = new UpstreamRegistry({
      deps: {
        clock,
        logger,
        random,
        resolve: shared(options.resolve ?? createResolve(), clock),
        connector: this.#connector,
        gate: new ProbeGate(limits.healthChecks),
        forbidden: options.allowLocalEndpoints === true ? () => undefined : forbiddenAddress,
      },
      secrets: this.#secrets,
      onRemoved: (name) => this.#upstreamRemoved(name),
    })
    this.#context = {
      clock,
      logger,
      limits,
      reusePort: options.reusePort ?? false,
      inheritedSocket: options.inheritedSocket ?? (() => undefined),
      secrets: this.#secrets,
      verifier,
      dialer: this.#dialer,
      admission: new HandshakeAdmission({
        inFlight: limits.handshakes,
        perTurn: limits.handshakesPerTurn,
        waiting: limits.waitingHandshakes,
      }),
      upstreams: this.#upstreams,
      names: this.#upstreams,
      connections: this.#table.connections,
      admit: (init, state) => this.#table.admit(init, state),
      shadow: (verdict) => this.#table.shadow(verdict),
      drainWhere: (matches, why) => this.#table.drainWhere(matches, limits.drainMs, why),
      guard: (connection, run) => this.#table.guard(connection, run),
      fault: (connection, error) => this.#table.fault(connection, error),
    }
    this.#cancelJumps = onClockJump(clock, (byMs) => {
      logger.warn({ byMs }, 'the clock was set, or this machine slept: open connections are judged again')
      for (const listener of [...this.#listeners.values(), ...this.#retired]) listener.rejudge()
      rejudgeServers(this.#context, this.#connector)
    })
  }

  /**
   * Takes resources of one type. Each is checked and put in force alone; the problems name those that were refused, of which
   * the last good version stays in force. A listener's address is bound later: see `whenBound`.
   */
  update(typeUrl: string, upserted: readonly XdsResource[], removed: readonly string[]): readonly Problem[] {
    const problems: Problem[] = []
    // A listener that goes may leave its address to one that comes.
    if (typeUrl === TYPE.listener) for (const name of removed) this.#remove(typeUrl, name)
    for (const resource of upserted) {
      const found = this.#upsert(typeUrl, resource)
      const key = `${typeUrl} ${resource.name}`
      if (found === undefined) this.#refused.delete(key)
      else this.#refused.set(key, found)
      if (found !== undefined) problems.push(found)
    }
    for (const name of removed) {
      this.#refused.delete(`${typeUrl} ${name}`)
      if (typeUrl !== TYPE.listener) this.#remove(typeUrl, name)
    }
    if (typeUrl === TYPE.secret) this.#secretsChanged()
    return problems
  }

  /** Resolves when no listener is binding any more, with a problem for each whose address cannot be bound. */
  async whenBound(): Promise<readonly Problem[]> {
    await Promise.all([...this.#listeners.values()].map((listener) => listener.settled()))
    return this.#bindProblems()
  }

  /**
   * Connects as if a client had connected to `address:port`, which a listener of this engine must own. The ending says why not,
   * in the words of the access log.
   */
  async open(address: string, port: number, downstream: Downstream): Promise<Result<Session, Ending>> {
    if (this.#opensNoMore) return fail({ flag: 'DRAIN', reason: 'this proxy is draining' })
    const listener = this.#byPort.at(address, port)
    if (listener === undefined)
      return fail({ flag: 'NR', reason: `nothing listens on ${address}:${port} for ${downstream.host}` })
    return listener.open(downstream)
  }

  status(): EngineStatus {
    const connections = [...this.#table.connections]
    const open = connections.filter(({ state }) => state.phase === 'open').length
    return {
      name: this.#name,
      listeners: this.listeners(),
      upstreams: [...this.#upstreams.live()].map((upstream) => upstream.status()).sort(byName),
      secrets: this.#secrets.list().map((secret) => secretStatus(secret, this.#context.clock.now())),
      connections: { open, opening: connections.length - open },
      counters: this.#table.counters,
      problems: [...this.#refused.values(), ...this.#bindProblems(), ...this.#upstreams.problems()],
    }
  }

  /** The counters alone: cheap, however many upstreams there are. */
  stats(): TrafficStats {
    return this.#table.stats()
  }

  /** Of those in force, sorted by name. */
  upstreamHealth(): UpstreamHealth[] {
    return [...this.#upstreams.live()].map((upstream) => upstream.health()).sort(byName)
  }

  /** How many listeners are in each phase. */
  listeners(): ListenerStatus[] {
    return [...this.#listeners.values()].map((listener) => listener.status()).sort(byName)
  }

  listenerPhases(): Record<string, number> {
    return countPhases(this.#listeners.values())
  }

  /**
   * Stops accepting; resolves when the last connection has ended, or cuts what is left at the deadline. Until `asking` resolves
   * `open` goes on: those who were accepted elsewhere before are still to be led here.
   */
  async drain(deadlineMs: number, asking: Promise<void> = Promise.resolve()): Promise<DrainReport> {
    this.#draining = true
    for (const listener of this.#listeners.values()) listener.close()
    void asking.then(() => {
      this.#opensNoMore = true
    })
    return this.#table.drain(deadlineMs, this.#context.clock, asking)
  }

  /** Ends everything now. */
  async close(): Promise<void> {
    this.#crlWatch.stop()
    this.#cancelJumps()
    await this.drain(0)
    this.#upstreams.close()
    this.#listeners.clear()
  }

  #upsert(typeUrl: string, resource: XdsResource): Problem | undefined {
    switch (typeUrl) {
      case TYPE.listener: {
        const config = acceptListener(resource)
        return config.ok ? this.#setListener(config.value) : config.error
      }
      case TYPE.cluster:
        return this.#upstreams.setCluster(resource)
      case TYPE.endpoints:
        return this.#upstreams.setEndpoints(resource)
      case TYPE.upstreamPage:
        return this.#upstreams.setPage(resource)
      case TYPE.secret: {
        const secret = acceptSecret(resource)
        if (!secret.ok) return secret.error
        this.#secrets.set(secret.value)
        return undefined
      }
      default:
        // NDS and whatever else the stream carries is for other parts.
        return undefined
    }
  }

  #remove(typeUrl: string, name: string): void {
    if (typeUrl === TYPE.listener) this.#removeListener(name)
    if (typeUrl === TYPE.cluster) this.#upstreams.removeCluster(name)
    if (typeUrl === TYPE.endpoints) this.#upstreams.removeEndpoints(name)
    if (typeUrl === TYPE.upstreamPage) this.#upstreams.removePage(name)
    // As in Envoy, secrets leave with what refers to them; alone they stay as they were last.
    if (typeUrl === TYPE.secret && !this.#secretNeeded(name)) this.#secrets.delete(name)
  }

  #setListener(config: ListenerConfig): Problem | undefined {
    const current = this.#listeners.get(config.name)
    if (this.#draining && current === undefined) return undefined
    const warming = this.#secrets.missing(listenerSecrets(config)).length > 0
    if (current === undefined) this.#listeners.set(config.name, new Listener(config, this.#context))
    this.#byPort.changed()
    if (warming) {
      this.#warmingListeners.set(config.name, config)
      return undefined
    }
    this.#warmingListeners.delete(config.name)
    if (current !== undefined && !this.#draining && !sameAddress(current.config, config)) {
      this.#removeListener(config.name)
      this.#listeners.set(config.name, new Listener(config, this.#context))
    }
    // What is still open at an address that it had answers to the new policy.
    for (const old of this.#retired) if (old.name === config.name) this.#report(old.apply(config))
    return this.#listeners.get(config.name)?.apply(config)
  }

  #removeListener(name: string): void {
    const listener = this.#listeners.get(name)
    if (listener === undefined) return
    listener.close()
    if (!listener.idle) this.#retired.add(listener)
    this.#listeners.delete(name)
    this.#byPort.changed()
    this.#warmingListeners.delete(name)
    this.#context.drainWhere(({ listener: owner }) => owner === name, `listener ${name} was removed`)
  }

  #upstreamRemoved(name: string): void {
    const gone = ({ facts }: { facts: { upstream: string } }) =>
      facts.upstream === name && !this.#upstreams.has(name)
    this.#context.drainWhere(gone, `upstream ${name} was removed`)
  }

  #secretsChanged(): void {
    this.#connector.forgetContexts()
    this.#crlWatch.update()
    this.#upstreams.secretsChanged()
    for (const config of [...this.#warmingListeners.values()]) this.#report(this.#setListener(config))
    for (const listener of [...this.#listeners.values(), ...this.#retired]) {
      if (listener.idle) this.#retired.delete(listener)
      const complete = this.#secrets.missing(listenerSecrets(listener.config)).length === 0
      if (complete) this.#report(listener.refreshSecrets())
    }
    rejudgeServers(this.#context, this.#connector)
  }

  #report(found: Problem | undefined): void {
    if (found !== undefined) this.#context.logger.error({ problem: found }, 'a secret cannot be put in force')
  }

  #secretNeeded(name: string): boolean {
    const listeners = [...this.#listeners.values()].flatMap(({ config }) => listenerSecrets(config))
    return listeners.includes(name) || this.#upstreams.needsSecret(name)
  }

  #bindProblems(): Problem[] {
    return [...this.#listeners.values()].flatMap((listener) => listener.problem ?? [])
  }
}

function sameAddress({ address: a }: ListenerConfig, { address: b }: ListenerConfig): boolean {
  return a.host === b.host && a.port === b.port
}
