import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { fail, ok, type Result } from '../lib/result.ts'
import { matchesString } from '../resources/accept-match.ts'
import type { DownstreamTls, FilterChainConfig } from '../resources/accept-types.ts'
import type { Ending } from './access-log.ts'
import { ALERT, alertRecord, type ClientHello, type HelloResult } from './client-hello.ts'
import type { Connection, Peer } from './connection.ts'
import type { ProxyContext } from './context.ts'
import { forward } from './forward.ts'
import { HelloBuffer } from './hello-buffer.ts'
import type { PumpEnd } from './pump.ts'
import type { Policy } from './rbac.ts'
import type { TlsEdge } from './tls-edge.ts'

/** A filter chain in force. */
export interface TlsChain {
  readonly config: FilterChainConfig
  readonly tls: DownstreamTls
  readonly edge: TlsEdge
  readonly policy: Policy
}

/** What the acceptor must know of its listener, always as it is now. */
export interface TlsChains {
  /** The chain for a server name; undefined when none matches. */
  find(serverName: string): TlsChain | undefined
  get(name: string): TlsChain | undefined
  /** From accept to the end of the handshake. */
  readonly handshakeTimeoutMs: number
  /** The port that was connected to. */
  readonly port: number
}

const NO_SUCH_NAME = 'not a name that this gateway answers to'

/**
 * Takes TLS connections from their first byte to an open upstream, cheapest refusal first: the ClientHello is read whole before
 * any crypto, its name must be one that is exposed, the handshake must prove an identity, policy must allow it; only then
 * is the upstream connected.
 */
export class TlsAcceptor {
  readonly #context: ProxyContext
  readonly #chains: TlsChains
  readonly #handshaking = new WeakMap<Socket, { connection: Connection; leave: () => void }>()

  constructor(context: ProxyContext, chains: TlsChains) {
    this.#context = context
    this.#chains = chains
  }

