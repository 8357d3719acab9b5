import { fail, ok, type Result } from '../lib/result.ts'
import { publicKeyError, signatureError } from './algorithms.ts'
import { usageAllowed } from './ca-certificate.ts'
import type { Certificate } from './certificate.ts'
import { printable } from './name-constraints.ts'
import { parseSpiffeId, type SpiffeId } from './spiffe-id.ts'

/** Why a certificate is no SVID of ours: the closed list that logs and metrics use. */
export type SvidRefusalCode =
  | 'malformed'
  | 'no_spiffe_id'
  | 'several_uri_sans'
  | 'bad_spiffe_id'
  | 'is_ca'
  | 'key_usage'
  | 'extended_key_usage'
  | 'weak_algorithm'
  | 'unknown_critical_extension'
  | 'not_yet_valid'
  | 'expired'
  | 'unknown_trust_domain'
  | 'untrusted'
  | 'name_constraint'
  | 'revoked'
  | 'revocation_unknown'

export interface SvidRefusal {
  readonly code: SvidRefusalCode
  /** One sentence without a full stop, fit for a log. */
  readonly message: string
}

export const refuse = (
  code: SvidRefusalCode,
  message: string,
): { readonly ok: false; readonly error: SvidRefusal } => fail({ code, message })

/**
 * The rules of an X.509-SVID leaf that need neither time nor trust (X509-SVID sections 2, 4 and 5.2): exactly one URI SAN,
 * a workload's SPIFFE ID; not a CA; key usage critical with digitalSignature and without signing of others; the extended
 * key usage, where there is one, for this side of TLS; strong algorithms.
 */
export function checkLeaf(leaf: Certificate, usage: 'client' | 'server'): Result<SpiffeId, SvidRefusal> {
  const { alternativeNames, basicConstraints, keyUsage, extendedKeyUsage, unknownCritical } = leaf.extensions
  const uris = alternativeNames.filter(({ kind }) => kind === 'uri')
  const [uri] = uris
  if (uri === undefined)
    return refuse('no_spiffe_id', 'it has no URI SAN; an SVID has exactly one, its SPIFFE ID')
  if (uris.length > 1)
    return refuse('several_uri_sans', `it has ${uris.length} URI SANs; an SVID has exactly one`)
  const id = parseSpiffeId(uri.value)
  if (!id.ok)
    return refuse('bad_spiffe_id', `its URI SAN ${printable(uri.value)} is no SPIFFE ID: ${id.error}`)
  if (id.value.path === '')
    return refuse('bad_spiffe_id', `its SPIFFE ID ${printable(uri.value)} names no workload`)
  if (basicConstraints?.ca === true) return refuse('is_ca', 'it is a CA certificate, not a leaf')
  if (keyUsage === undefined) return refuse('key_usage', 'it has no keyUsage')
  if (!keyUsage.critical) return refuse('key_usage', 'its keyUsage is not critical')
  if (keyUsage.keyCertSign || keyUsage.crlSign)
    return refuse('key_usage', 'its keyUsage lets it sign certificates or CRLs')
  if (!keyUsage.digitalSignature) return refuse('key_usage', 'its keyUsage lacks digitalSignature')
  if (!usageAllowed(extendedKeyUsage, usage)) {
    return refuse('extended_key_usage', `its extendedKeyUsage does not let it be a TLS ${usage}`)
  }
  const weak = publicKeyError(leaf.publicKey) ?? signatureError(leaf.signature)
  if (weak !== undefined) return refuse('weak_algorithm', weak)
  const [unknown] = unknownCritical
  if (unknown !== undefined)
    return refuse('unknown_critical_extension', `an unknown critical extension ${unknown}`)
  return ok(id.value)
}
