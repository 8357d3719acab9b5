import type { TLSSocket } from 'node:tls'

/** Bun makes its X509Certificate out of the older form of the certificate, which costs four times as much as that form alone. */
const IN_BUN = 'bun' in process.versions

/** The DER of the leaf that the other side proved to have the key of; undefined where it showed none. */
export function peerLeaf(stream: TLSSocket): Uint8Array | undefined {
  if (!IN_BUN) return stream.getPeerX509Certificate()?.raw
  // An empty object where there is none.
  return stream.getPeerCertificate(false)?.raw
}
