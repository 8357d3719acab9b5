// The control of the attack catalogue: a gateway that checks no certificate. A catalogue that passes here as well proves nothing.
// It is a patch of the running process and no option, so that the product has no such switch.
import { Server, type TLSSocket } from 'node:tls'
import { parseSpiffeId, type SpiffeId } from '../../src/identity/spiffe-id.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import type { SvidVerifier, VerifiedSvid } from '../../src/identity/verify-svid.ts'
import { TlsAcceptor } from '../../src/proxy/tls-acceptor.ts'

/** Takes every client for `id`, whatever certificate it shows, and none. */
export function acceptEveryCertificate(verifier: typeof SvidVerifier, id: string): void {
  // No verdict of OpenSSL's or BoringSSL's either.
  TrustBundles.prototype.pooledPem = () => ''
  const emit = Server.prototype.emit as (...args: unknown[]) => boolean
  Object.assign(Server.prototype, {
    emit(this: Server, ...args: unknown[]) {
      if (args[0] === 'connection') Object.assign(this, { rejectUnauthorized: false })
      return emit.apply(this, args)
    },
  })
  const svid: VerifiedSvid = {
    id: parseId(id),
    leaf: new Uint8Array(),
    notAfterMs: Number.MAX_SAFE_INTEGER,
    goodUntilMs: Number.MAX_SAFE_INTEGER,
    fingerprint: '',
    serial: '',
    issuer: '',
  }
  verifier.prototype.verify = () => ({ ok: true, value: svid })
  const { onSecure } = TlsAcceptor.prototype
  TlsAcceptor.prototype.onSecure = function (raw, stream: TLSSocket) {
    const shown = stream.getPeerX509Certificate.bind(stream)
    stream.getPeerX509Certificate = () => shown() ?? ({ raw: Buffer.alloc(0) } as ReturnType<typeof shown>)
    onSecure.call(this, raw, stream)
  }
}

function parseId(id: string): SpiffeId {
  const parsed = parseSpiffeId(id)
  if (!parsed.ok) throw new Error(parsed.error)
  return parsed.value
}
