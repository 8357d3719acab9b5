import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import { clientTlsOptions } from '../identity/tls.ts'
import type { SvidVerifier } from '../identity/verify-svid.ts'
import type { Clock } from '../lib/clock.ts'
import { fail, formatProblem, ok, type Result } from '../lib/result.ts'
import { matchesString } from '../resources/accept-match.ts'
import type { TransportSocketConfig, UpstreamTls } from '../resources/accept-types.ts'
import type { Ending } from './access-log.ts'
import type { Endpoint } from './endpoint.ts'
import type { PumpEnd } from './pump.ts'
import type { SecretStore, TlsMaterial } from './secrets.ts'
import type { Upstream } from './upstream.ts'

export interface DialDeps {
  readonly clock: Clock
  readonly secrets: SecretStore
  readonly verifier: SvidVerifier
  /** Whether a listener of this very proxy answers there: connecting to it would go round for ever. */
  readonly isOwnListener: (host: string, port: number) => boolean
}

/** A connection to an endpoint, ready for payload. */
export interface Dialled extends PumpEnd {
  readonly endpoint: Endpoint
}

/** Ends an attempt from outside; what was opened is closed. */
export interface DialHandle {
  readonly result: Promise<Result<Dialled, Ending>>
  cancel(): void
}

/**
 * Connects to an endpoint of the upstream; where that fails, to the next one, up to `attempts` times, which is safe because no
 * byte of payload has been sent. Raw or mutual TLS as the endpoint's metadata says. `UH` when nothing was left to try.
 */
export class Dialer {
  readonly #deps: DialDeps
  /** Client contexts by material: one costs 0.3 ms and 40 KB, and thousands of upstreams share a few. */
  readonly #contexts = new Map<string, SecureContext>()

  constructor(deps: DialDeps) {
    this.#deps = deps
  }

  /** Forgets TLS contexts; called when secrets change. */
  forgetContexts(): void {
    this.#contexts.clear()
  }

  /** `passthrough`: what will be sent is the client's own mesh TLS, so only what terminates that is called, and without TLS of ours. */
  dial(upstream: Upstream, attempts: number, passthrough = false): DialHandle {
    const cancel = new AbortController()
    return {
      result: this.#dial(upstream, attempts, passthrough, cancel.signal),
      cancel: () => cancel.abort(),
    }
  }

