// An Envoy bootstrap (envoy.config.bootstrap.v3.Bootstrap) in YAML or JSON as the configuration of a proxy.
import { type DescMessage, fromBinary, type JsonValue, type Message, toBinary } from '@bufbuild/protobuf'
import { parseDocument } from 'yaml'
import type { Problem, Result } from '../../lib/result.ts'
import { envoyDescriptors } from '../../xds/descriptors.ts'
import type { Address as AddressMessage } from '../../xds/gen/envoy/config/core/v3/address_pb.js'
import type { Node } from '../../xds/gen/envoy/config/core/v3/base_pb.js'
import type { ApiConfigSource, ConfigSource } from '../../xds/gen/envoy/config/core/v3/config_source_pb.js'
import {
  type Secret,
  SecretSchema,
} from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import type { CommonTlsContext } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { rawResource } from '../../xds/resource.ts'
import { type NodeInfo, type Snapshot, TYPE, type XdsResource } from '../../xds/types.ts'
import { AcceptContext, SOCKET_ADDRESS } from '../accept-context.ts'
import { type Allowed, unsupportedFields } from '../accept-fields.ts'
import { acceptListener } from '../accept-listener.ts'
import { references } from '../accept-references.ts'
import type { Address } from '../accept-types.ts'
import { acceptUpstream } from '../accept-upstream.ts'
import { readProtoJson } from '../protojson.ts'
import { ADS_FIELDS, ADS_SOURCE, type AdsConfig, adsCluster, readAds } from './ads.ts'
import { BootstrapContext, joinPath, type ReadFile } from './context.ts'
import { resolveDataSource, takeWatchedDirectory } from './data-sources.ts'
import { followSecretFiles } from './sds-files.ts'
import { BootstrapSecrets, generatedFrom } from './secrets.ts'

export const BOOTSTRAP = 'envoy.config.bootstrap.v3.Bootstrap'

/** What of a bootstrap is supported; the resources in it have lists of their own. */
export const BOOTSTRAP_FIELDS: Allowed = {
  node: { id: true, cluster: true, metadata: true, locality: { region: true, zone: true } },
  admin: { address: SOCKET_ADDRESS },
  static_resources: { listeners: true, clusters: true, secrets: true },
  dynamic_resources: { lds_config: ADS_SOURCE, cds_config: ADS_SOURCE, ads_config: ADS_FIELDS },
}

/** A bootstrap that is good as a whole. */
export interface BootstrapConfig {
  readonly node: NodeInfo
  readonly admin: Address | undefined
  /** Static resources by type; Secrets that were made of files and inline certificates among them. */
  readonly resources: Snapshot
  readonly ads: AdsConfig | undefined
}

export interface ReadBootstrap {
  readonly config: Result<BootstrapConfig, readonly Problem[]>
  /** What to watch, whether or not it could be read. */
  readonly files: readonly string[]
}

/** The parts of the message that are read here; descriptors have no types. */
interface BootstrapMessage extends Message {
  readonly node?: Node
  readonly admin?: { readonly address?: AddressMessage }
  readonly staticResources?: {
    readonly listeners: readonly NamedMessage[]
    readonly clusters: readonly NamedMessage[]
    readonly secrets: readonly NamedMessage[]
  }
  readonly dynamicResources?: {
    readonly ldsConfig?: ConfigSource
    readonly cdsConfig?: ConfigSource
    readonly adsConfig?: ApiConfigSource
  }
}

type NamedMessage = Message & { readonly name: string }

/** `text` is the content of `file`, which names it in problems; the files that it names are read with `read`. */
export function readBootstrap(text: string, file: string, read: ReadFile): ReadBootstrap {
  const context = new BootstrapContext(file, read)
  const config = new Bootstrap(context).read(text)
  const { problems, files } = context
  return {
    config:
      config === undefined || problems.length > 0
        ? { ok: false, error: problems }
        : { ok: true, value: config },
    files: [file, ...files],
  }
}

class Bootstrap {
  readonly #context: BootstrapContext
  readonly #registry = envoyDescriptors()
  readonly #secrets: BootstrapSecrets

  constructor(context: BootstrapContext) {
    this.#context = context
    this.#secrets = new BootstrapSecrets(
      context,
      generatedFrom((name) => this.#registry.getMessage(name)),
    )
  }

