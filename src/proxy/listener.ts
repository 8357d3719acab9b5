import { type AddressInfo, createServer, isIP, type Server, type Socket } from 'node:net'
import { Backoff } from '../lib/backoff.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { listenerSecrets } from '../resources/accept-references.ts'
import type { ListenerConfig } from '../resources/accept-types.ts'
import type { Ending } from './access-log.ts'
import type { Addresses, Connection, ConnectionState } from './connection.ts'
import type { InheritedListener, ProxyContext } from './context.ts'
import { formatAddress } from './endpoint.ts'
import { connectUpstream, forward, plainEnd, splice } from './forward.ts'
import { Judge } from './judge.ts'
import { acceptProxyHeader } from './proxy-protocol-accept.ts'
import { compileRanges } from './rbac-matchers.ts'
import { type ServedChain, ServedChains } from './served-chains.ts'
import { serviceUnavailable } from './service-unavailable.ts'
import { TlsAcceptor } from './tls-acceptor.ts'

/** An address is only there with the phase that has one. */
export type ListenerState =
  /** Secrets are missing: the port is not open. */
  | { readonly phase: 'waiting'; readonly missing: readonly string[] }
  | { readonly phase: 'binding' }
  | { readonly phase: 'listening'; readonly host: string; readonly port: number }
  /** The address cannot be bound; tried again until it can. */
  | { readonly phase: 'failed'; readonly detail: string }
  | { readonly phase: 'closed' }

export interface ListenerStatus {
  readonly name: string
  readonly version: string
  /** As configured, `ip:port`; the real port once it listens. */
  readonly address: string
  readonly phase: ListenerState['phase']
  readonly detail: string
  readonly service: ListenerConfig['service']
  readonly connections: number
}

/** A client inside this process (SOCKS, CONNECT) whose upstream is there: its bytes may flow. */
export interface Session {
  /** Carries the socket's bytes; `head` was read from it already. The socket is ours from here on. */
  splice(socket: Socket, head: Buffer): void
  /** Gives up before or instead of `splice`. */
  close(): void
}

export interface Downstream {
  readonly remoteAddress: string
  /** The name that the client asked for. */
  readonly host: string
}

/** One listening address and what happens to what arrives there. Its configuration can change under it; its socket stays. */
export class Listener {
  readonly name: string
  readonly #context: ProxyContext
  readonly #acceptor: TlsAcceptor
  readonly #judge: Judge
  readonly #chains: ServedChains
  readonly #backoff = new Backoff({ baseMs: 250, maxMs: 5_000 })
  readonly #waiters = new Set<() => void>()
  readonly #connections = new Set<Connection>()
  readonly #forget = (connection: Connection) => void this.#connections.delete(connection)
  #config: ListenerConfig
  /** From accept until the ClientHello is whole: which chain it is for shows only then. */
  #helloTimeoutMs = 0
  #speaksForOthers: (ip: string) => boolean = () => false
  #state: ListenerState
  #server: Server | undefined
  #inherited: InheritedListener | undefined
  #cancelRetry: (() => void) | undefined

