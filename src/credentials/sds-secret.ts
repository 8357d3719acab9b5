import { anyUnpack } from '@bufbuild/protobuf/wkt'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { DataSource } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import type {
  CertificateValidationContext,
  TlsCertificate,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import { decodeResource } from '../xds/resource.ts'
import type { XdsResource } from '../xds/types.ts'

/** A `tls_certificate` Secret, in PEM. */
export interface SdsCertificate {
  readonly certificate: string
  readonly privateKey: string
}

/** A `validation_context` Secret. */
export interface SdsTrust {
  /** `trusted_ca`, in PEM: what an agent sends for the trust domain that it serves. */
  readonly trustedCa: string
  /** Of the SPIFFE validator, in PEM by trust domain; empty where there is none. */
  readonly trustDomains: ReadonlyMap<string, string>
  /** `crl`, in PEM; '' for none. */
  readonly crl: string
}

export function readCertificate(resource: XdsResource): Result<SdsCertificate> {
  return read(resource, 'tlsCertificate', (value, object) => {
    const { certificateChain, privateKey, privateKeyProvider, password } = value as TlsCertificate
    if (privateKeyProvider !== undefined || password !== undefined) {
      const field = password === undefined ? 'private_key_provider' : 'password'
      return fail(problem(object, `tls_certificate.${field}`, 'not supported: the key itself is needed'))
    }
    const certificate = inline(certificateChain, object, 'tls_certificate.certificate_chain')
    if (!certificate.ok) return certificate
    const key = inline(privateKey, object, 'tls_certificate.private_key')
    return key.ok ? ok({ certificate: certificate.value, privateKey: key.value }) : key
  })
}

export function readTrust(resource: XdsResource): Result<SdsTrust> {
  return read(resource, 'validationContext', (value, object) => {
    const { trustedCa, customValidatorConfig, crl } = value as CertificateValidationContext
    const lists = crl === undefined ? ok('') : inline(crl, object, 'validation_context.crl')
    if (!lists.ok) return lists
    if (customValidatorConfig === undefined) {
      const pem = inline(trustedCa, object, 'validation_context.trusted_ca')
      return pem.ok ? ok({ trustedCa: pem.value, trustDomains: new Map(), crl: lists.value }) : pem
    }
    const any = customValidatorConfig.typedConfig
    const path = 'validation_context.custom_validator_config.typed_config'
    const validator = any === undefined ? undefined : anyUnpack(any, SPIFFECertValidatorConfigSchema)
    if (validator === undefined) return fail(problem(object, path, 'expected a SPIFFECertValidatorConfig'))
    const trustDomains = new Map<string, string>()
    for (const [index, { name, trustBundle }] of validator.trustDomains.entries()) {
      const pem = inline(trustBundle, object, `${path}.trust_domains[${index}].trust_bundle`)
      if (!pem.ok) return pem
      trustDomains.set(name, pem.value)
    }
    return ok({ trustedCa: '', trustDomains, crl: lists.value })
  })
}

function read<T>(
  resource: XdsResource,
  kind: 'tlsCertificate' | 'validationContext',
  readValue: (value: TlsCertificate | CertificateValidationContext, object: string) => Result<T, Problem>,
): Result<T> {
  const object = `Secret ${resource.name}`
  const decoded = decodeResource(SecretSchema, resource)
  if (!decoded.ok) return fail({ ...decoded.error, object })
  const { type } = decoded.value
  if (type.case !== kind) {
    const expected = kind === 'tlsCertificate' ? 'tls_certificate' : 'validation_context'
    return fail(problem(object, '', `expected ${expected}`))
  }
  try {
    return readValue(type.value as TlsCertificate | CertificateValidationContext, object)
  } catch {
    return fail(problem(object, '', 'does not decode'))
  }
}

function inline(source: DataSource | undefined, object: string, field: string): Result<string> {
  const specifier = source?.specifier
  if (specifier?.case === 'inlineString') return ok(specifier.value)
  if (specifier?.case === 'inlineBytes') return ok(Buffer.from(specifier.value).toString('utf8'))
  return fail(problem(object, field, 'expected inline_string or inline_bytes'))
}
