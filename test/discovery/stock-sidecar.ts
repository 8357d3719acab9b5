// An Envoy in the place of a stock Istio sidecar: certificates from an agent over SDS, one listener, and a cluster in the shape that istiod
// gives it (istio/istio pilot/pkg/networking/core/cluster_tls.go), from a file that stands in for istiod or from a real one.
import { type ChildProcess, spawn } from 'node:child_process'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EntryConfig } from '../../src/resources/service-entry.ts'
import { ENVOY } from './envoy-process.ts'

const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'
const CLUSTER = 'type.googleapis.com/envoy.config.cluster.v3.Cluster'

export interface StockSidecar {
  readonly folder: string
  /** Where it listens. */
  readonly port: number
  /** Its upstream, `outbound|9080||HOST`. */
  readonly upstream: string
  /** Unix socket of its agent. */
  readonly agent: string
  /** ADS of its istiod, `host:port`; undefined: clusters come from `writeClusters`. */
  readonly istiod?: string
}

export async function startStockSidecar(options: StockSidecar): Promise<ChildProcess> {
  const { folder, port, upstream, agent, istiod } = options
  const bootstrap = {
    node: {
      id: 'sidecar~127.0.0.1~sleep-1.bookinfo~bookinfo.svc.cluster.local',
      cluster: 'sleep.bookinfo',
      metadata: {
        CLUSTER_ID: 'cluster-2',
        NAMESPACE: 'bookinfo',
        ISTIO_VERSION: '1.31.0',
        INSTANCE_IPS: '127.0.0.1',
        LABELS: { app: 'sleep' },
      },
    },
    dynamic_resources:
      istiod === undefined
        ? { cds_config: { path_config_source: { path: join(folder, 'cds.json') } } }
        : {
            ads_config: {
              api_type: 'GRPC',
              transport_api_version: 'V3',
              grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
            },
            cds_config: { ads: {}, resource_api_version: 'V3' },
          },
    static_resources: {
      clusters: [
        grpcCluster('sds-grpc', { pipe: { path: agent } }),
        ...(istiod === undefined ? [] : [grpcCluster('xds-grpc', socketAddress(istiod))]),
      ],
      listeners: [
        {
          name: 'outbound',
          address: socketAddress(`127.0.0.1:${port}`),
          filter_chains: [
            {
              filters: [
                {
                  name: 'envoy.filters.network.tcp_proxy',
                  typed_config: {
                    '@type': 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
                    stat_prefix: 'outbound',
                    cluster: upstream,
                  },
                },
              ],
            },
          ],
        },
      ],
    },
  }
  const file = join(folder, 'stock.json')
  await writeFile(file, JSON.stringify(bootstrap))
  return spawn(ENVOY, ['-c', file, '--disable-hot-restart', '--concurrency', '1', '-l', 'warn'], {
    stdio: 'ignore',
  })
}

/** What istiod would make of the entries; an Envoy sees the file when it is moved into place. */
export async function writeClusters(folder: string, entries: readonly EntryConfig[]): Promise<void> {
  const resources = entries.flatMap((entry) =>
    entry.ports.map(({ name, number }) => istioCluster(entry, name, number)),
  )
  await writeFile(join(folder, 'cds.next'), JSON.stringify({ resources }))
  await rename(join(folder, 'cds.next'), join(folder, 'cds.json'))
}

function istioCluster(
  { hosts: [host = ''], endpoints, subjectAltNames }: EntryConfig,
  port: string,
  number: number,
) {
  const name = `outbound|${number}||${host}`
  return {
    '@type': CLUSTER,
    name,
    type: 'STATIC',
    connect_timeout: '10s',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: endpoints.map(({ address, ports, labels }) => ({
            endpoint: { address: socketAddress(`${address}:${ports[port]}`) },
            metadata: {
              filter_metadata: {
                'envoy.transport_socket_match': {
                  tlsMode: labels['security.istio.io/tlsMode'] ?? 'disabled',
                },
              },
            },
          })),
        },
      ],
    },
    transport_socket_matches: [
      {
        name: 'tlsMode-istio',
        match: { tlsMode: 'istio' },
        transport_socket: {
          name: 'envoy.transport_sockets.tls',
          typed_config: {
            '@type': TLS,
            sni: `outbound_.${number}_._.${host}`,
            common_tls_context: {
              alpn_protocols: ['istio-peer-exchange', 'istio'],
              tls_params: {
                tls_minimum_protocol_version: 'TLSv1_2',
                tls_maximum_protocol_version: 'TLSv1_3',
              },
              tls_certificate_sds_secret_configs: [secret('default')],
              combined_validation_context: {
                default_validation_context: {
                  match_subject_alt_names: subjectAltNames.map((exact) => ({ exact })),
                },
                validation_context_sds_secret_config: secret('ROOTCA'),
              },
            },
          },
        },
      },
      {
        name: 'tlsMode-disabled',
        match: {},
        transport_socket: {
          name: 'envoy.transport_sockets.raw_buffer',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
          },
        },
      },
    ],
  }
}

const secret = (name: string) => ({
  name,
  sds_config: {
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      set_node_on_first_message_only: true,
      grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
    },
    initial_fetch_timeout: '0s',
    resource_api_version: 'V3',
  },
})

function socketAddress(text: string) {
  const colon = text.lastIndexOf(':')
  return { socket_address: { address: text.slice(0, colon), port_value: Number(text.slice(colon + 1)) } }
}

function grpcCluster(name: string, address: object) {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
  }
}
