// The way through a gateway's one port to this cluster's own discovery server, for the discovery servers of peers. It is passed through:
// the two speak mutual TLS from end to end, and who may is decided where it ends, not by AuthorizationPolicies of the gateway.

import { isIP } from 'node:net'
import { create } from '@bufbuild/protobuf'
import { discoveryServerName, linkServerName } from '../model/discovery-name.ts'
import type { Model } from '../model/types.ts'
import { CircuitBreakersSchema } from '../xds/gen/envoy/config/cluster/v3/circuit_breaker_pb.js'
import {
  type Cluster,
  Cluster_DiscoveryType,
  ClusterSchema,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { TcpProxySchema } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { loadAssignment } from './endpoints.ts'
import { filter, KEEPALIVE, seconds, tcpProxy } from './envoy.ts'
import type { Chain } from './gateway-listener.ts'
import { DISCOVERY_PROTOCOLS } from './istio-protocols.ts'

/** Connections of one gateway process to discovery by this way: strangers hold some of them until they fail to prove who they are. */
const CONNECTIONS_MAX = 128

/** Where the gateways of this cluster find its discovery server. */
export interface DiscoveryDoor {
  /** An IP address or a name. */
  readonly host: string
  readonly adsPort: number
  /** Where tokens are taken; undefined while none is outstanding. */
  readonly linkPort: number | undefined
}

/** One server name that leads to the discovery server. Plain data. */
export interface DiscoveryRoute {
  /** Of the upstream. */
  readonly name: string
  readonly serverName: string
  readonly host: string
  readonly port: number
}

/** What leads there now: ADS while there are peers, the taking of tokens while one is outstanding. */
export function discoveryRoutes(
  { self, peers }: Pick<Model, 'self' | 'peers'>,
  door: DiscoveryDoor | undefined,
): DiscoveryRoute[] {
  if (door === undefined) return []
  const host = door.host.endsWith('.svc') ? `${door.host}.cluster.local` : door.host
  const routes: DiscoveryRoute[] = []
  const add = (name: string, serverName: string, port: number) =>
    routes.push({ name: `isthmus.${name}`, serverName, host, port })
  if (peers.length > 0) add('discovery', discoveryServerName(self.id), door.adsPort)
  if (door.linkPort !== undefined) add('link', linkServerName(self.id), door.linkPort)
  return routes
}

export function discoveryChain({ name, serverName }: DiscoveryRoute): Chain {
  return {
    name: `passthrough ${name}`,
    filterChainMatch: {
      transportProtocol: 'tls',
      serverNames: [serverName],
      applicationProtocols: [...DISCOVERY_PROTOCOLS],
    },
    filters: [
      filter('envoy.filters.network.tcp_proxy', TcpProxySchema, tcpProxy(`passthrough.${name}`, name)),
    ],
  }
}

export function discoveryCluster({ name, host, port }: DiscoveryRoute): Cluster {
  const { STATIC, STRICT_DNS } = Cluster_DiscoveryType
  const endpoint = {
    address: host,
    port,
    region: '',
    zone: '',
    priority: 0,
    weight: 1,
    draining: false,
    // It terminates mesh TLS itself, and to nothing else is passed through.
    mtls: true,
  }
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: isIP(host) === 0 ? STRICT_DNS : STATIC },
    connectTimeout: seconds(5),
    loadAssignment: loadAssignment(name, [endpoint]),
    circuitBreakers: create(CircuitBreakersSchema, { thresholds: [{ maxConnections: CONNECTIONS_MAX }] }),
    upstreamConnectionOptions: KEEPALIVE,
  })
}
