import type { Variant } from './messages.ts'
import { TYPE } from './types.ts'

export interface Method {
  readonly variant: Variant
  /** Undefined: ADS, each request names its type. */
  readonly onlyType: string | undefined
}

export const ADS_PATH: Readonly<Record<Variant, string>> = {
  sotw: '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources',
  delta: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
}

/**
 * Ours: Delta xDS with the roles changed. Who opens the stream serves on it, for servers that can dial and cannot be dialled: he gets
 * `DeltaDiscoveryRequest` and sends `DeltaDiscoveryResponse`.
 */
export const REVERSE_PATH = '/isthmus.discovery.v1.ReverseDiscoveryService/DeltaAggregatedResources'

/** SDS alone, as a local agent serves it. */
export const SDS_PATH: Readonly<Record<Variant, string>> = {
  sotw: '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets',
  delta: '/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets',
}

const PER_TYPE: readonly (readonly [service: string, noun: string, typeUrl: string])[] = [
  ['envoy.service.cluster.v3.ClusterDiscoveryService', 'Clusters', TYPE.cluster],
  ['envoy.service.endpoint.v3.EndpointDiscoveryService', 'Endpoints', TYPE.endpoints],
  ['envoy.service.listener.v3.ListenerDiscoveryService', 'Listeners', TYPE.listener],
  ['envoy.service.route.v3.RouteDiscoveryService', 'Routes', TYPE.route],
  ['envoy.service.secret.v3.SecretDiscoveryService', 'Secrets', TYPE.secret],
]

/** The streaming methods of the xDS services, by HTTP/2 path. */
export const METHODS: ReadonlyMap<string, Method> = new Map([
  [ADS_PATH.sotw, { variant: 'sotw', onlyType: undefined }],
  [ADS_PATH.delta, { variant: 'delta', onlyType: undefined }],
  ...PER_TYPE.flatMap(([service, noun, onlyType]): [string, Method][] => [
    [`/${service}/Stream${noun}`, { variant: 'sotw', onlyType }],
    [`/${service}/Delta${noun}`, { variant: 'delta', onlyType }],
  ]),
])
