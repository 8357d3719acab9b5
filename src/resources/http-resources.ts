// HTTP as a client's own proxy speaks it: a connection manager whose routes come over RDS, for Envoys and for gRPC clients.
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import type { ModelPort } from '../model/types.ts'
import type { Filter } from '../xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import type { RouteActionSchema } from '../xds/gen/envoy/config/route/v3/route_components_pb.js'
import {
  type RouteConfiguration,
  RouteConfigurationSchema,
} from '../xds/gen/envoy/config/route/v3/route_pb.js'
import { RouterSchema } from '../xds/gen/envoy/extensions/filters/http/router/v3/router_pb.js'
import {
  type HttpConnectionManager,
  HttpConnectionManager_ServerHeaderTransformation,
  HttpConnectionManagerSchema,
} from '../xds/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js'
import { PreviousHostsPredicateSchema } from '../xds/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js'
import { HttpProtocolOptionsSchema } from '../xds/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js'
import { adsSource, filter, pack, seconds } from './envoy.ts'

type Protocol = ModelPort['protocol']

/** Whether requests of this protocol can be read on their way, so that each is balanced, retried and answered for by itself. */
export function isHttp(protocol: Protocol): boolean {
  return protocol === 'http' || protocol === 'http2' || protocol === 'grpc'
}

/** The name of a port's RouteConfiguration, Istio's: `productpage.bookinfo.svc.cluster.local:9080`. */
export function routeName(host: string, port: number): string {
  return `${host}:${port}`
}

/** A gRPC client's connection manager (gRFC A27, A39): it reads `rds` and the list of filters, whose last must be the router. */
export function grpcConnectionManager(route: string): HttpConnectionManager {
  return create(HttpConnectionManagerSchema, {
    statPrefix: route,
    routeSpecifier: { case: 'rds', value: { routeConfigName: route, configSource: adsSource() } },
    httpFilters: [router({})],
  })
}

/**
 * An Envoy's: it hands on what the application said, adds no header of its own and answers for nobody; no stream is cut for being
 * quiet (the default ends it after 5 minutes).
 */
export function envoyHttpFilter(route: string): Filter {
  const manager = create(HttpConnectionManagerSchema, {
    statPrefix: route,
    routeSpecifier: { case: 'rds', value: { routeConfigName: route, configSource: adsSource() } },
    httpFilters: [router({ suppressEnvoyHeaders: true })],
    httpProtocolOptions: { acceptHttp10: true },
    serverHeaderTransformation: HttpConnectionManager_ServerHeaderTransformation.PASS_THROUGH,
    generateRequestId: false,
    proxy100Continue: true,
    streamIdleTimeout: seconds(0),
    upgradeConfigs: [{ upgradeType: 'websocket' }],
  })
  return filter('envoy.filters.network.http_connection_manager', HttpConnectionManagerSchema, manager)
}

function router(options: MessageInitShape<typeof RouterSchema>) {
  const value = pack(RouterSchema, create(RouterSchema, options))
  return { name: 'envoy.filters.http.router', configType: { case: 'typedConfig' as const, value } }
}

/**
 * Everything that comes to one port of one host goes to its upstream, whatever `Host` or `:authority` says: the listener, or the
 * name that was resolved, has decided already. `action` adds to that.
 */
function routes(
  name: string,
  upstream: string,
  action: MessageInitShape<typeof RouteActionSchema>,
): RouteConfiguration {
  const route = { ...action, clusterSpecifier: { case: 'cluster' as const, value: upstream } }
  const match = { pathSpecifier: { case: 'prefix' as const, value: '' } }
  return create(RouteConfigurationSchema, {
    name,
    virtualHosts: [{ name, domains: ['*'], routes: [{ match, action: { case: 'route', value: route } }] }],
  })
}

/** For a gRPC client. No `retry_policy`: the codes that it could name may come from a server that has done the work already. */
export function grpcRoutes(name: string, upstream: string): RouteConfiguration {
  return routes(name, upstream, {})
}

/**
 * For an Envoy: no deadline but the caller's (the default would be 15 s), and a retry, on another endpoint, only of what certainly
 * never reached an application.
 */
export function envoyRoutes(name: string, upstream: string): RouteConfiguration {
  const value = pack(PreviousHostsPredicateSchema, create(PreviousHostsPredicateSchema))
  return routes(name, upstream, {
    timeout: seconds(0),
    retryPolicy: {
      retryOn: 'connect-failure,refused-stream,reset-before-request',
      numRetries: 2,
      retryHostPredicate: [
        { name: 'envoy.retry_host_predicates.previous_hosts', configType: { case: 'typedConfig', value } },
      ],
      hostSelectionRetryMaxAttempts: 5n,
    },
  })
}

const HTTP_PROTOCOL_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'

/**
 * `typed_extension_protocol_options` of an Envoy's upstream: HTTP/2 with prior knowledge where the port says so, else whatever the
 * caller speaks, as if the bytes went through untouched.
 */
export function envoyUpstreamProtocol(protocol: Protocol): Record<string, Any> {
  const options = create(HttpProtocolOptionsSchema, {
    upstreamProtocolOptions:
      protocol === 'http'
        ? {
            case: 'useDownstreamProtocolConfig',
            value: { httpProtocolOptions: {}, http2ProtocolOptions: {} },
          }
        : {
            case: 'explicitHttpConfig',
            value: { protocolConfig: { case: 'http2ProtocolOptions', value: {} } },
          },
  })
  return { [HTTP_PROTOCOL_OPTIONS]: pack(HttpProtocolOptionsSchema, options) }
}
