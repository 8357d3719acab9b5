import type { Any } from '@bufbuild/protobuf/wkt'
import { parseSpiffeId } from '../identity/spiffe-id.ts'
import {
  SubjectAltNameMatcher_SanType,
  type TlsParameters,
  TlsParameters_TlsProtocol as Version,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import {
  type CommonTlsContext,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { type AcceptContext, ADS } from './accept-context.ts'
import { readStringMatch } from './accept-match.ts'
import type { DownstreamTls, StringMatch, TlsConfig, UpstreamTls } from './accept-types.ts'

const SDS = { name: true, sds_config: ADS } as const
const COMMON_FIELDS = {
  tls_params: { tls_minimum_protocol_version: true, tls_maximum_protocol_version: true },
  alpn_protocols: true,
  tls_certificate_sds_secret_configs: SDS,
  validation_context_sds_secret_config: SDS,
  combined_validation_context: {
    default_validation_context: { match_typed_subject_alt_names: { san_type: true, matcher: true } },
    validation_context_sds_secret_config: SDS,
  },
} as const
export const DOWNSTREAM_FIELDS = {
  require_client_certificate: true,
  // Ours never resumes a session, whatever is asked for.
  disable_stateless_session_resumption: true,
  disable_stateful_session_resumption: true,
  common_tls_context: COMMON_FIELDS,
} as const
export const UPSTREAM_FIELDS = { sni: true, common_tls_context: COMMON_FIELDS } as const

/** `DownstreamTlsContext`: mutual TLS only, with credential and trust by SDS. */
export function readDownstreamTls(
  ctx: AcceptContext,
  any: Any,
  handshakeTimeoutMs: number,
  path: string,
): DownstreamTls | undefined {
  const message = ctx.unpack(any, DownstreamTlsContextSchema, DOWNSTREAM_FIELDS, path)
  if (message === undefined) return undefined
  if (message.requireClientCertificate !== true) {
    ctx.refuse(
      `${path}.require_client_certificate`,
      'expected true: clients without a certificate are never served',
    )
  }
  return { ...readCommon(ctx, message.commonTlsContext, `${path}.common_tls_context`), handshakeTimeoutMs }
}

/** `UpstreamTlsContext`: the server must be pinned by exact SPIFFE ids, so that a stranger's good certificate is not enough. */
export function readUpstreamTls(ctx: AcceptContext, any: Any, path: string): UpstreamTls | undefined {
  const message = ctx.unpack(any, UpstreamTlsContextSchema, UPSTREAM_FIELDS, path)
  if (message === undefined) return undefined
  const common = readCommon(ctx, message.commonTlsContext, `${path}.common_tls_context`)
  const pins = `${path}.common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names`
  if (common.peerIds.length === 0)
    ctx.refuse(pins, 'expected at least one exact URI: the server must be pinned')
  const trustDomains = new Set<string>()
  for (const [index, { kind, value, ignoreCase }] of common.peerIds.entries()) {
    const id = parseSpiffeId(value)
    if (kind !== 'exact' || ignoreCase) ctx.refuse(`${pins}[${index}].matcher`, 'expected exact, with case')
    else if (!id.ok)
      ctx.refuse(`${pins}[${index}].matcher.exact`, `expected a SPIFFE id, found "${value}": ${id.error}`)
    else trustDomains.add(id.value.trustDomain)
  }
  if (Buffer.byteLength(message.sni) > 255) ctx.refuse(`${path}.sni`, 'expected at most 255 bytes')
  return { ...common, sni: message.sni.toLowerCase(), trustDomains: [...trustDomains].sort() }
}

function readCommon(ctx: AcceptContext, message: CommonTlsContext | undefined, path: string): TlsConfig {
  const certificates = message?.tlsCertificateSdsSecretConfigs ?? []
  if (certificates.length !== 1) {
    ctx.refuse(`${path}.tls_certificate_sds_secret_configs`, `expected one, found ${certificates.length}`)
  }
  const context = message?.validationContextType
  const combined = context?.case === 'combinedValidationContext' ? context.value : undefined
  const direct = context?.case === 'validationContextSdsSecretConfig' ? context.value : undefined
  const trust = (combined?.validationContextSdsSecretConfig ?? direct)?.name ?? ''
  if (trust === '') ctx.refuse(`${path}.combined_validation_context`, 'expected a validation context by SDS')
  const sans = combined?.defaultValidationContext?.matchTypedSubjectAltNames ?? []
  const at = `${path}.combined_validation_context.default_validation_context.match_typed_subject_alt_names`
  const peerIds = sans.map((san, i): StringMatch => {
    if (san.sanType !== SubjectAltNameMatcher_SanType.URI) ctx.refuse(`${at}[${i}].san_type`, 'expected URI')
    return readStringMatch(ctx, san.matcher, `${at}[${i}].matcher`)
  })
  return {
    credentialSecret: certificates[0]?.name ?? '',
    trustSecret: trust,
    peerIds,
    alpn: message?.alpnProtocols ?? [],
    ...readVersions(ctx, message?.tlsParams, `${path}.tls_params`),
  }
}

/** TLS 1.2 and 1.3 only (RFC 8996, RFC 9325); unset means both. */
function readVersions(
  ctx: AcceptContext,
  params: TlsParameters | undefined,
  path: string,
): Pick<TlsConfig, 'minVersion' | 'maxVersion'> {
  const min = params?.tlsMinimumProtocolVersion ?? Version.TLS_AUTO
  const max = params?.tlsMaximumProtocolVersion ?? Version.TLS_AUTO
  for (const [name, version] of [
    ['minimum', min],
    ['maximum', max],
  ] as const) {
    if (version === Version.TLSv1_0 || version === Version.TLSv1_1) {
      ctx.refuse(`${path}.tls_${name}_protocol_version`, 'expected TLSv1_2 or TLSv1_3')
    }
  }
  return {
    minVersion: min === Version.TLSv1_3 ? 'TLSv1.3' : 'TLSv1.2',
    maxVersion: max === Version.TLSv1_2 ? 'TLSv1.2' : 'TLSv1.3',
  }
}
