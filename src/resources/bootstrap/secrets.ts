// The engine takes certificates by the names of Secrets alone. A bootstrap has them in its TLS contexts, in files or inline: each
// becomes a Secret of its own, and the context refers to it.
import { create, type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import { equalBytes } from '../../identity/certificate.ts'
import { contentHash } from '../../lib/canonical.ts'
import type { DataSource } from '../../xds/gen/envoy/config/core/v3/base_pb.js'
import { TypedExtensionConfigSchema } from '../../xds/gen/envoy/config/core/v3/extension_pb.js'
import {
  type CertificateValidationContext,
  CertificateValidationContextSchema,
  type SubjectAltNameMatcher,
  type TlsCertificate,
  TlsCertificateSchema,
} from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import {
  SdsSecretConfigSchema,
  type Secret,
  SecretSchema,
} from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import {
  CommonTlsContext_CombinedCertificateValidationContextSchema as CombinedSchema,
  type CommonTlsContext,
} from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import { encodeResource } from '../../xds/resource.ts'
import type { XdsResource } from '../../xds/types.ts'
import { acceptSecret } from '../accept-secret.ts'
import { pack } from '../envoy.ts'
import { type BootstrapContext, joinPath } from './context.ts'

/** Makes a message of the generated code of one that was read by descriptors; both are the same on the wire. */
type Generated = <D extends DescMessage>(schema: D, message: Message) => ReturnType<typeof fromBinary<D>>

interface Place {
  /** The path of the Secret's fields in the bootstrap, by the field of the Secret that they are in. */
  readonly of: Readonly<Record<string, string>>
  readonly path: string
}

/** The Secrets of a bootstrap: those that it names, and those that its TLS contexts hold. */
export class BootstrapSecrets {
  readonly #context: BootstrapContext
  readonly #generated: Generated
  readonly #secrets = new Map<string, XdsResource>()

  constructor(context: BootstrapContext, generated: Generated) {
    this.#context = context
    this.#generated = generated
  }

  get resources(): ReadonlyMap<string, XdsResource> {
    return this.#secrets
  }

  /** A Secret with a name of its own, from `static_resources` or an SDS file. */
  add(secret: Secret, path: string, name: string = secret.name): void {
    if (name === '') this.#context.refuse(`${path}.name`, 'expected a name')
    else if (this.#secrets.has(name))
      this.#context.refuse(`${path}.name`, `a second secret is called ${name}`)
    else this.#keep({ ...secret, name }, { path, of: {} })
  }

  /** Moves what a `CommonTlsContext` holds into Secrets. */
  extract(message: Message, path: string): void {
    const context = message as CommonTlsContext
    this.#extractCertificate(context, path)
    if (context.validationContextType.case === 'validationContext') this.#extractValidation(context, path)
  }

  #extractCertificate(context: CommonTlsContext, path: string): void {
    const [certificate, ...others] = context.tlsCertificates
    if (certificate === undefined) return
    const at = `${path}.tls_certificates`
    if (others.length > 0) this.#context.refuse(at, `expected one, found ${context.tlsCertificates.length}`)
    const value = this.#generated(TlsCertificateSchema, certificate as Message) as TlsCertificate
    const secret = secretOf('tlsCertificate', value, this.#fileOf(certificate.certificateChain))
    const name = this.#keep(secret, { path: `${at}[0]`, of: { tls_certificate: `${at}[0]` } })
    context.tlsCertificates = []
    context.tlsCertificateSdsSecretConfigs.push(create(SdsSecretConfigSchema, { name }))
  }

  /** The names that a peer may have stay with the context, the trust goes into the Secret. */
  #extractValidation(context: CommonTlsContext, path: string): void {
    const at = `${path}.validation_context`
    const held = context.validationContextType.value as CertificateValidationContext
    const whole = this.#generated(CertificateValidationContextSchema, held) as CertificateValidationContext
    const { matchTypedSubjectAltNames: names, ...trust } = whole
    const value = this.#withValidator({ ...trust, matchTypedSubjectAltNames: [] }, names, at)
    const secret = secretOf('validationContext', value, this.#fileOf(held.trustedCa))
    const name = this.#keep(secret, { path: at, of: { validation_context: at } })
    context.validationContextType = {
      case: 'combinedValidationContext',
      value: create(CombinedSchema, {
        defaultValidationContext: { matchTypedSubjectAltNames: names },
        validationContextSdsSecretConfig: { name },
      }),
    }
  }

  #fileOf(source: DataSource | undefined): string {
    return (source && this.#context.sources.get(source)) ?? ''
  }

  /**
   * A plain `trusted_ca` pools everybody whom its CAs vouch for. Where the names that are accepted are all of one trust domain, it
   * means the same as that domain's bundle, and becomes it.
   */
  #withValidator(
    value: CertificateValidationContext,
    names: readonly SubjectAltNameMatcher[],
    path: string,
  ): CertificateValidationContext {
    const { trustedCa, customValidatorConfig } = value
    if (trustedCa === undefined || customValidatorConfig !== undefined) return value
    const domains = new Set(names.map(({ matcher }) => trustDomainOf(matcher?.matchPattern)))
    const [name] = domains
    if (domains.size !== 1 || name === undefined) {
      this.#context.refuse(
        `${path}.trusted_ca`,
        'expected a SPIFFECertValidatorConfig, or match_typed_subject_alt_names of one trust domain (exact, or a prefix up to a "/" after it)',
      )
      return value
    }
    const validator = create(SPIFFECertValidatorConfigSchema, {
      trustDomains: [{ name, trustBundle: trustedCa }],
    })
    const { trustedCa: _, ...rest } = value
    return {
      ...rest,
      customValidatorConfig: create(TypedExtensionConfigSchema, {
        name: 'envoy.tls.cert_validator.spiffe',
        typedConfig: pack(SPIFFECertValidatorConfigSchema, validator),
      }),
    }
  }

  /** Keeps a Secret under its name (its file's), or the path where it was found; equal ones are one. Returns the name. */
  #keep(secret: Secret, { path, of }: Place): string {
    let resource = secretResource({ ...secret, name: secret.name || path })
    const same = this.#secrets.get(resource.name)
    // One file in two roles.
    if (same !== undefined && !equalBytes(same.body, resource.body))
      resource = secretResource({ ...secret, name: path })
    const { name } = resource
    this.#secrets.set(name, resource)
    if (this.#context.hasBelow(path)) return name
    const accepted = acceptSecret(resource)
    if (!accepted.ok)
      this.#context.adopt(accepted.error, (field) => {
        const [first = '', ...rest] = field.split('.')
        return of[first] === undefined ? joinPath(path, field) : [of[first], ...rest].join('.')
      })
    return name
  }
}

