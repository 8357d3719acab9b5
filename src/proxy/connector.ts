import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext, type SecureContext } from 'node:tls'
import { peerLeaf } from '../identity/peer-leaf.ts'
import { clientTlsOptions } from '../identity/tls.ts'
import type { SvidVerifier, VerifiedSvid } from '../identity/verify-svid.ts'
import type { Clock } from '../lib/clock.ts'
import { fail, formatProblem, ok, type Result } from '../lib/result.ts'
import { matchesString } from '../resources/accept-match.ts'
import type { TransportSocketConfig, UpstreamTls } from '../resources/accept-types.ts'
import type { KeepaliveConfig } from '../resources/upstream-types.ts'
import type { PumpEnd } from './pump.ts'
import type { SecretStore, TlsMaterial } from './secrets.ts'

export interface ConnectorDeps {
  readonly clock: Clock
  readonly secrets: SecretStore
  readonly verifier: SvidVerifier
}

/** Why a connect failed, and so whose fault it is. */
export interface ConnectFailure {
  readonly kind: /** The other side, or the way to it. */
    | 'network'
    | 'timeout'
    /** The server is not who we want to talk to. */
    | 'identity'
    /** Something of ours is missing or used up: a secret, ports (`EADDRNOTAVAIL`), descriptors (`EMFILE`). */
    | 'local'
    | 'cancelled'
  /** Of the system; empty where it gave none. */
  readonly code: string
  readonly detail: string
}

/** Who answered, with what is needed to judge him again later. */
export interface ServerProof {
  readonly svid: VerifiedSvid
  readonly tls: UpstreamTls
  /** When he was let in, milliseconds since the epoch. */
  readonly atMs: number
}

/** A connection; over TLS with its server's proof. */
export interface Connected extends PumpEnd {
  readonly server?: ServerProof
}

/** Ends what is under way, once. */
export class Cancellation {
  #cancelled = false
  #listener: (() => void) | undefined

  get cancelled(): boolean {
    return this.#cancelled
  }

  cancel(): void {
    this.#cancelled = true
    this.#listener?.()
  }

  /** Called back at once where it has happened. One listener at a time: things are done one after the other. */
  set listener(listener: (() => void) | undefined) {
    this.#listener = listener
    if (this.#cancelled) listener?.()
  }
}

export interface ConnectOptions {
  /** For TCP and TLS together. */
  readonly timeoutMs: number
  readonly keepalive: KeepaliveConfig | undefined
  /** Sent before everything else, TLS included. */
  readonly header?: Buffer | undefined
  /** Instead of those of the TLS context. */
  readonly alpn?: readonly string[]
  readonly cancellation: Cancellation
}

/**
 * What may wait in this process to be sent, in bytes, before whoever sends it is paused. What waits is what the kernel has no room
 * for (`writeDirectly`), so that nothing is to be gained by more of it.
 */
const HIGH_WATER_MARK = 4_096
const SOCKET = { allowHalfOpen: true, noDelay: true, highWaterMark: HIGH_WATER_MARK }

/** Errors of this machine, not of the endpoint. */
const LOCAL_CODES = new Set(['EADDRNOTAVAIL', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EACCES', 'EPERM'])

/** Opens connections to endpoints, raw or mutual TLS with the server's SVID verified and pinned. */
export class Connector {
  readonly #deps: ConnectorDeps
  /** Client contexts by material: one costs 0.3 ms and 40 KB, and thousands of upstreams share a few. */
  readonly #contexts = new Map<string, SecureContext>()

  constructor(deps: ConnectorDeps) {
    this.#deps = deps
  }

  /** Forgets TLS contexts; called when secrets change. */
  forgetContexts(): void {
    this.#contexts.clear()
  }

  async connect(
    host: string,
    port: number,
    socket: TransportSocketConfig,
    options: ConnectOptions,
  ): Promise<Result<Connected, ConnectFailure>> {
    if (socket.kind === 'raw') {
      return this.#open(host, port, options, (raw, settle) => settle(ok({ raw, stream: raw })))
    }
    const { tls } = socket
    const material = this.#deps.secrets.pinnedMaterial(tls)
    if (!material.ok) return fail({ kind: 'local', code: '', detail: formatProblem(material.error) })
    const secureContext = this.#context(tls, material.value)
    return this.#open(host, port, options, (raw, settle) =>
      this.#handshake(raw, secureContext, tls, material.value, options.alpn ?? tls.alpn, settle),
    )
  }

  #open(
    host: string,
    port: number,
    { timeoutMs, keepalive, header, cancellation }: ConnectOptions,
    established: Established,
  ): Promise<Result<Connected, ConnectFailure>> {
    return new Promise((resolve) => {
      const raw = connectTcp({ host, port, ...SOCKET })
      let settled = false
      const settle: Settle = (result) => {
        if (settled) return
        settled = true
        cancelTimer()
        cancellation.listener = undefined
        // The stream belongs to its user now, or to nobody: then late errors of it mean nothing. What was needed to open it is let go of.
        raw.on('error', ignore)
        raw.off('error', failed)
        raw.off('close', closed)
        if (!result.ok) raw.destroy()
        resolve(result)
      }
      const cancelTimer = this.#deps.clock.after(timeoutMs, () =>
        settle(fail({ kind: 'timeout', code: '', detail: `not connected within ${timeoutMs} ms` })),
      )
      const failed = (error: NodeJS.ErrnoException) => settle(fail(failureOf(error, describe(error))))
      const closed = () => settle(fail({ kind: 'network', code: '', detail: 'closed while connecting' }))
      raw.on('error', failed)
      raw.on('close', closed)
      raw.once('connect', () => {
        if (keepalive !== undefined) raw.setKeepAlive(true, keepalive.idleMs ?? 0)
        if (header !== undefined) raw.write(header)
        established(raw, settle)
      })
      cancellation.listener = () =>
        settle(fail({ kind: 'cancelled', code: '', detail: 'given up, the downstream is gone' }))
    })
  }

