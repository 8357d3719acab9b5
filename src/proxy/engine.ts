import type { RevocationMode } from '../identity/revocation.ts'
import { SvidVerifier } from '../identity/verify-svid.ts'
import { type Clock, onClockJump, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, type Problem, problem, type Result } from '../lib/result.ts'
import { acceptEndpoints } from '../resources/accept-endpoints.ts'
import { acceptListener } from '../resources/accept-listener.ts'
import { listenerSecrets, upstreamSecrets } from '../resources/accept-references.ts'
import { acceptSecret } from '../resources/accept-secret.ts'
import type { EndpointsConfig, ListenerConfig, UpstreamConfig } from '../resources/accept-types.ts'
import { acceptUpstream } from '../resources/accept-upstream.ts'
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
import { Upstream, type UpstreamDeps } from './upstream.ts'
import { UpstreamNames } from './upstream-names.ts'
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

/** The upstream that never exists: what `tcp_proxy` behind `sni_cluster` names. */
const BLACK_HOLE = 'BlackHole'

/**
 * The data plane of one process: listeners, upstreams and secrets, configured by Envoy resources one at a time, each of which
 * comes into force alone or is refused alone. What was good before stays in force.
 */
export class Engine {
  readonly #name: string
  readonly #context: ProxyContext
  readonly #connector: Connector
  readonly #upstreamDeps: UpstreamDeps
  readonly #table: ConnectionTable
  readonly #listeners = new Map<string, Listener>()
  /** Removed, with connections that may finish. */
  readonly #retired = new Set<Listener>()
  readonly #byPort: ListenersByPort<Listener>
  readonly #upstreams = new Map<string, Upstream>()
  readonly #names = new UpstreamNames()
  readonly #endpoints = new Map<string, EndpointsConfig>()
  /** Upstreams by the name of their endpoints, so that a change costs what it changes. */
  readonly #usersOfEndpoints = new Map<string, Set<string>>()
  readonly #secrets = new SecretStore()
  /** Configurations whose secrets are not there yet; what was in force before still is. */
  readonly #warmingListeners = new Map<string, ListenerConfig>()
  readonly #warmingUpstreams = new Map<string, UpstreamConfig>()
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
    this.#upstreamDeps = {
      clock,
      logger,
      random,
      resolve: shared(options.resolve ?? createResolve(), clock),
      connector: this.#connector,
      gate: new ProbeGate(limits.healthChecks),
      forbidden: options.allowLocalEndpoints === true ? () => undefined : forbiddenAddress,
    }
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
      names: this.#names,
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
      upstreams: [...this.#upstreams.values()].map((upstream) => upstream.status()).sort(byName),
      secrets: this.#secrets.list().map((secret) => secretStatus(secret, this.#context.clock.now())),
      connections: { open, opening: connections.length - open },
      counters: this.#table.counters,
      problems: [
        ...this.#refused.values(),
        ...this.#bindProblems(),
        ...[...this.#upstreams.values()].flatMap((upstream) => upstream.problems()),
      ],
    }
  }

  /** The counters alone: cheap, however many upstreams there are. */
  stats(): TrafficStats {
    return this.#table.stats()
  }

  /** Sorted by name. */
  upstreamHealth(): UpstreamHealth[] {
    return [...this.#upstreams.values()].map((upstream) => upstream.health()).sort(byName)
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
    for (const upstream of this.#upstreams.values()) upstream.close()
    this.#listeners.clear()
    this.#upstreams.clear()
  }

  #upsert(typeUrl: string, resource: XdsResource): Problem | undefined {
    switch (typeUrl) {
      case TYPE.listener: {
        const config = acceptListener(resource)
        return config.ok ? this.#setListener(config.value) : config.error
      }
      case TYPE.cluster: {
        const config = acceptUpstream(resource)
        return config.ok ? this.#setUpstream(config.value) : config.error
      }
      case TYPE.endpoints: {
        const config = acceptEndpoints(resource)
        if (!config.ok) return config.error
        this.#endpoints.set(resource.name, config.value)
        for (const name of this.#usersOfEndpoints.get(resource.name) ?? [])
          this.#upstreams.get(name)?.setEndpoints(config.value)
        return undefined
      }
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
    if (typeUrl === TYPE.cluster) this.#removeUpstream(name)
    // As in Envoy, endpoints and secrets leave with what refers to them; alone they stay as they were last.
    if (typeUrl === TYPE.endpoints && !this.#usersOfEndpoints.has(name)) this.#endpoints.delete(name)
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

  #setUpstream(config: UpstreamConfig): Problem | undefined {
    if (config.name === BLACK_HOLE)
      return problem(`Cluster ${BLACK_HOLE}`, 'name', 'expected another name: this one never exists')
    const current = this.#upstreams.get(config.name)
    // A first version is there at once and says what it waits for; a later one waits while the one before it serves.
    if (current !== undefined && this.#secrets.missing(upstreamSecrets(config)).length > 0) {
      this.#warmingUpstreams.set(config.name, config)
      return undefined
    }
    this.#warmingUpstreams.delete(config.name)
    const upstream = current ?? new Upstream(config, this.#upstreamDeps)
    if (current !== undefined) this.#unlinkEndpoints(current)
    this.#upstreams.set(config.name, upstream)
    this.#names.set(config)
    const users = this.#usersOfEndpoints.get(config.endpointsName) ?? new Set()
    this.#usersOfEndpoints.set(config.endpointsName, users.add(config.name))
    if (current !== undefined) upstream.update(config)
    const endpoints = this.#endpoints.get(config.endpointsName)
    if (endpoints !== undefined) upstream.setEndpoints(endpoints)
    return undefined
  }

  #removeUpstream(name: string): void {
    const upstream = this.#upstreams.get(name)
    if (upstream === undefined) return
    upstream.close()
    this.#unlinkEndpoints(upstream)
    this.#upstreams.delete(name)
    this.#names.delete(name)
    this.#warmingUpstreams.delete(name)
    const gone = ({ facts }: { facts: { upstream: string } }) =>
      facts.upstream === name && !this.#upstreams.has(name)
    this.#context.drainWhere(gone, `upstream ${name} was removed`)
  }

  #secretsChanged(): void {
    this.#connector.forgetContexts()
    this.#crlWatch.update()
    for (const config of [...this.#warmingUpstreams.values()]) this.#setUpstream(config)
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

  #unlinkEndpoints({ name, config }: Upstream): void {
    const users = this.#usersOfEndpoints.get(config.endpointsName)
    users?.delete(name)
    if (users?.size === 0) this.#usersOfEndpoints.delete(config.endpointsName)
  }

  #secretNeeded(name: string): boolean {
    const listeners = [...this.#listeners.values()].flatMap(({ config }) => listenerSecrets(config))
    const upstreams = [...this.#upstreams.values()].flatMap(({ config }) => upstreamSecrets(config))
    return listeners.includes(name) || upstreams.includes(name)
  }

  #bindProblems(): Problem[] {
    return [...this.#listeners.values()].flatMap((listener) => listener.problem ?? [])
  }
}

function sameAddress({ address: a }: ListenerConfig, { address: b }: ListenerConfig): boolean {
  return a.host === b.host && a.port === b.port
}
