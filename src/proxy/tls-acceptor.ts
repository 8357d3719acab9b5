import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { peerLeaf } from '../identity/peer-leaf.ts'
import type { VerifiedSvid } from '../identity/verify-svid.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { matchesString } from '../resources/accept-match.ts'
import type { Ending } from './access-log.ts'
import { ALERT, alertRecord, type ClientHello, type HelloResult } from './client-hello.ts'
import type { Connection, Peer } from './connection.ts'
import type { ProxyContext } from './context.ts'
import { clientExpired, watchExpiry } from './expiry.ts'
import { forward } from './forward.ts'
import { HelloBuffer } from './hello-buffer.ts'
import type { Judge } from './judge.ts'
import { passThrough } from './passthrough.ts'
import type { PumpEnd } from './pump.ts'
import type { Caller } from './rbac.ts'
import type { ServedChain } from './served-chains.ts'

/** What the acceptor must know of its listener, always as it is now. */
export interface TlsChains {
  /** The chain for what a client asks for; undefined when none matches. */
  find(hello: ClientHello): ServedChain | undefined
  get(key: string): ServedChain | undefined
  all(): readonly ServedChain[]
  /** From accept until the ClientHello is whole. */
  readonly helloTimeoutMs: number
}

const NO_SUCH_NAME = 'not a name that this gateway answers to'

/**
 * Takes TLS connections from their first byte to an open upstream, cheapest refusal first: the ClientHello is read whole before
 * any crypto, its name must be one that is exposed, the handshake must prove an identity, policy must allow it; only then
 * is the upstream connected. A passthrough chain skips the handshake, and with it the identity.
 */
export class TlsAcceptor {
  readonly #context: ProxyContext
  readonly #chains: TlsChains
  readonly #judge: Judge
  /** By the socket below. */
  readonly #handshaking = new WeakMap<Socket, Connection>()

  constructor(context: ProxyContext, judge: Judge, chains: TlsChains) {
    this.#context = context
    this.#judge = judge
    this.#chains = chains
  }

  accept(connection: Connection, raw: Socket): void {
    const timeoutMs = this.#chains.helloTimeoutMs
    connection.deadline(Math.max(1, timeoutMs - connection.elapsedMs), {
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
        raw.pause()
        this.#route(connection, raw, result.hello, buffer.received)
      } else {
        refuseHello(connection, result.alert, result.reason)
      }
    }
    raw.on('end', ended)
    // Starts reading too, except where a PROXY header came first.
    raw.on('data', read)
    if (raw.isPaused()) raw.resume()
  }

  #route(connection: Connection, raw: Socket, hello: ClientHello, received: Buffer): void {
    const { sni = '' } = hello
    connection.facts.sni = sni
    const chain = this.#chains.find(hello)
    const upstream = chain === undefined ? undefined : this.#upstreamOf(chain, sni)
    if (chain === undefined || upstream === undefined) {
      // Missing, unknown and hidden end alike, to the byte.
      refuseHello(
        connection,
        ALERT.unrecognizedName,
        `${sni === '' ? 'no server name' : sni}: ${NO_SUCH_NAME}`,
      )
    } else if (chain.config.mode === 'passthrough') {
      const caller = this.#callerOf(connection, chain)
      passThrough(this.#context, this.#judge, connection, raw, { chain, upstream, caller, received })
    } else {
      // It is paused: otherwise the bytes put back are read by nobody.
      raw.unshift(received)
      this.#awaitHandshake(connection, raw, chain)
    }
  }