function secretOf(
  kind: 'tlsCertificate' | 'validationContext',
  value: TlsCertificate | CertificateValidationContext,
  name: string,
): Secret {
  return create(SecretSchema, { name, type: { case: kind, value } as never })
}

/** The hash of a file with a key in it is nothing to show around: the certificate alone tells versions apart. */
function secretResource(secret: Secret): XdsResource {
  const resource = encodeResource(SecretSchema, secret, secret.name)
  if (secret.type.case !== 'tlsCertificate') return resource
  return { ...resource, version: contentHash(textOf(secret.type.value.certificateChain)) }
}

function textOf(source: DataSource | undefined): string {
  const { case: kind, value } = source?.specifier ?? {}
  if (kind === 'inlineString') return value ?? ''
  return kind === 'inlineBytes' ? Buffer.from(value ?? new Uint8Array()).toString('utf8') : ''
}

/** The trust domain that a matcher of URIs cannot leave. */
function trustDomainOf(
  pattern: { readonly case?: string | undefined; readonly value?: unknown } | undefined,
) {
  if ((pattern?.case !== 'exact' && pattern?.case !== 'prefix') || typeof pattern.value !== 'string')
    return undefined
  return /^spiffe:\/\/([^/]+)\//.exec(pattern.value)?.[1]
}

/** For messages that were read by descriptors. */
export function generatedFrom(find: (typeName: string) => DescMessage | undefined): Generated {
  return (schema, message) => {
    const desc = find(schema.typeName)
    if (desc === undefined) throw new Error(`no descriptor of ${schema.typeName}`)
    return fromBinary(schema, toBinary(desc, message))
  }
}
