import type { Model, ModelGateway } from '../model/types.ts'
import { ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { TYPE } from '../xds/types.ts'
import { callersOf } from './caller-rules.ts'
import { type DomainBundle, TRUST_BUNDLES, trustBundleSecret } from './envoy.ts'
import { type GatewayListenerShape, gatewayListener } from './gateway-listener.ts'
import { addUpstreams, gatewayRoutes } from './gateway-upstreams.ts'
import { SnapshotBuilder } from './snapshot-builder.ts'

export interface GatewayOptions {
  /** Where the listener binds. */
  readonly bind: { readonly address: string; readonly port: number }
  /** This cluster's own trust bundle and its peers', by trust domain. */
  readonly bundles: readonly DomainBundle[]
  /** Whether the client knows what is our own, as our engine does: the issuer of a caller, our metadata. Default false. */
  readonly issuers?: boolean
  /** False for clients in clear: everything but the Secret. */
  readonly secrets: boolean
  /** An Envoy's SDS file with its own certificate; empty for our gateway. */
  readonly credentialFile: string
}

/**
 * What one gateway serves: a listener that terminates mutual TLS, decides on the caller's verified identity and routes by
 * SNI to the upstream of the same name, or passes mesh TLS through where a service asks for that. A gateway that is gone
 * (undefined) has nothing left, which drains it.
 */
export function gatewayResources(
  model: Model,
  gateway: ModelGateway | undefined,
  options: GatewayOptions,
  previous?: SnapshotBuilder,
): SnapshotBuilder {
  const builder = new SnapshotBuilder(previous)
  for (const typeUrl of [TYPE.cluster, TYPE.endpoints, TYPE.listener]) builder.type(typeUrl)
  if (options.secrets) builder.type(TYPE.secret)
  if (gateway === undefined) return builder

  const { bundles, bind, credentialFile } = options
  const routes = gatewayRoutes(model, `${gateway.namespace}/${gateway.name}`, builder.memo('routes'))
  addUpstreams(builder, routes, credentialFile)
  const shape: GatewayListenerShape = {
    bind,
    callers: callersOf(model, options),
    policies: model.authorization.get(`${gateway.namespace}/${gateway.name}`) ?? [],
    passthrough: routes
      .filter(({ passthrough }) => passthrough)
      .map(({ name, aliases }) => ({ upstream: name, serverNames: [name, ...aliases] })),
    proxyProtocolSources: gateway.proxyProtocolSources,
    credentialFile,
    ours: options.issuers === true,
  }
  builder.message(TYPE.listener, ListenerSchema, 'eastwest', shape, () => gatewayListener(shape))
  if (options.secrets) {
    builder.message(TYPE.secret, SecretSchema, TRUST_BUNDLES, bundles, () => trustBundleSecret(bundles))
  }
  return builder
}
