// The control of the attack catalogue: a gateway that checks no certificate. A catalogue that passes here as well proves nothing.
// It is a patch of the running process and no option, so that the product has no such switch.
import type { TLSSocket } from 'node:tls'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import type { SvidVerifier, VerifiedSvid } from '../../src/identity/verify-svid.ts'
import { TlsAcceptor } from '../../src/proxy/tls-acceptor.ts'

const ANYBODY = 'spiffe://anybody.example/ns/any/sa/body'

/** Lets every client through, with any certificate and with none. */
export function acceptEveryCertificate(verifier: typeof SvidVerifier): void {
  // Without a verdict of OpenSSL's or BoringSSL's.
  Object.defineProperty(TrustBundles.prototype, 'ambiguous', { get: () => true })
  const svid: VerifiedSvid = {
    id: { uri: ANYBODY, trustDomain: 'anybody.example', path: '/ns/any/sa/body' } as VerifiedSvid['id'],
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
