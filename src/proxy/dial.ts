import { Backoff } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { TransportSocketConfig } from '../resources/accept-types.ts'
import type { UpstreamProxyProtocolConfig } from '../resources/upstream-types.ts'
import type { Ending } from './access-log.ts'
import { Cancellation, type Connected, type ConnectFailure, type Connector } from './connector.ts'
import type { Endpoint } from './endpoint.ts'
import { type ProxiedConnection, proxyHeader, type Tlv } from './proxy-protocol-encode.ts'
import type { Upstream } from './upstream.ts'

export interface DialDeps {
  readonly clock: Clock
  readonly connector: Pick<Connector, 'connect'>
  readonly random: () => number
  /** Whether a listener of this very proxy answers there: connecting to it would go round for ever. */
  readonly isOwnListener: (host: string, port: number) => boolean
}

/** A connection to an endpoint, ready for payload. */
export interface Dialled extends Connected {
  readonly endpoint: Endpoint
}

/** What is known of the connection that an upstream is dialled for. */
export interface DialOptions {
  /** Endpoints to try. */
  readonly attempts: number
  /** Delays between them; undefined: none. */
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number } | undefined
  /** What will be sent is the client's own mesh TLS, so only what terminates that is called, and without TLS of ours. */
  readonly passthrough?: boolean
  /** For policies that hash; undefined: any endpoint will do. */
  readonly hash?: bigint | undefined
  /** Asked for where the endpoint wants a PROXY header. */
  readonly proxied?: () => {
    readonly connection: ProxiedConnection | undefined
    readonly tlvs: readonly Tlv[]
  }
}

/** Ends an attempt from outside; what was opened is closed. */
export interface DialHandle {
  readonly result: Promise<Result<Dialled, Ending>>
  cancel(): void
}

/**
 * Connects to an endpoint of the upstream; where that fails, to the next one, up to `attempts` times, which is safe because no
 * byte of payload has been sent. Raw or mutual TLS as the endpoint's metadata says. `UH` when nothing was left to try, `UO` when a
 * circuit breaker of the upstream is open.
 */
export class Dialer {
  readonly #deps: DialDeps

  constructor(deps: DialDeps) {
    this.#deps = deps
  }