  constructor(config: ListenerConfig, context: ProxyContext) {
    this.name = config.name
    this.#config = config
    this.#context = context
    this.#state = { phase: 'waiting', missing: context.secrets.missing(listenerSecrets(config)) }
    const self = this
    this.#judge = new Judge(context)
    this.#chains = new ServedChains(context.secrets, {
      onSecure: (raw, stream) => this.#orDestroy(stream, () => this.#acceptor.onSecure(raw, stream)),
      onFailure: (raw, ending) => this.#orDestroy(raw, () => this.#acceptor.onFailure(raw, ending)),
    })
    this.#acceptor = new TlsAcceptor(context, this.#judge, {
      find: (hello) => this.#chains.find(hello),
      get: (key) => this.#chains.get(key),
      all: () => this.#chains.all(),
      get helloTimeoutMs() {
        return self.#helloTimeoutMs
      },
    })
  }

  get config(): ListenerConfig {
    return this.#config
  }

  get state(): ListenerState {
    return this.#state
  }

  /** Where it listens, or will. */
  get boundTo(): { readonly host: string; readonly port: number } {
    return this.#state.phase === 'listening' ? this.#state : this.#config.address
  }

  /**
   * Puts a configuration in force whose secrets are all there, and binds its address. A problem leaves what was in force
   * before. Open connections stay, judged by the new policy; also those of a listener that is closed, which it stays.
   */
  apply(config: ListenerConfig): Problem | undefined {
    const replaced = this.#chains.replace(config.chains)
    if (!replaced.ok) return replaced.error
    this.#config = config
    this.#helloTimeoutMs = config.chains.reduce(
      (longest, { tls }) => Math.max(longest, tls?.handshakeTimeoutMs ?? config.helloTimeoutMs),
      0,
    )
    this.#speaksForOthers = compileRanges(config.proxyProtocol?.sources ?? [])
    if (replaced.value.size > 0) this.#drainChains(replaced.value)
    this.rejudge()
    if (this.#server === undefined && this.#state.phase !== 'closed') this.#bind()
    return undefined
  }

  /** Takes over secrets that changed. */
  refreshSecrets(): Problem | undefined {
    return this.#config.chains.some(({ tls }) => tls !== undefined) ? this.apply(this.#config) : undefined
  }

  /** Whether it has no connection. */
  get idle(): boolean {
    return this.#connections.size === 0
  }

  /** Resolves when it listens or has failed to. */
  settled(): Promise<void> {
    if (this.#state.phase !== 'binding') return Promise.resolve()
    return new Promise((resolve) => this.#waiters.add(resolve))
  }

  /** Why the port is not open, as a problem of the resource. */
  get problem(): Problem | undefined {
    if (this.#state.phase !== 'failed') return undefined
    const { host, port } = this.#config.address
    return problem(
      `Listener ${this.name}`,
      'address',
      `${formatAddress(host, port)} cannot be bound: ${this.#state.detail}`,
    )
  }

  /** Connects for a client inside this process, as if it had connected to the address. */
  async open(downstream: Downstream): Promise<Result<Session, Ending>> {
    const served = this.#chains.first
    if (served?.config.mode !== 'plain') return fail({ flag: 'NR', reason: `${this.name} serves TLS only` })
    const connection = this.#admit(downstream.remoteAddress, { phase: 'connecting' })
    if (connection === undefined) return fail(OVERFLOW)
    const { remoteAddress: from } = downstream
    const remoteIp = isIP(from) === 0 ? from.slice(0, from.lastIndexOf(':')) : from
    const { host, port } = this.#config.address
    connection.addresses = { remoteIp, directRemoteIp: remoteIp, destinationIp: host, port }
    const admitted = this.#admitPlain(connection, served)
    if (!admitted.ok) {
      connection.end(admitted.error, 'leave')
      return admitted
    }
    const chain = served.config
    const result = await connectUpstream(this.#context, connection, chain, chain.upstream)
    if (!result.ok) {
      connection.end(result.error, 'leave')
      return result
    }
    const upstream = result.value
    const giveUp = () => {
      if (connection.state.phase !== 'connecting') return
      upstream.raw.destroy()
      connection.end({ flag: 'DC', reason: 'the client left before its first byte' }, 'leave')
    }
    connection.onEnd(() => {
      if (connection.downstream === undefined) upstream.raw.destroy()
    })
    return ok({
      splice: (socket, head) => {
        if (!connection.ended) {
          this.#context.guard(connection, () =>
            splice(this.#context, connection, chain, plainEnd(socket), upstream, head),
          )
        }
        if (connection.ended) {
          socket.destroy()
          upstream.raw.destroy()
        }
      },
      close: giveUp,
    })
  }

  /** Stops accepting. Open connections go on. */
  close(): void {
    this.#state = { phase: 'closed' }
    this.#cancelRetry?.()
    this.#server?.close()
    this.#server = undefined
    this.#inherited?.release()
    this.#settle()
  }

  status(): ListenerStatus {
    const state = this.#state
    const { address, service, version } = this.#config
    const bound = state.phase === 'listening' ? state : address
    return {
      name: this.name,
      version,
      address: formatAddress(bound.host, bound.port),
      phase: state.phase,
      detail:
        state.phase === 'failed'
          ? state.detail
          : state.phase === 'waiting'
            ? `waits for secret ${state.missing.join(', ')}`
            : '',
      service,
      connections: this.#connections.size,
    }
  }

  /** Judges what is open by the policy and trust that are in force now. */
  rejudge(): void {
    for (const connection of [...this.#connections]) {
      this.#context.guard(connection, () => this.#acceptor.rejudge(connection))
    }
  }

  #drainChains(keys: ReadonlySet<string>): void {
    const served = ({ chain, listener }: Connection) =>
      listener === this.name && keys.has(chain) && !this.#chains.has(chain)
    this.#context.drainWhere(served, `filter chain ${[...keys].join(', ')} of ${this.name} was removed`)
  }

  #admit(remoteAddress: string, state: ConnectionState): Connection | undefined {
    const connection = this.#context.admit(
      { listener: this.name, service: this.#config.service, remoteAddress },
      state,
    )
    if (connection === undefined) return undefined
    this.#connections.add(connection)
    connection.onEnd(this.#forget)
    return connection
  }

  #bind(): void {
    const { host, port } = this.#config.address
    this.#state = { phase: 'binding' }
    const inherited = this.#context.inheritedSocket(host, port)
    if (inherited !== undefined && 'problem' in inherited) {
      this.#cannotBind(inherited.problem)
      return
    }
    this.#inherited = inherited
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (raw) =>
      this.#orDestroy(raw, () => this.#accept(raw)),
    )
    this.#server = server
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#server !== server || this.#state.phase !== 'binding') {
        this.#context.logger.error({ listener: this.name, err: error }, 'listener error')
        return
      }
      this.#server = undefined
      this.#inherited?.release()
      this.#cannotBind(error.code ?? error.message)
    })
    const { reusePort } = this.#context
    server.listen(inherited === undefined ? { host, port, exclusive: true, reusePort } : inherited, () => {
      const bound = server.address() as AddressInfo
      if (this.#server !== server) return
      this.#backoff.reset()
      this.#state = { phase: 'listening', host: bound.address, port: bound.port }
      this.#context.logger.info(
        { listener: this.name, address: formatAddress(bound.address, bound.port) },
        'listening',
      )
      this.#settle()
    })
  }

  #cannotBind(detail: string): void {
    this.#state = { phase: 'failed', detail }
    this.#context.logger.error(
      { listener: this.name, problem: this.problem },
      'listener cannot bind its address',
    )
    this.#cancelRetry = this.#context.clock.after(this.#backoff.next(), () => this.#bind())
    this.#settle()
  }

  #settle(): void {
    for (const waiter of this.#waiters) waiter()
    this.#waiters.clear()
  }

  /** A fault of ours where no connection is at hand to be ended costs this one socket. */
  #orDestroy(socket: Socket, run: () => void): void {
    try {
      run()
    } catch (error) {
      this.#context.logger.error({ err: error, listener: this.name }, 'BUG: a callback of a socket threw')
      socket.on('error', () => {})
      socket.destroy()
    }
  }

  #accept(raw: Socket): void {
    // Either every chain is of plain TCP or none is.
    const tls = this.#config.chains[0]?.mode !== 'plain'
    const addresses = this.#addresses(raw)
    const remoteAddress = formatAddress(addresses.directRemoteIp, raw.remotePort ?? 0)
    const spokenFor = this.#speaksForOthers(addresses.directRemoteIp)
    // Whoever reads a ClientHello or a header listens at once; here nobody reads before the upstream is there.
    if (!tls && !spokenFor) raw.pause()
    const connection = this.#admit(remoteAddress, { phase: tls || spokenFor ? 'hello' : 'connecting' })
    if (connection === undefined) {
      raw.on('error', () => {})
      raw.resetAndDestroy()
      return
    }
    connection.downstream = plainEnd(raw)
    connection.addresses = addresses
    const serve = () => {
      const chain = this.#chains.first
      if (tls) this.#acceptor.accept(connection, raw)
      else if (chain !== undefined) this.#forwardPlain(connection, chain, raw)
    }
    this.#context.guard(connection, () => {
      connection.watch(raw)
      const { proxyProtocol, helloTimeoutMs } = this.#config
      if (!spokenFor || proxyProtocol === undefined) serve()
      else
        acceptProxyHeader(
          this.#context,
          connection,
          raw,
          { ...proxyProtocol, timeoutMs: helloTimeoutMs },
          serve,
        )
    })
  }

  #addresses(raw: Socket): Addresses {
    const remoteIp = raw.remoteAddress ?? ''
    const port = this.#state.phase === 'listening' ? this.#state.port : this.#config.address.port
    return { remoteIp, directRemoteIp: remoteIp, destinationIp: raw.localAddress ?? '', port }
  }

  #forwardPlain(connection: Connection, chain: ServedChain, raw: Socket): void {
    const admitted = this.#admitPlain(connection, chain)
    if (!admitted.ok) {
      connection.end(admitted.error, 'close')
      return
    }
    const route = { chain: chain.config, upstream: chain.config.upstream, downstream: plainEnd(raw) }
    void forward(this.#context, connection, route, (ending) => {
      if (this.#config.service.protocol === 'http') serviceUnavailable(connection, raw, ending)
      else connection.end(ending, 'close')
    })
  }

  /** Plain TCP has no identity and no name: what policy can go by is who connects where. */
  #admitPlain(connection: Connection, chain: ServedChain): Result<void, Ending> {
    connection.chain = chain.key
    if (chain.config.rbac.length === 0) return ok(undefined)
    const caller = { ...connection.addresses, id: undefined, serverName: '', otherNames: [] }
    connection.peer = { caller, proof: undefined }
    return this.#judge.admit(connection, chain.policy, caller)
  }
}

const OVERFLOW: Ending = { flag: 'UO', reason: 'too many connections are open' }