  #handshake(
    raw: Socket,
    secureContext: SecureContext,
    tls: UpstreamTls,
    material: TlsMaterial,
    alpn: readonly string[],
    settle: Settle,
  ): void {
    const stream = connectTls({
      socket: raw,
      secureContext,
      // An IP address is no server name (RFC 6066), and throws on Bun.
      ...(tls.sni === '' || isIP(tls.sni) !== 0 ? {} : { servername: tls.sni }),
      ...(alpn.length === 0 ? {} : { ALPNProtocols: [...alpn] }),
      rejectUnauthorized: true,
      // The name asked for is no identity; the SVID is verified below, before a byte is written.
      checkServerIdentity: () => undefined,
    })
    stream.on('error', (error: NodeJS.ErrnoException) => {
      const refused = (error.code ?? '').includes('UNRECOGNIZED_NAME')
      const detail = refused
        ? `refused the server name ${tls.sni}: it is not exposed there (alert unrecognized_name)`
        : `TLS handshake failed: ${describe(error)}`
      settle(fail(failureOf(error, detail)))
    })
    stream.on('close', () =>
      settle(fail({ kind: 'network', code: '', detail: 'closed during the handshake' })),
    )
    stream.once('secureConnect', () => {
      const leaf = peerLeaf(stream)
      const judged =
        leaf === undefined
          ? fail('the server showed no certificate')
          : this.#judge(leaf, tls, material, this.#deps.clock.now())
      settle(
        judged.ok
          ? ok({ raw, stream, server: judged.value })
          : fail({ kind: 'identity', code: '', detail: judged.error }),
      )
    })
  }

  /** Why a server that was let in would not be today; undefined where it would. */
  refusal({ svid, tls, atMs }: ServerProof): string | undefined {
    // Secrets go with the last upstream that refers to them: that is no word against a server, and the connection drains already.
    if (this.#deps.secrets.missing([tls.credentialSecret, tls.trustSecret]).length > 0) return undefined
    const material = this.#deps.secrets.pinnedMaterial(tls)
    if (!material.ok) return formatProblem(material.error)
    // A clock that was set back makes a certificate no younger than it was once.
    const judged = this.#judge(svid.leaf, tls, material.value, Math.max(this.#deps.clock.now(), atMs))
    return judged.ok ? undefined : judged.error
  }

  /** Whether a server is who we want to talk to; the error is why not. */
  #judge(
    leaf: Uint8Array,
    tls: UpstreamTls,
    material: TlsMaterial,
    atMs: number,
  ): Result<ServerProof, string> {
    const verdict = this.#deps.verifier.verify(leaf, material.bundles, atMs, 'server')
    if (!verdict.ok)
      return fail(`the server's certificate is refused (${verdict.error.code}): ${verdict.error.message}`)
    const { uri } = verdict.value.id
    if (tls.peerIds.some((match) => matchesString(match, uri))) return ok({ svid: verdict.value, tls, atMs })
    return fail(`the server is ${uri}; expected ${tls.peerIds.map(({ value }) => value).join(' or ')}`)
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

function ignore(): void {}

type Established = (raw: Socket, settle: Settle) => void
type Settle = (result: Result<Connected, ConnectFailure>) => void

function failureOf({ code = '' }: NodeJS.ErrnoException, detail: string): ConnectFailure {
  return { kind: LOCAL_CODES.has(code) ? 'local' : 'network', code, detail }
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
    case 'EADDRNOTAVAIL':
      return 'cannot be called: every local port towards it is in use (EADDRNOTAVAIL)'
    case 'EMFILE':
    case 'ENFILE':
      return `cannot be called: no file descriptor is left (${error.code})`
    default:
      return error.code ?? error.message
  }
}
