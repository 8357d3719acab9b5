// A real Envoy in the place of a gateway or sidecar of ours: certificates from files, everything else from a discovery server.
import { type ChildProcess, spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export const ENVOY = process.env['ENVOY_BIN'] ?? ''
/** Why a suite that needs it is left out; where CI is set it never is. */
export const WITHOUT_ENVOY = ENVOY === '' && process.env['CI'] === undefined && 'ENVOY_BIN is not set'
const SECRET = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'

export interface EnvoyOptions {
  /** `router~…` or `sidecar~…`. */
  readonly id: string
  readonly cluster: string
  /** Of discovery's ADS, `host:port`. */
  readonly ads: string
  /** `ISTHMUS_BIND`. */
  readonly bind: string
  /** Files of its own SVID and of the bundle it trusts; undefined: over the listener in clear, without a certificate. */
  readonly credential: Readonly<Record<'certificate' | 'key' | 'ca', string>> | undefined
  /** Its certificate for others comes from discovery, over SDS on its ADS stream; the files are for that stream alone. */
  readonly minted?: boolean
  /** Unix socket of an SDS server that has its certificate for others: the cluster `sds-grpc` of its bootstrap. */
  readonly sdsSocket?: string
  /** State of the world instead of Delta. */
  readonly sotw?: boolean
  /** Further claims of the node. */
  readonly metadata?: Readonly<Record<string, string>>
}

/** Writes its files into `folder` and starts it. JSON is YAML. */
export async function startEnvoy(folder: string, options: EnvoyOptions): Promise<ChildProcess> {
  const { credential } = options
  const file = (name: string): string => join(folder, `${options.id.split('~')[0]}-${name}`)
  const tls = credential && {
    certificate_chain: { filename: credential.certificate },
    private_key: { filename: credential.key },
  }
  await writeFile(
    file('sds.yaml'),
    JSON.stringify({ resources: [{ '@type': SECRET, name: 'default', tls_certificate: tls }] }),
  )
  const ads = { ads: {}, resource_api_version: 'V3' }
  const bootstrap = {
    node: {
      id: options.id,
      cluster: 'test',
      metadata: {
        CLUSTER_ID: options.cluster,
        ISTHMUS_BIND: options.bind,
        ...options.metadata,
        ...(options.sdsSocket !== undefined && { ISTHMUS_CREDENTIAL_CLUSTER: 'sds-grpc' }),
        ...(credential &&
          !options.minted &&
          options.sdsSocket === undefined && { ISTHMUS_CREDENTIAL_FILE: file('sds.yaml') }),
      },
    },
    dynamic_resources: {
      ads_config: {
        api_type: options.sotw ? 'GRPC' : 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    static_resources: {
      clusters: [
        grpcCluster('xds', tcp(options.ads), tls && credential && { certificate: tls, ca: credential.ca }),
        ...(options.sdsSocket === undefined
          ? []
          : [grpcCluster('sds-grpc', { pipe: { path: options.sdsSocket } })]),
      ],
    },
  }
  await writeFile(file('bootstrap.yaml'), JSON.stringify(bootstrap))
  return spawn(
    ENVOY,
    ['-c', file('bootstrap.yaml'), '--disable-hot-restart', '--concurrency', '1', '-l', 'warn'],
    { stdio: 'ignore' },
  )
}

function tcp(address: string): object {
  const at = address.lastIndexOf(':')
  return { socket_address: { address: address.slice(0, at), port_value: Number(address.slice(at + 1)) } }
}

function grpcCluster(
  name: string,
  address: object,
  tls?: { readonly certificate: object; readonly ca: string },
) {
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
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
    },
    ...(tls && { transport_socket: clientTls(tls) }),
  }
}

function clientTls({ certificate, ca }: { readonly certificate: object; readonly ca: string }): object {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
      common_tls_context: {
        alpn_protocols: ['h2'],
        tls_certificates: [certificate],
        validation_context: { trusted_ca: { filename: ca } },
      },
    },
  }
}
