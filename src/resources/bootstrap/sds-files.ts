import {
  type DescMessage,
  type FileRegistry,
  fromBinary,
  type JsonValue,
  type Message,
} from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import type { ConfigSource } from '../../xds/gen/envoy/config/core/v3/config_source_pb.js'
import type { SdsSecretConfig } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import type { CommonTlsContext } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import type { BootstrapContext } from './context.ts'

const SECRET = 'envoy.extensions.transport_sockets.tls.v3.Secret'
const RESPONSE = 'envoy.service.discovery.v3.DiscoveryResponse'

interface Reader {
  readonly registry: FileRegistry
  readonly parse: (text: string) => JsonValue | undefined
  readonly readJson: (desc: DescMessage, json: JsonValue, path: string) => Message
  readonly add: (secret: Message, path: string, name: string) => void
}

/** Reads the Secrets that a TLS context wants from a file (`path_config_source`: a DiscoveryResponse), and refers to them by name. */
export function followSecretFiles(
  context: BootstrapContext,
  tls: CommonTlsContext,
  path: string,
  reader: Reader,
): void {
  for (const [index, config] of tls.tlsCertificateSdsSecretConfigs.entries())
    follow(context, config, `${path}.tls_certificate_sds_secret_configs[${index}]`, reader)
  const { case: kind, value } = tls.validationContextType
  if (kind === 'validationContextSdsSecretConfig')
    follow(context, value, `${path}.validation_context_sds_secret_config`, reader)
  if (kind === 'combinedValidationContext' && value.validationContextSdsSecretConfig !== undefined)
    follow(
      context,
      value.validationContextSdsSecretConfig,
      `${path}.combined_validation_context.validation_context_sds_secret_config`,
      reader,
    )
}

function follow(context: BootstrapContext, config: SdsSecretConfig, path: string, reader: Reader): void {
  const file = fileOf(context, config.sdsConfig)
  if (file === undefined) return
  config.sdsConfig = undefined
  const at = `${path}.sds_config`
  const text = context.read(file, at)
  const json = text === '' ? undefined : reader.parse(text)
  const desc = reader.registry.getMessage(RESPONSE)
  const secret = reader.registry.getMessage(SECRET)
  if (json === undefined || desc === undefined || secret === undefined) return
  const { resources } = reader.readJson(desc, json, at) as Message & { readonly resources: readonly Any[] }
  for (const any of resources) {
    if (!any.typeUrl.endsWith(SECRET)) continue
    const found = fromBinary(secret, any.value) as Message & { readonly name: string }
    if (found.name !== config.name) continue
    // Two files may have a Secret of one name.
    const name = `${file}#${config.name}`
    if (!context.secretFiles.has(name)) reader.add(found, at, name)
    context.secretFiles.add(name)
    config.name = name
    return
  }
  context.refuse(at, `${file} has no secret called ${config.name}`)
}

function fileOf(context: BootstrapContext, source: ConfigSource | undefined): string | undefined {
  const specifier = source?.configSourceSpecifier
  if (specifier?.case === 'path') return specifier.value
  if (specifier?.case !== 'pathConfigSource') return undefined
  const { path, watchedDirectory } = specifier.value
  if (watchedDirectory !== undefined) context.files.add(watchedDirectory.path)
  return path
}
