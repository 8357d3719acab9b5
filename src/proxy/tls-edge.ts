import type { Socket } from 'node:net'
import type { SecureContextOptions, Server, TLSSocket, TlsOptions } from 'node:tls'
import { createTlsServer, serverTlsOptions } from '../identity/tls.ts'
import type { DownstreamTls } from '../resources/accept-types.ts'
import type { Ending } from './access-log.ts'
import type { TlsMaterial } from './secrets.ts'

/** Istio's metadata exchange: who selects it must speak its preamble first, which we do not. */
const PEER_EXCHANGE = 'istio-peer-exchange'

export interface TlsEdgeEvents {
  /** The handshake is over, and the client's chain leads to one of the pooled CAs. Nothing more is known of it. */
  onSecure(raw: Socket, stream: TLSSocket): void
  onFailure(raw: Socket, ending: Ending): void
}

/**
 * The TLS half of one filter chain: one server, and so one context, for all its connections. New certificates and bundles are
 * swapped in under it; connections that are open keep theirs.
 */
export class TlsEdge {
  readonly #events: TlsEdgeEvents
  #tls: DownstreamTls
  #material: TlsMaterial
  #server: Server

  constructor(tls: DownstreamTls, material: TlsMaterial, events: TlsEdgeEvents) {
    this.#tls = tls
    this.#material = material
    this.#events = events
    this.#server = this.#create()
  }

  get material(): TlsMaterial {
    return this.#material
  }

  /** Puts configuration and secrets in force for the handshakes to come. */
  configure(tls: DownstreamTls, material: TlsMaterial): void {
    const same =
      material.key === this.#material.key &&
      tls.minVersion === this.#tls.minVersion &&
      tls.maxVersion === this.#tls.maxVersion
    this.#tls = tls
    this.#material = material
    // A new server and no `setSecureContext`, which leaves `rejectUnauthorized` as it was, and on Bun there is no other way to change
    // that. Handshakes that have begun are finished by the server that began them.
    if (!same) this.#server = this.#create()
  }

  /** Takes over a socket that is paused, with its ClientHello put back. */
  accept(raw: Socket): void {
    this.#server.emit('connection', raw)
  }

  #options(): SecureContextOptions & TlsOptions {
    const { minVersion, maxVersion } = this.#tls
    return { ...serverTlsOptions(this.#material.credential, this.#material.bundles), minVersion, maxVersion }
  }

  #create(): Server {
    const server = createTlsServer({
      ...this.#options(),
      requestCert: true,
      // The deadline of the connection is shorter and says why.
      handshakeTimeout: 2 * this.#tls.handshakeTimeoutMs,
      ALPNCallback: ({ protocols }) => chooseProtocol(this.#tls.alpn, protocols),
    })
    server.on('secureConnection', (stream) => {
      const raw = rawOf(stream)
      if (raw === undefined) stream.destroy()
      else this.#events.onSecure(raw, stream)
    })
    server.on('tlsClientError', (error: NodeJS.ErrnoException, stream) => {
      const raw = rawOf(stream)
      if (raw === undefined || raw.destroyed) stream.destroy()
      if (raw !== undefined) this.#events.onFailure(raw, endingOf(error, stream.authorizationError))
    })
    return server
  }
}

/**
 * The socket below: no public property tells, on Node or on Bun, and an address is no key (two connections may share the client's).
 * Without it nobody knows whose handshake this was, and it is dropped.
 */
function rawOf(stream: TLSSocket): Socket | undefined {
  return (stream as { readonly _parent?: Socket })._parent
}

/**
 * The first of ours that the client offers; where none is, the client's first, since Node would end the handshake with an alert
 * and Envoy goes on without (Istio's own clients offer what no list names). Undefined when only peer exchange is offered.
 */
function chooseProtocol(ours: readonly string[], offered: readonly string[]): string | undefined {
  return ours.find((name) => offered.includes(name)) ?? offered.find((name) => name !== PEER_EXCHANGE)
}

/** OpenSSL leaves the key usage to us, BoringSSL (Bun) looks at it when the client signs. */
const NO_CERTIFICATE = 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE'
const WRONG_KEY_USAGE = 'ERR_SSL_KEY_USAGE_BIT_INCORRECT'

function endingOf(error: NodeJS.ErrnoException, authorizationError: unknown): Ending {
  const { code } = error
  if (authorizationError)
    return {
      flag: 'ID_REFUSED',
      reason: `the client's certificate is refused: ${String(authorizationError)}`,
    }
  if (code === NO_CERTIFICATE) return { flag: 'ID_REFUSED', reason: 'the client showed no certificate' }
  if (code === WRONG_KEY_USAGE)
    return {
      flag: 'ID_REFUSED',
      reason: "the client's certificate is refused: its keyUsage lacks digitalSignature",
    }
  if (code === 'ECONNRESET' || code === 'EPIPE')
    return { flag: 'DC', reason: 'the client left while in its handshake' }
  return { flag: 'TLS_HANDSHAKE', reason: `the handshake failed: ${code ?? error.message}` }
}