  read(text: string): BootstrapConfig | undefined {
    const json = this.#parse(text)
    const desc = this.#registry.getMessage(BOOTSTRAP)
    if (json === undefined || desc === undefined) return undefined
    const message = this.readJson(desc, json, '') as BootstrapMessage
    for (const field of unsupportedFields(desc, message, BOOTSTRAP_FIELDS, ''))
      this.#context.refuse(field, 'not supported')
    const { listeners = [], clusters = [], secrets = [] } = message.staticResources ?? {}
    for (const [index, secret] of secrets.entries())
      this.#addSecret(secret, `static_resources.secrets[${index}]`)
    const { adsConfig, ldsConfig, cdsConfig } = message.dynamicResources ?? {}
    const discovery = adsCluster(this.#context, adsConfig)
    const at = clusters.findIndex(({ name }) => name === discovery)
    if (discovery !== undefined && at === -1)
      this.#context.refuse(
        'dynamic_resources.ads_config.grpc_services',
        `no static cluster is called ${discovery}`,
      )
    const found = clusters[at]
    const ads =
      found &&
      readAds(
        this.#context,
        { ads: adsConfig, listeners: ldsConfig, clusters: cdsConfig },
        { desc: this.#descOf(found), message: found, path: `static_resources.clusters[${at}]` },
      )
    if (adsConfig === undefined)
      for (const [name, source] of [
        ['lds_config', ldsConfig],
        ['cds_config', cdsConfig],
      ] as const)
        if (source !== undefined)
          this.#context.refuse(`dynamic_resources.${name}`, 'expected an ads_config beside it')
    const upstreams = this.#take(TYPE.cluster, 'clusters', clusters, (one) => one !== found)
    const doors = this.#take(TYPE.listener, 'listeners', listeners, () => true)
    const resources = new Map([
      [TYPE.cluster, upstreams],
      [TYPE.listener, doors],
      [TYPE.secret, this.#secrets.resources],
    ])
    if (ads === undefined) this.#checkReferences(resources)
    return { node: nodeOf(message.node), admin: this.#readAdmin(message.admin), resources, ads }
  }

  readJson(desc: DescMessage, json: JsonValue, path: string): Message {
    return readProtoJson(desc, json, path, {
      registry: this.#registry,
      refuse: (at, message) => this.#context.refuse(at, message),
      visit: (message, at) => this.#visit(message, at),
    })
  }

  /** Files, variables and certificates become what the engine takes, wherever in the bootstrap they stand. */
  #visit(message: Message, path: string): void {
    switch (message.$typeName) {
      case 'envoy.config.core.v3.DataSource':
        resolveDataSource(this.#context, message, path)
        break
      case 'envoy.extensions.transport_sockets.tls.v3.TlsCertificate':
      case 'envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext':
        takeWatchedDirectory(this.#context, message as never)
        break
      case 'envoy.extensions.transport_sockets.tls.v3.CommonTlsContext':
        this.#secrets.extract(message, path)
        followSecretFiles(this.#context, message as CommonTlsContext, path, {
          parse: (text) => this.#parse(text),
          add: (secret, at, name) => this.#addSecret(secret, at, name),
          readJson: (desc, json, at) => this.readJson(desc, json, at),
          registry: this.#registry,
        })
        break
    }
  }

  #addSecret(message: Message, path: string, name?: string): void {
    const secret = fromBinary(SecretSchema, toBinary(this.#descOf(message), message)) as Secret
    this.#secrets.add(secret, path, name)
  }

  /** Each resource is checked as if it had come from discovery. */
  #take(
    typeUrl: string,
    list: string,
    messages: readonly NamedMessage[],
    wanted: (message: NamedMessage) => boolean,
  ): Map<string, XdsResource> {
    const taken = new Map<string, XdsResource>()
    for (const [index, message] of messages.entries()) {
      if (!wanted(message)) continue
      const path = `static_resources.${list}[${index}]`
      const { name } = message
      if (name === '') this.#context.refuse(`${path}.name`, 'expected a name')
      else if (taken.has(name)) this.#context.refuse(`${path}.name`, `a second one is called ${name}`)
      const resource = rawResource(name, typeUrl, toBinary(this.#descOf(message), message))
      const accepted = typeUrl === TYPE.listener ? acceptListener(resource) : acceptUpstream(resource)
      if (!accepted.ok) this.#context.adopt(accepted.error, (field) => joinPath(path, field))
      taken.set(name, resource)
    }
    return taken
  }

  /** Without discovery, what is not here will never come. */
  #checkReferences(resources: Snapshot): void {
    for (const [typeUrl, list] of [
      [TYPE.listener, 'listeners'],
      [TYPE.cluster, 'clusters'],
    ] as const) {
      for (const [index, resource] of [...(resources.get(typeUrl)?.values() ?? [])].entries()) {
        const path = `static_resources.${list}[${index}]`
        const { secrets, endpoints } = references(typeUrl, resource)
        for (const name of secrets)
          if (!this.#secrets.resources.has(name))
            this.#context.refuse(path, `the secret ${name} is not here, and there is no ads_config`)
        for (const name of endpoints)
          this.#context.refuse(path, `the endpoints ${name} are not here, and there is no ads_config`)
      }
    }
  }

  #readAdmin(admin: BootstrapMessage['admin']): Address | undefined {
    if (admin?.address === undefined) return undefined
    const accept = new AcceptContext(this.#context.object)
    const address = accept.finish(accept.address(admin.address, 'admin.address', true))
    if (!address.ok) this.#context.adopt(address.error, (field) => field)
    return address.ok ? address.value : undefined
  }

  #parse(text: string): JsonValue | undefined {
    const document = parseDocument(text, { prettyErrors: true })
    for (const error of document.errors)
      this.#context.refuse('', error.message.split('\n')[0] ?? 'is no YAML')
    if (document.errors.length > 0) return undefined
    try {
      return document.toJS() as JsonValue
    } catch (error) {
      // Aliases that would make it many times its size.
      this.#context.refuse('', (error as Error).message)
      return undefined
    }
  }

  #descOf(message: Message): DescMessage {
    const desc = this.#registry.getMessage(message.$typeName)
    if (desc === undefined) throw new Error(`no descriptor of ${message.$typeName}`)
    return desc
  }
}

function nodeOf(node: Node | undefined): NodeInfo {
  return {
    id: node?.id ?? '',
    cluster: node?.cluster ?? '',
    metadata: node?.metadata ?? {},
    locality: { region: node?.locality?.region ?? '', zone: node?.locality?.zone ?? '' },
    userAgentName: 'isthmus',
  }
}
