import type { Model, ModelGateway } from '../model/types.ts'
import { ClusterSchema } from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { TYPE } from '../xds/types.ts'
import { callersOf } from './caller-rules.ts'
import { type DiscoveryDoor, discoveryCluster, discoveryRoutes } from './discovery-route.ts'
import { type DomainBundle, TRUST_BUNDLES, trustBundleSecret } from './envoy.ts'
import { type EnvoyGatewayShape, envoyGateway } from './envoy-gateway-listener.ts'
import { type GatewayListenerShape, gatewayListener } from './gateway-listener.ts'
import { addUpstreams, type GatewayRoute, gatewayRoutes, upstreamName } from './gateway-upstreams.ts'
import { withParts } from './policy-names.ts'
import { SnapshotBuilder } from './snapshot-builder.ts'

export interface GatewayOptions {
  /** Where the listener binds. */
  readonly bind: { readonly address: string; readonly port: number }
  /** This cluster's own trust bundle and its peers', by trust domain. */
  readonly bundles: readonly DomainBundle[]
  /**
   * Whether the client is our own engine, which knows a caller's issuer and our metadata, and decides before it connects. Default false: it
   * is an Envoy.
   */
  readonly issuers?: boolean
  /** False for clients in clear: everything but the Secret. */
  readonly secrets: boolean
  /** An Envoy's SDS file with its own certificate; empty for our gateway. */
  readonly credentialFile: string
  /** Where the discovery server of this cluster is, for those of its peers; absent: they have another way. */
  readonly door?: DiscoveryDoor | undefined
}

/**
 * What one gateway serves: a listener that terminates mutual TLS, decides on the caller's verified identity and routes by
 * SNI to the service's upstream, or passes mesh TLS through where a service asks for that. A gateway that is gone
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
  const ours = options.issuers === true
  const routes = gatewayRoutes(model, `${gateway.namespace}/${gateway.name}`, builder.memo('routes'))
  addUpstreams(builder, routes, { credentialFile, ours })
  const { proxyProtocolSources } = gateway
  const policies = withParts(model.authorization.get(`${gateway.namespace}/${gateway.name}`) ?? [], routes)
  const discovery = discoveryRoutes(model, options.door)
  for (const route of discovery)
    builder.message(TYPE.cluster, ClusterSchema, route.name, route, () => discoveryCluster(route))
  const common = { bind, callers: callersOf(model, options), policies, proxyProtocolSources, discovery }
  const trust = ours ? ourListener(builder, common, routes) : envoyListener(builder, common, routes, options)
  if (!options.secrets) return builder
  builder.message(TYPE.secret, SecretSchema, TRUST_BUNDLES, bundles, () => trustBundleSecret(bundles))
  for (const [name, trustDomains] of trust) {
    const some = bundles.filter(({ trustDomain }) => trustDomains.includes(trustDomain))
    builder.message(TYPE.secret, SecretSchema, name, some, () => trustBundleSecret(some, name))
  }
  return builder
}

type Common = Omit<GatewayListenerShape, 'passthrough'>
/** Secrets that a listener needs beside `ROOTCA`: name → trust domains. */
type Trust = ReadonlyMap<string, readonly string[]>

function ourListener(builder: SnapshotBuilder, common: Common, routes: readonly GatewayRoute[]): Trust {
  const shape: GatewayListenerShape = {
    ...common,
    passthrough: routes
      .filter(({ passthrough }) => passthrough)
      .map(({ name, aliases }) => ({ upstream: name, serverNames: [name, ...aliases] })),
  }
  builder.message(TYPE.listener, ListenerSchema, 'eastwest', shape, () => gatewayListener(shape))
  return new Map()
}

function envoyListener(
  builder: SnapshotBuilder,
  common: Common,
  routes: readonly GatewayRoute[],
  { credentialFile }: GatewayOptions,
): Trust {
  const services = routes.map(({ name, aliases, passthrough, protocol }) => ({
    upstream: upstreamName(name, passthrough, false),
    serverNames: [name, ...aliases],
    passthrough,
    protocol,
  }))
  const shape: EnvoyGatewayShape = { ...common, services, credentialFile }
  const made = { shape: JSON.stringify(shape) }
  const { listener, trust } = builder.memo('envoy').get('', made, () => envoyGateway(shape))
  builder.message(TYPE.listener, ListenerSchema, 'eastwest', shape, () => listener)
  return trust
}