  accept(connection: Connection, raw: Socket): void {
    const timeoutMs = this.#chains.handshakeTimeoutMs
    connection.deadline(timeoutMs, {
      flag: 'TLS_HELLO',
      reason: `no whole ClientHello within ${timeoutMs} ms`,
    })
    const buffer = new HelloBuffer(this.#context.limits.hello)
    const read = (segment: Buffer) => this.#context.guard(connection, () => judge(buffer.push(segment)))
    const ended = () =>
      connection.end(
        { flag: 'TLS_HELLO', reason: 'the client ended before its ClientHello was whole' },
        'close',
      )
    const judge = (result: HelloResult) => {
      if (result.kind === 'incomplete') return
      raw.off('data', read)
      raw.off('end', ended)
      if (result.kind === 'hello') {
        // Pause first: otherwise the bytes put back are read by nobody.
        raw.pause()
        raw.unshift(buffer.received)
        this.#route(connection, raw, result.hello)
      } else {
        refuseHello(connection, result.alert, result.reason)
      }
    }
    raw.on('data', read)
    raw.on('end', ended)
    raw.resume()
  }

  #route(connection: Connection, raw: Socket, { sni = '' }: ClientHello): void {
    connection.note({ sni })
    const chain = this.#chains.find(sni)
    if (chain === undefined || !this.#known(chain, sni)) {
      // Missing, unknown and hidden end alike, to the byte.
      refuseHello(
        connection,
        ALERT.unrecognizedName,
        `${sni === '' ? 'no server name' : sni}: ${NO_SUCH_NAME}`,
      )
      return
    }
    connection.chain = chain.config.name
    connection.advance({ phase: 'handshake' })
    const leftMs = Math.max(1, chain.tls.handshakeTimeoutMs - connection.elapsedMs)
    connection.deadline(
      leftMs,
      { flag: 'TLS_HANDSHAKE', reason: `no handshake within ${chain.tls.handshakeTimeoutMs} ms` },
      'reset',
    )
    const leave = this.#context.admission.enter(
      () => this.#context.guard(connection, () => this.#handshake(connection, raw)),
      () => connection.end({ flag: 'UO', reason: 'its handshake had to make room for newer ones' }, 'reset'),
    )
    this.#handshaking.set(raw, { connection, leave })
    connection.onEnd(leave)
  }

  /** Whether a name leads anywhere: with sni_cluster only to the upstream of that very name. */
  #known(chain: TlsChain, sni: string): boolean {
    return !chain.config.sniCluster || this.#context.upstreams.has(sni)
  }

  #handshake(connection: Connection, raw: Socket): void {
    const chain = this.#chains.get(connection.chain)
    if (chain === undefined) connection.end({ flag: 'NR', reason: 'its filter chain was removed' }, 'reset')
    else if (!connection.ended) chain.edge.accept(raw)
  }

  onFailure(raw: Socket, reason: string, certificate: boolean): void {
    const found = this.#handshaking.get(raw)
    // Node has sent its alert, if any; what it leaves open is closed here.
    found?.connection.end({ flag: certificate ? 'ID_REFUSED' : 'TLS_HANDSHAKE', reason }, 'close')
    if (found === undefined) raw.destroy()
  }

  onSecure(raw: Socket, stream: TLSSocket): void {
    const found = this.#handshaking.get(raw)
    if (found === undefined || found.connection.ended) {
      stream.destroy()
      return
    }
    const { connection, leave } = found
    this.#context.guard(connection, () => {
      leave()
      connection.downstream = { stream, raw }
      connection.watch(stream)
      connection.note({
        handshakeMs: connection.elapsedMs,
        alpn: stream.alpnProtocol || '',
        tlsVersion: stream.getProtocol() ?? '',
      })
      const admitted = this.#admit(connection, raw, stream)
      if (admitted.ok) this.#forward(connection, admitted.value, { raw, stream })
      else connection.end(admitted.error, 'close')
    })
  }

  /** Who it is and whether he may: the chain that serves him, or how his connection ends. */
  #admit(connection: Connection, raw: Socket, stream: TLSSocket): Result<TlsChain, Ending> {
    const chain = this.#chains.get(connection.chain)
    const leaf = stream.getPeerX509Certificate()?.raw
    if (chain === undefined) return fail({ flag: 'NR', reason: 'its filter chain was removed' })
    if (leaf === undefined) return fail({ flag: 'ID_REFUSED', reason: 'the client showed no certificate' })
    const seen = {
      serverName: connection.facts.sni,
      sourceIp: raw.remoteAddress ?? '',
      port: this.#chains.port,
    }
    const peer = this.#identify(chain, leaf, seen)
    if (!peer.ok) return peer
    connection.peer = peer.value
    const verdict = chain.policy(peer.value.caller)
    connection.note({ rule: verdict.policy })
    return verdict.allowed ? ok(chain) : fail({ flag: 'RBAC_DENIED', reason: verdict.reason })
  }

  #forward(connection: Connection, { config }: TlsChain, downstream: PumpEnd): void {
    const { svid } = connection.peer ?? {}
    if (svid !== undefined) {
      const lastsMs = svid.notAfterMs - this.#context.clock.now()
      connection.limit(lastsMs, { flag: 'ID_EXPIRED', reason: `the certificate of ${svid.id.uri} ended` })
    }
    const name = config.sniCluster ? connection.facts.sni : config.upstream
    void forward(this.#context, connection, config, name, downstream, (ending) =>
      connection.end(ending, 'close'),
    )
  }

  #identify(chain: TlsChain, leaf: Uint8Array, seen: Omit<Peer['caller'], 'id'>): Result<Peer, Ending> {
    const verdict = this.#context.verifier.verify(
      leaf,
      chain.edge.material.bundles,
      this.#context.clock.now(),
      'client',
    )
    if (!verdict.ok) {
      return fail({
        flag: 'ID_REFUSED',
        reason: `the client's certificate is refused (${verdict.error.code}): ${verdict.error.message}`,
      })
    }
    const { uri } = verdict.value.id
    const { peerIds } = chain.tls
    if (peerIds.length > 0 && !peerIds.some((match) => matchesString(match, uri))) {
      return fail({
        flag: 'ID_REFUSED',
        reason: `${uri} is not among the ids that this filter chain accepts`,
      })
    }
    return ok({ caller: { ...seen, id: uri }, leaf, svid: verdict.value })
  }

  /** Judges an open connection by what is in force now; cuts it where it would not be let in today. */
  rejudge(connection: Connection): void {
    const chain = this.#chains.get(connection.chain)
    const { peer } = connection
    if (chain === undefined || peer === undefined || connection.ended) return
    const again = this.#identify(chain, peer.leaf, peer.caller)
    if (!again.ok) {
      connection.end({ ...again.error, reason: `after a change: ${again.error.reason}` }, 'reset')
      return
    }
    const verdict = chain.policy(peer.caller)
    if (verdict.allowed) connection.note({ rule: verdict.policy })
    else connection.end({ flag: 'RBAC_DENIED', reason: `after a change: ${verdict.reason}` }, 'reset')
  }
}

function refuseHello(connection: Connection, alert: number | undefined, reason: string): void {
  const flag = alert === ALERT.unrecognizedName ? 'TLS_SNI' : 'TLS_HELLO'
  connection.end({ flag, reason }, 'close', alert === undefined ? undefined : alertRecord(alert))
}