  async #dial(
    upstream: Upstream,
    attempts: number,
    passthrough: boolean,
    signal: AbortSignal,
  ): Promise<Result<Dialled, Ending>> {
    const tried = new Set<Endpoint>()
    let last: Ending | undefined
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      const endpoint = upstream.choose(tried)
      if (endpoint === undefined) break
      tried.add(endpoint)
      const result = await this.#connect(upstream, endpoint, passthrough, signal)
      if (result.ok) return result
      if (signal.aborted) return result
      last = result.error
    }
    return fail(last ?? { flag: 'UH', reason: `no healthy upstream: ${upstream.whyNone()}` })
  }

  async #connect(
    upstream: Upstream,
    endpoint: Endpoint,
    passthrough: boolean,
    signal: AbortSignal,
  ): Promise<Result<Dialled, Ending>> {
    const socket = upstream.socketFor(endpoint)
    const unfit = this.#unfit(endpoint, socket, passthrough)
    if (unfit !== undefined) return fail({ flag: 'UF', reason: `${endpoint.name} ${unfit}` })
    const material = socket.kind === 'tls' ? this.#deps.secrets.pinnedMaterial(socket.tls) : undefined
    // Ours to mend, not the endpoint's fault: nothing is counted against it.
    if (material?.ok === false)
      return fail({ flag: 'UF', reason: `${endpoint.name}: ${formatProblem(material.error)}` })
    endpoint.active += 1
    const attempt = new Attempt(endpoint, upstream.config.connectTimeoutMs, this.#deps.clock, signal)
    const result = await (socket.kind === 'tls' && material?.ok
      ? attempt.tls(socket.tls, this.#context(socket.tls, material.value), material.value, this.#deps)
      : attempt.raw())
    if (!result.ok) {
      endpoint.active -= 1
      if (!signal.aborted) upstream.failed(endpoint, result.error.reason)
      return result
    }
    upstream.connected(endpoint)
    result.value.raw.once('close', () => {
      endpoint.active -= 1
    })
    return result
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

  #context(tls: UpstreamTls, material: TlsMaterial): SecureContext {
    const key = `${material.key} ${tls.minVersion} ${tls.maxVersion}`
    let context = this.#contexts.get(key)
    if (context === undefined) {
      const { minVersion, maxVersion } = tls
      context = createSecureContext({
        ...clientTlsOptions(material.credential, material.bundles),
        minVersion,
        maxVersion,
      })
      this.#contexts.set(key, context)
    }
    return context
  }
}

/** One attempt to connect to one endpoint, with one deadline for TCP and TLS together. */
class Attempt {
  readonly #endpoint: Endpoint
  readonly #timeoutMs: number
  readonly #clock: Clock
  readonly #signal: AbortSignal

  constructor(endpoint: Endpoint, timeoutMs: number, clock: Clock, signal: AbortSignal) {
    this.#endpoint = endpoint
    this.#timeoutMs = timeoutMs
    this.#clock = clock
    this.#signal = signal
  }

  raw(): Promise<Result<Dialled, Ending>> {
    return this.#run((raw, settle) => {
      raw.once('connect', () => settle(ok({ raw, stream: raw, endpoint: this.#endpoint })))
    })
  }

  tls(
    config: UpstreamTls,
    secureContext: SecureContext,
    material: TlsMaterial,
    deps: DialDeps,
  ): Promise<Result<Dialled, Ending>> {
    return this.#run((raw, settle) => {
      raw.once('connect', () => {
        const stream = connectTls({
          socket: raw,
          secureContext,
          // An IP address is no server name (RFC 6066), and throws on Bun.
          ...(config.sni === '' || isIP(config.sni) !== 0 ? {} : { servername: config.sni }),
          ...(config.alpn.length === 0 ? {} : { ALPNProtocols: [...config.alpn] }),
          rejectUnauthorized: true,
          // The name asked for is no identity; the SVID is verified below, before a byte is written.
          checkServerIdentity: () => undefined,
        })
        stream.on('error', (error) => settle(this.#tlsFailure(error, config)))
        stream.on('close', () => settle(this.#failure('closed during the handshake')))
        stream.once('secureConnect', () => {
          const refusal = serverRefusal(stream, config, material, deps)
          if (refusal === undefined) {
            settle(ok({ raw, stream, endpoint: this.#endpoint }))
          } else {
            settle(fail({ flag: 'ID_REFUSED', reason: `${this.#endpoint.name}: ${refusal}` }))
          }
        })
      })
    })
  }

  #run(open: (raw: Socket, settle: Settle) => void): Promise<Result<Dialled, Ending>> {
    return new Promise((resolve) => {
      const { host, port } = this.#endpoint
      const raw = connectTcp({ host, port, allowHalfOpen: true, noDelay: true })
      let settled = false
      const settle: Settle = (result) => {
        if (settled) return
        settled = true
        cancelTimer()
        this.#signal.removeEventListener('abort', aborted)
        // The stream belongs to the pump now, or to nobody: then late errors of it mean nothing.
        if (!result.ok) raw.destroy()
        resolve(result)
      }
      const aborted = () => settle(this.#failure('given up, the downstream is gone'))
      const cancelTimer = this.#clock.after(this.#timeoutMs, () =>
        settle(this.#failure(`not connected within ${this.#timeoutMs} ms`)),
      )
      this.#signal.addEventListener('abort', aborted, { once: true })
      raw.on('error', (error: NodeJS.ErrnoException) => settle(this.#failure(describe(error))))
      raw.on('close', () => settle(this.#failure('closed while connecting')))
      open(raw, settle)
      if (this.#signal.aborted) aborted()
    })
  }

  #failure(detail: string): Result<never, Ending> {
    return fail({ flag: 'UF', reason: `upstream connect failure: ${this.#endpoint.name} ${detail}` })
  }

  #tlsFailure(error: NodeJS.ErrnoException, { sni }: UpstreamTls): Result<never, Ending> {
    const code = error.code ?? ''
    if (code.includes('UNRECOGNIZED_NAME')) {
      return this.#failure(
        `refused the server name ${sni}: it is not exposed there (alert unrecognized_name)`,
      )
    }
    return this.#failure(`TLS handshake failed: ${describe(error)}`)
  }
}

type Settle = (result: Result<Dialled, Ending>) => void

/** Why the server is not who we want to talk to; undefined when it is. */
function serverRefusal(
  stream: TLSSocket,
  config: UpstreamTls,
  material: TlsMaterial,
  deps: DialDeps,
): string | undefined {
  const leaf = stream.getPeerX509Certificate()?.raw
  if (leaf === undefined) return 'the server showed no certificate'
  const verdict = deps.verifier.verify(leaf, material.bundles, deps.clock.now(), 'server')
  if (!verdict.ok)
    return `the server's certificate is refused (${verdict.error.code}): ${verdict.error.message}`
  const { uri } = verdict.value.id
  if (config.peerIds.some((match) => matchesString(match, uri))) return undefined
  return `the server is ${uri}; expected ${config.peerIds.map(({ value }) => value).join(' or ')}`
}

function describe(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ECONNREFUSED':
      return 'refused the connection'
    case 'ECONNRESET':
      return 'reset the connection'
    case 'ETIMEDOUT':
      return 'did not answer'
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'is unreachable'
    default:
      return error.code ?? error.message
  }
}
