import { attachCrls } from '../identity/attach-crls.ts'
import { parseCredential } from '../identity/credential.ts'
import { parseCrlsPem } from '../identity/crl.ts'
import { TrustBundle, TrustBundles } from '../identity/trust-bundle.ts'
import { fail, type Problem, type Result } from '../lib/result.ts'
import type { DataSource } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import type {
  CertificateValidationContext,
  TlsCertificate,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import type { XdsResource } from '../xds/types.ts'
import { type AcceptContext, begin } from './accept-context.ts'
import type { SecretConfig } from './accept-types.ts'

const INLINE = { inline_string: true, inline_bytes: true } as const
export const SECRET_FIELDS = {
  name: true,
  tls_certificate: { certificate_chain: INLINE, private_key: INLINE },
  validation_context: { custom_validator_config: { name: true, typed_config: true }, crl: INLINE },
} as const
export const VALIDATOR_FIELDS = { trust_domains: { name: true, trust_bundle: INLINE } } as const

/**
 * Envoy Secret → a credential, or the trust bundles of the SPIFFE validator. A plain `trusted_ca` is refused: it pools trust
 * domains, so any of its CAs could speak for all of them. A `crl` counts, where Envoy's SPIFFE validator does not look at it.
 */
export function acceptSecret(resource: XdsResource): Result<SecretConfig, Problem> {
  const begun = begin(resource, SecretSchema, SECRET_FIELDS)
  if (!begun.ok) return begun
  const { ctx, message } = begun.value
  const base = { name: resource.name, version: resource.version }
  switch (message.type.case) {
    case 'tlsCertificate':
      return acceptCredential(ctx, message.type.value, base)
    case 'validationContext':
      return acceptTrust(ctx, message.type.value, base)
    default:
      ctx.refuse('', 'expected tls_certificate or validation_context')
      return ctx.finish({ kind: 'trust', ...base, bundles: new TrustBundles() })
  }
}

type Base = Pick<SecretConfig, 'name' | 'version'>

function acceptCredential(
  ctx: AcceptContext,
  message: TlsCertificate,
  base: Base,
): Result<SecretConfig, Problem> {
  const chain = readText(ctx, message.certificateChain, 'tls_certificate.certificate_chain')
  const key = readText(ctx, message.privateKey, 'tls_certificate.private_key')
  if (ctx.refused) return ctx.finish<SecretConfig>({ kind: 'trust', ...base, bundles: new TrustBundles() })
  const credential = parseCredential(chain, key, ctx.object)
  return credential.ok
    ? ctx.finish({ kind: 'credential', ...base, credential: credential.value })
    : credential
}

function acceptTrust(
  ctx: AcceptContext,
  message: CertificateValidationContext,
  base: Base,
): Result<SecretConfig, Problem> {
  const path = 'validation_context.custom_validator_config.typed_config'
  const any = message.customValidatorConfig?.typedConfig
  const validator = any && ctx.unpack(any, SPIFFECertValidatorConfigSchema, VALIDATOR_FIELDS, path)
  if (any === undefined) ctx.refuse(path, 'expected a SPIFFECertValidatorConfig')
  const domains = validator?.trustDomains ?? []
  if (domains.length === 0) ctx.refuse(`${path}.trust_domains`, 'expected at least one')
  const bundles: TrustBundle[] = []
  for (const [index, domain] of domains.entries()) {
    const at = `${path}.trust_domains[${index}]`
    if (bundles.some(({ trustDomain }) => trustDomain === domain.name))
      ctx.refuse(`${at}.name`, `${domain.name} is listed twice`)
    const bundle = TrustBundle.parse(
      domain.name,
      readText(ctx, domain.trustBundle, `${at}.trust_bundle`),
      ctx.object,
    )
    if (bundle.ok) bundles.push(bundle.value)
    else if (!ctx.refused) return fail({ ...bundle.error, field: `${at}.${bundle.error.field}` })
  }
  return ctx.finish({ kind: 'trust', ...base, bundles: new TrustBundles(readCrls(ctx, message, bundles)) })
}

/** The bundles with the CRLs of their CAs. Lists of CAs that are in none of them decide about nobody. */
function readCrls(
  ctx: AcceptContext,
  { crl }: CertificateValidationContext,
  bundles: readonly TrustBundle[],
): readonly TrustBundle[] {
  const path = 'validation_context.crl'
  if (crl === undefined || ctx.refused) return bundles
  const text = readText(ctx, crl, path)
  const crls = parseCrlsPem(text)
  const attached = crls.ok ? attachCrls(bundles, crls.value) : crls
  if (attached.ok) return attached.value.bundles
  ctx.refuse(path, attached.error)
  return bundles
}

function readText(ctx: AcceptContext, source: DataSource | undefined, path: string): string {
  const specifier = source?.specifier
  if (specifier?.case === 'inlineString') return specifier.value
  if (specifier?.case === 'inlineBytes') return Buffer.from(specifier.value).toString('utf8')
  ctx.refuse(path, 'expected inline_string or inline_bytes')
  return ''
}
