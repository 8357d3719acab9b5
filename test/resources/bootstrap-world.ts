// An Envoy bootstrap of a gateway, as a user would write it: certificates in files, everything static.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'

export interface Scope {
  teardown(end: () => unknown): void
}

export const UPSTREAM = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'
const TYPE = 'type.googleapis.com/envoy.extensions'

/** Objects that a test may change before they become YAML. */
// biome-ignore lint/suspicious/noExplicitAny: a test reaches into YAML of any shape
export type Yaml = any

export class BootstrapWorld {
  readonly folder: string
  readonly ca: Ca

  private constructor(folder: string, ca: Ca) {
    this.folder = folder
    this.ca = ca
  }

  static async create(scope: Scope): Promise<BootstrapWorld> {
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-bootstrap-'))
    scope.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const world = new BootstrapWorld(folder, await createCa({ trustDomain: 'cluster-1.example' }))
    await world.certify('gateway')
    return world
  }

  /** Writes `tls.crt`, `tls.key` and `ca.crt` of a service account into a folder of its name. */
  async certify(serviceAccount: string): Promise<void> {
    const issued = await this.ca.issue({ namespace: 'bookinfo', serviceAccount })
    await writeCredential(join(this.folder, serviceAccount), { ...issued, bundlePem: this.ca.bundlePem })
  }

  file(name: string): string {
    return join(this.folder, name)
  }

  write(bootstrap: Yaml, name = 'envoy.yaml'): string {
    writeFileSync(this.file(name), stringify(bootstrap))
    return this.file(name)
  }

  /** Terminates mutual TLS on `port`, lets everybody of the trust domain through, routes by SNI to `backend`. */
  gateway(port: number, backend: number): Yaml {
    const address = (of: number) => ({ socket_address: { address: '127.0.0.1', port_value: of } })
    return {
      node: { id: 'router~127.0.0.1~gateway.bookinfo~x', cluster: 'gateway' },
      static_resources: {
        listeners: [
          {
            name: 'eastwest',
            address: address(port),
            listener_filters: [
              {
                name: 'envoy.filters.listener.tls_inspector',
                typed_config: { '@type': `${TYPE}.filters.listener.tls_inspector.v3.TlsInspector` },
              },
            ],
            filter_chains: [
              {
                name: 'terminate',
                filter_chain_match: { transport_protocol: 'tls' },
                transport_socket: {
                  name: 'envoy.transport_sockets.tls',
                  typed_config: {
                    '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
                    require_client_certificate: true,
                    common_tls_context: this.tls('gateway'),
                  },
                },
                filters: [
                  {
                    name: 'envoy.filters.network.rbac',
                    typed_config: {
                      '@type': `${TYPE}.filters.network.rbac.v3.RBAC`,
                      stat_prefix: 'gw.',
                      rules: {
                        action: 'ALLOW',
                        policies: {
                          everyone: {
                            permissions: [{ any: true }],
                            principals: [
                              {
                                custom: {
                                  name: 'envoy.rbac.principals.mtls_authenticated',
                                  typed_config: {
                                    '@type': `${TYPE}.rbac.principals.mtls_authenticated.v3.Config`,
                                    san_matcher: {
                                      san_type: 'URI',
                                      matcher: { prefix: 'spiffe://cluster-1.example/' },
                                    },
                                  },
                                },
                              },
                            ],
                          },
                        },
                      },
                    },
                  },
                  {
                    name: 'envoy.filters.network.sni_cluster',
                    typed_config: { '@type': `${TYPE}.filters.network.sni_cluster.v3.SniCluster` },
                  },
                  {
                    name: 'envoy.filters.network.tcp_proxy',
                    typed_config: {
                      '@type': `${TYPE}.filters.network.tcp_proxy.v3.TcpProxy`,
                      stat_prefix: 'gw',
                      cluster: 'BlackHole',
                      max_connect_attempts: 2,
                      upstream_connect_mode: 'ON_DOWNSTREAM_TLS_HANDSHAKE',
                      max_early_data_bytes: 65536,
                    },
                  },
                ],
              },
            ],
          },
        ],
        clusters: [
          {
            name: UPSTREAM,
            type: 'STATIC',
            connect_timeout: '2s',
            common_lb_config: { healthy_panic_threshold: { value: 0 } },
            load_assignment: {
              cluster_name: UPSTREAM,
              endpoints: [
                {
                  locality: { region: 'r1', zone: 'z1' },
                  lb_endpoints: [{ endpoint: { address: address(backend) } }],
                },
              ],
            },
          },
        ],
      },
    }
  }

  /** A `CommonTlsContext` with the files of a service account. */
  tls(serviceAccount: string): Yaml {
    const file = (name: string) => ({ filename: this.file(`${serviceAccount}/${name}`) })
    return {
      tls_certificates: [{ certificate_chain: file('tls.crt'), private_key: file('tls.key') }],
      validation_context: {
        custom_validator_config: {
          name: 'envoy.tls.cert_validator.spiffe',
          typed_config: {
            '@type': `${TYPE}.transport_sockets.tls.v3.SPIFFECertValidatorConfig`,
            trust_domains: [{ name: 'cluster-1.example', trust_bundle: file('ca.crt') }],
          },
        },
      },
    }
  }

  /** The same resources over ADS from `127.0.0.1:port`, or an address. */
  ads(port: number, more: Yaml = {}): Yaml {
    const ads = { ads: {}, resource_api_version: 'V3' }
    return {
      node: {
        id: 'router~127.0.0.1~gateway.bookinfo~x',
        cluster: 'gateway',
        metadata: { CLUSTER_ID: 'cluster-1' },
      },
      dynamic_resources: {
        ads_config: {
          api_type: 'DELTA_GRPC',
          transport_api_version: 'V3',
          grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
        },
        cds_config: ads,
        lds_config: ads,
      },
      static_resources: {
        clusters: [
          {
            name: 'xds',
            type: 'STATIC',
            connect_timeout: '1s',
            typed_extension_protocol_options: {
              'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
                '@type': `${TYPE}.upstreams.http.v3.HttpProtocolOptions`,
                explicit_http_config: { http2_protocol_options: {} },
              },
            },
            load_assignment: {
              cluster_name: 'xds',
              endpoints: [
                {
                  lb_endpoints: [
                    { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } },
                  ],
                },
              ],
            },
            transport_socket: {
              name: 'envoy.transport_sockets.tls',
              typed_config: {
                '@type': `${TYPE}.transport_sockets.tls.v3.UpstreamTlsContext`,
                common_tls_context: {
                  ...this.tls('gateway'),
                  alpn_protocols: ['h2'],
                  validation_context: {
                    trusted_ca: { filename: this.file('gateway/ca.crt') },
                    match_typed_subject_alt_names: [
                      {
                        san_type: 'URI',
                        matcher: {
                          exact: 'spiffe://cluster-1.example/ns/isthmus-system/sa/isthmus-discovery',
                        },
                      },
                    ],
                  },
                },
              },
            },
            ...more,
          },
        ],
      },
    }
  }
}
