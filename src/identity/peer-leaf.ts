import type { TLSSocket } from 'node:tls'

const IN_BUN = 'bun' in process.versions

/** Bun's own connection below a TLS socket. */
interface Handle {
  getPeerX509Certificate?(): { readonly raw: Uint8Array } | undefined
}

/** The DER of the leaf that the other side proved to have the key of; undefined where it showed none. */
export function peerLeaf(stream: TLSSocket): Uint8Array | undefined {
  if (!IN_BUN) return stream.getPeerX509Certificate()?.raw
  // Bun's public function makes the X509Certificate out of the certificate's older form, with all its texts: ten times the price.
  const leaf = (stream as { readonly _handle?: Handle })._handle?.getPeerX509Certificate?.()
  // An empty object where there is none.
  return leaf?.raw ?? stream.getPeerCertificate(false)?.raw
}
