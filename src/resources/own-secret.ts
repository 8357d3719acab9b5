import { contentHash } from '../lib/canonical.ts'
import { SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { encodeResource } from '../xds/resource.ts'
import type { XdsResource } from '../xds/types.ts'
import { OWN_CERTIFICATE } from './envoy.ts'

/** Secret `default`: a proxy's own certificate with its key, both in PEM. */
export function ownSecret(credential: {
  readonly certificatePem: string
  readonly privateKeyPem: string
}): XdsResource {
  const text = (value: string) => ({ specifier: { case: 'inlineString' as const, value } })
  const value = {
    certificateChain: text(credential.certificatePem),
    privateKey: text(credential.privateKeyPem),
  }
  const secret = encodeResource(
    SecretSchema,
    { name: OWN_CERTIFICATE, type: { case: 'tlsCertificate', value } },
    OWN_CERTIFICATE,
  )
  // The hash of a file with a key in it is nothing to show around: the certificate alone tells versions apart.
  return { ...secret, version: contentHash(credential.certificatePem) }
}