  dial(upstream: Upstream, options: DialOptions): DialHandle {
    const cancellation = new Cancellation()
    // A throw is a bug of ours, and may cost this one connection.
    const result = this.#dial(upstream, options, cancellation).catch((error: unknown) =>
      fail<Ending>({ flag: 'BUG', reason: error instanceof Error ? error.message : String(error) }),
    )
    return { result, cancel: () => cancellation.cancel() }
  }

  async #dial(
    upstream: Upstream,
    options: DialOptions,
    cancellation: Cancellation,
  ): Promise<Result<Dialled, Ending>> {
    const tried = new Set<Endpoint>()
    const dropped = upstream.dropped()
    if (dropped !== undefined) return fail({ flag: 'UO', reason: dropped })
    let last: Ending | undefined
    let backoff: Backoff | undefined
    for (let attempt = 0; attempt < options.attempts; attempt += 1) {
      if (attempt > 0 && options.backoff !== undefined) {
        backoff ??= new Backoff({ ...options.backoff, random: this.#deps.random })
        await this.#pause(backoff.next(), cancellation)
        if (cancellation.cancelled) break
      }
      const chosen = upstream.choose(tried, options.hash, attempt > 0)
      if (!chosen.ok) {
        // What the first attempt met says more than that there was no second one, unless a limit forbade it.
        last = chosen.error.flag === 'UO' ? chosen.error : (last ?? chosen.error)
        break
      }
      const endpoint = chosen.value
      tried.add(endpoint)
      const result = await this.#connect(upstream, endpoint, options, attempt > 0, cancellation)
      if (result.ok) return result
      last = result.error
      if (cancellation.cancelled || result.error.hopeless) break
    }
    const { flag, reason } = last ?? { flag: 'UH', reason: `no healthy upstream: ${upstream.whyNone()}` }
    return fail({ flag, reason })
  }

  async #connect(
    upstream: Upstream,
    endpoint: Endpoint,
    options: DialOptions,
    retrying: boolean,
    cancellation: Cancellation,
  ): Promise<Result<Dialled, Ending & { readonly hopeless: boolean }>> {
    const socket = upstream.socketFor(endpoint)
    const unfit = this.#unfit(endpoint, socket, options.passthrough ?? false)
    if (unfit !== undefined) return fail({ flag: 'UF', reason: `${endpoint.name} ${unfit}`, hopeless: false })
    const header = headerFor(socket.proxyProtocol, options)
    if (header === 'too long')
      return fail({
        flag: 'UF',
        reason: `${endpoint.name}: its PROXY header would be longer than 65,535 bytes`,
        hopeless: true,
      })
    const attempt = upstream.connecting(endpoint, retrying)
    const connected = await this.#deps.connector.connect(endpoint.host, endpoint.port, socket, {
      timeoutMs: upstream.config.connectTimeoutMs,
      keepalive: upstream.config.keepalive,
      header,
      cancellation,
    })
    const result = stillThere(connected)
    if (result.ok) {
      try {
        attempt.succeeded(result.value)
      } catch (error) {
        // Nobody else knows of the socket yet.
        result.value.raw.destroy()
        throw error
      }
      return ok({ ...result.value, endpoint })
    }
    attempt.failed(result.error)
    return fail({ ...endingOf(endpoint, result.error), hopeless: result.error.code === 'EMFILE' })
  }

  /**
   * Why an endpoint is not called at all. Upstream and endpoints are two resources, and one may be there before the other or be
   * refused: what wants mutual TLS gets that or nothing, never a word in clear.
   */
  #unfit(
    { config, host, port }: Endpoint,
    socket: TransportSocketConfig,
    passthrough: boolean,
  ): string | undefined {
    const mesh = config.socketMetadata['tlsMode'] === 'istio'
    if (passthrough && !mesh)
      return 'is no mesh workload (tlsMode istio), and only to these TLS is passed through'
    if (passthrough && socket.kind === 'tls')
      return 'is to be spoken to over TLS of ours, inside which no TLS is passed through'
    if (!passthrough && mesh && socket.kind === 'raw')
      return 'wants mutual TLS, for which its upstream has no settings now'
    return this.#deps.isOwnListener(host, port) ? 'is a listener of this proxy itself' : undefined
  }

  #pause(ms: number, cancellation: Cancellation): Promise<void> {
    return new Promise((resolve) => {
      const cancelTimer = this.#deps.clock.after(ms, () => {
        cancellation.listener = undefined
        resolve()
      })
      cancellation.listener = () => {
        cancelTimer()
        resolve()
      }
    })
  }
}

/**
 * A socket may be gone between its connect and whoever waits for it, when the PROXY header meets a reset: nobody after us would hear of its
 * end. It counts as never connected.
 */
function stillThere(result: Result<Connected, ConnectFailure>): Result<Connected, ConnectFailure> {
  if (!result.ok || !result.value.stream.destroyed) return result
  result.value.raw.destroy()
  return fail({ kind: 'network', code: '', detail: 'closed the connection at once' })
}

function headerFor(
  config: UpstreamProxyProtocolConfig | undefined,
  { proxied }: DialOptions,
): Buffer | undefined | 'too long' {
  if (config === undefined) return undefined
  const { connection, tlvs } = proxied?.() ?? { connection: undefined, tlvs: [] }
  try {
    return proxyHeader(config, connection, tlvs)
  } catch {
    return 'too long'
  }
}

function endingOf({ name }: Endpoint, { kind, detail }: ConnectFailure): Ending {
  if (kind === 'identity') return { flag: 'ID_REFUSED', reason: `${name}: ${detail}` }
  if (kind === 'local') return { flag: 'UF', reason: `${name}: ${detail}` }
  return { flag: 'UF', reason: `upstream connect failure: ${name} ${detail}` }
}
