import type { Identity } from '../../identity/identity.ts'
import { contentHash } from '../../lib/canonical.ts'
import { OWN_CERTIFICATE } from '../../resources/envoy.ts'
import { SecretSchema } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { encodeResource } from '../../xds/resource.ts'
import type { XdsResource } from '../../xds/types.ts'

/** Our own credential as the Secret that the workers get. */
export function ownCredential({ credential }: Identity): XdsResource {
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