  #awaitHandshake(connection: Connection, raw: Socket, chain: ServedChain): void {
    connection.chain = chain.key
    connection.advance({ phase: 'handshake' })
    const timeoutMs = chain.config.tls?.handshakeTimeoutMs ?? 0
    connection.deadline(
      Math.max(1, timeoutMs - connection.elapsedMs),
      { flag: 'TLS_HANDSHAKE', reason: `no handshake within ${timeoutMs} ms` },
      'reset',
    )
    const leave = this.#context.admission.enter(
      () => this.#context.guard(connection, () => this.#handshake(connection, raw)),
      () => connection.end({ flag: 'UO', reason: 'its handshake had to make room for newer ones' }, 'reset'),
    )
    this.#handshaking.set(raw, connection)
    connection.onPhaseEnd(leave)
  }

  /** Where a name leads, undefined for nowhere: with sni_cluster only to the upstream of that very name or alias. */
  #upstreamOf({ config }: ServedChain, sni: string): string | undefined {
    if (config.sniCluster) return this.#context.names.find(sni)
    const missing = config.mode === 'passthrough' && !this.#context.upstreams.has(config.upstream)
    return missing ? undefined : config.upstream
  }

  #callerOf({ addresses, facts }: Connection, chain: ServedChain, svid?: VerifiedSvid): Caller {
    const { remoteIp, directRemoteIp, destinationIp, port } = addresses
    const serverName = facts.sni
    const upstream = this.#upstreamOf(chain, serverName)
    const otherNames = upstream === undefined ? [] : this.#context.names.namesOf(upstream)
    const [id, issuer] = [svid?.id.uri, svid?.issuer]
    return { remoteIp, directRemoteIp, destinationIp, port, serverName, otherNames, id, issuer }
  }

  #handshake(connection: Connection, raw: Socket): void {
    const chain = this.#chains.get(connection.chain)
    if (chain === undefined) connection.end({ flag: 'NR', reason: 'its filter chain was removed' }, 'reset')
    else if (!connection.ended) chain.edge?.accept(raw)
  }

  onFailure(raw: Socket, ending: Ending): void {
    const connection = this.#handshaking.get(raw)
    // The runtime has sent its alert, if any; what it leaves open is closed here.
    const gone = ending.flag === 'DC'
    connection?.end(ending, gone ? 'leave' : 'close')
    if (connection === undefined || gone) raw.destroy()
  }

  onSecure(raw: Socket, stream: TLSSocket): void {
    const connection = this.#handshaking.get(raw)
    if (connection === undefined || connection.ended) {
      stream.destroy()
      return
    }
    this.#context.guard(connection, () => {
      connection.downstream = { stream, raw }
      connection.watch(stream)
      connection.facts.handshakeMs = connection.elapsedMs
      connection.facts.alpn = stream.alpnProtocol || ''
      connection.facts.tlsVersion = stream.getProtocol() ?? ''
      const admitted = this.#admit(connection, stream)
      if (admitted.ok) this.#forward(connection, admitted.value, { raw, stream })
      else connection.end(admitted.error, 'close')
    })
  }

  /** Who it is and whether he may: the chain that serves him, or how his connection ends. */
  #admit(connection: Connection, stream: TLSSocket): Result<ServedChain, Ending> {
    const chain = this.#chains.get(connection.chain)
    const leaf = peerLeaf(stream)
    if (chain === undefined) return fail({ flag: 'NR', reason: 'its filter chain was removed' })
    if (leaf === undefined) return fail({ flag: 'ID_REFUSED', reason: 'the client showed no certificate' })
    const atMs = this.#context.clock.now()
    const svid = this.#identify(chain, leaf, atMs)
    if (!svid.ok) return svid
    const caller = this.#callerOf(connection, chain, svid.value)
    connection.peer = { caller, proof: { svid: svid.value, atMs } }
    const admitted = this.#judge.admit(connection, chain.policy, caller)
    return admitted.ok ? ok(chain) : admitted
  }

  #forward(connection: Connection, chain: ServedChain, downstream: PumpEnd): void {
    watchExpiry(connection, this.#context.clock.now())
    const { sni } = connection.facts
    const upstream = this.#upstreamOf(chain, sni) ?? sni
    void forward(this.#context, connection, { chain: chain.config, upstream, downstream }, (ending) =>
      connection.end(ending, 'close'),
    )
  }

  #identify({ config, edge }: ServedChain, leaf: Uint8Array, nowMs: number): Result<VerifiedSvid, Ending> {
    if (config.tls === undefined || edge === undefined)
      return fail({ flag: 'NR', reason: 'its filter chain does not terminate TLS any more' })
    const verdict = this.#context.verifier.verify(leaf, edge.material.bundles, nowMs, 'client')
    if (!verdict.ok) {
      return fail({
        flag: 'ID_REFUSED',
        reason: `the client's certificate is refused (${verdict.error.code}): ${verdict.error.message}`,
      })
    }
    const { uri } = verdict.value.id
    const { peerIds } = config.tls
    if (peerIds.length > 0 && !peerIds.some((match) => matchesString(match, uri))) {
      return fail({
        flag: 'ID_REFUSED',
        reason: `${uri} is not among the ids that this filter chain accepts`,
      })
    }
    return verdict
  }

  /** Judges an open connection by what is in force now; ends it where it would not be let in today. */
  rejudge(connection: Connection): void {
    const chain = this.#chains.get(connection.chain)
    const { peer } = connection
    if (peer === undefined || connection.ended) return
    const svid = peer.proof?.svid
    // The timer that ends it does not know when the clock was set.
    if (svid !== undefined && this.#context.clock.now() >= svid.notAfterMs) {
      connection.end(clientExpired(svid), 'reset')
      return
    }
    const refusal = chain === undefined ? this.#refusalOfAll(peer) : this.#identityRefusal(chain, peer)
    if (refusal !== undefined)
      connection.end({ ...refusal, reason: `after a change: ${refusal.reason}` }, 'reset')
    else if (chain !== undefined) this.#judge.again(connection, chain.policy, peer.caller)
  }

  #identityRefusal(chain: ServedChain, { proof }: Peer): Ending | undefined {
    if (proof === undefined) return undefined
    // A clock that was set back makes a certificate no younger than it was once.
    const again = this.#identify(chain, proof.svid.leaf, Math.max(this.#context.clock.now(), proof.atMs))
    return again.ok ? undefined : again.error
  }

  /**
   * For one whose chain was removed, and which drains: which chain it would be for today is not known (its ClientHello is gone), so it
   * stays while any chain of its kind would have it. Where there is none (all passthrough, or none of that), nothing can be said of it.
   */
  #refusalOfAll(peer: Peer): Ending | undefined {
    const terminated = peer.proof !== undefined
    const chains = this.#chains.all().filter(({ edge }) => (edge !== undefined) === terminated)
    let first: Ending | undefined
    for (const chain of chains) {
      const refusal = this.#identityRefusal(chain, peer) ?? cutBy(chain, peer)
      if (refusal === undefined) return undefined
      first ??= refusal
    }
    return first
  }
}

/** What policy does not just drain. */
function cutBy({ policy }: ServedChain, { caller }: Peer): Ending | undefined {
  const verdict = policy.judge(caller)
  return verdict.allowed || verdict.drains ? undefined : { flag: 'RBAC_DENIED', reason: verdict.reason }
}

function refuseHello(connection: Connection, alert: number | undefined, reason: string): void {
  const flag = alert === ALERT.unrecognizedName ? 'TLS_SNI' : 'TLS_HELLO'
  connection.end({ flag, reason }, 'close', alert === undefined ? undefined : alertRecord(alert))
}
