// DNS that an Envoy answers itself (`envoy.filters.udp.dns_filter`): the same names as our own sidecar's DNS server.
import { isIPv4 } from 'node:net'
import { create } from '@bufbuild/protobuf'
import { SocketAddress_Protocol } from '../xds/gen/envoy/config/core/v3/address_pb.js'
import { type Listener, ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { DnsFilterConfigSchema } from '../xds/gen/envoy/extensions/filters/udp/dns_filter/v3/dns_filter_pb.js'
import { CaresDnsResolverConfigSchema } from '../xds/gen/envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver_pb.js'
import { pack, seconds, socketAddress } from './envoy.ts'
import type { NameInfo } from './name-table.ts'

export interface SocketName {
  readonly address: string
  readonly port: number
}

/** What an Envoy asked for. Plain JSON. */
export interface DnsOptions {
  readonly listen: SocketName
  /** Who answers the names that are not ours; empty: nobody, they do not exist. */
  readonly resolvers: readonly SocketName[]
}

export const DNS_LISTENER = 'dns'
/** Envoy's least. The addresses never change, but a name may go. */
const TTL_SECONDS = 30

export function dnsListener(table: Readonly<Record<string, NameInfo>>, options: DnsOptions): Listener {
  const config = create(DnsFilterConfigSchema, {
    statPrefix: DNS_LISTENER,
    serverConfig: {
      configSource: {
        case: 'inlineDnsTable',
        value: {
          virtualDomains: Object.entries(table).map(([name, { ips }]) => ({
            name,
            answerTtl: seconds(TTL_SECONDS),
            endpoint: {
              endpointConfig: { case: 'addressList' as const, value: { address: ips.flatMap(both) } },
            },
          })),
        },
      },
    },
    ...(options.resolvers.length > 0 && { clientConfig: forwarding(options.resolvers) }),
  })
  return create(ListenerSchema, {
    name: DNS_LISTENER,
    address: datagrams(options.listen),
    listenerFilters: [
      {
        name: 'envoy.filters.udp.dns_filter',
        configType: { case: 'typedConfig', value: pack(DnsFilterConfigSchema, config) },
      },
    ],
  })
}

/**
 * A filter that has no address of the family asked for says that there is no such name (NXDOMAIN), which resolvers like musl's take for the
 * whole answer. So it has one, and it is the same: RFC 4291 section 2.5.5.2.
 */
const both = (ip: string): string[] => (isIPv4(ip) ? [ip, `::ffff:${ip}`] : [ip])

function forwarding(resolvers: readonly SocketName[]) {
  const cares = create(CaresDnsResolverConfigSchema, {
    resolvers: resolvers.map(({ address, port }) => socketAddress(address, port)),
    dnsResolverOptions: { noDefaultSearchDomain: true },
  })
  return {
    resolverTimeout: seconds(2),
    maxPendingLookups: 1_024n,
    typedDnsResolverConfig: {
      name: 'envoy.network.dns_resolver.cares',
      typedConfig: pack(CaresDnsResolverConfigSchema, cares),
    },
  }
}

function datagrams({ address, port }: SocketName) {
  const at = socketAddress(address, port)
  if (at.address.case === 'socketAddress') at.address.value.protocol = SocketAddress_Protocol.UDP
  return at
}
