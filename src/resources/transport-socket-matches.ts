// How an endpoint is spoken to, by the labels of its metadata: what gateways' and sidecars' upstreams share.
import { create } from '@bufbuild/protobuf'
import type { ProxyProtocolVersion } from '../model/proxy-protocol.ts'
import {
  type Cluster_TransportSocketMatch,
  Cluster_TransportSocketMatchSchema,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { UpstreamTlsContextSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { socketMatch } from './endpoints.ts'
import { TRUST_BUNDLES, tlsContext, transportSocket, uriSan } from './envoy.ts'
import { clearTextSocket } from './proxy-protocol-socket.ts'

export interface MutualTlsMatch {
  readonly name: string
  /** The labels of the endpoints that it is for. */
  readonly match: Record<string, string>
  readonly sni: string
  /** SPIFFE ids of whom may answer. */
  readonly ids: readonly string[]
  /** An Envoy's SDS file with its own certificate; empty for our proxies. */
  readonly credentialFile: string
  /** Name of the Secret whose CAs vouch for the server; default all trust bundles. */
  readonly trust?: string
}

/** Mutual TLS to a pinned server. */
export function mutualTlsMatch(options: MutualTlsMatch): Cluster_TransportSocketMatch {
  const { name, match, sni, ids, credentialFile, trust = TRUST_BUNDLES } = options
  const sans = ids.map((id) => uriSan('exact', id))
  const context = create(UpstreamTlsContextSchema, {
    sni,
    commonTlsContext: tlsContext(['istio'], sans, credentialFile, trust),
  })
  return create(Cluster_TransportSocketMatchSchema, {
    name,
    match,
    transportSocket: transportSocket('envoy.transport_sockets.tls', UpstreamTlsContextSchema, context),
  })
}

/** Everybody else, in clear. */
export function clearTextMatch(version: ProxyProtocolVersion | undefined): Cluster_TransportSocketMatch {
  return create(Cluster_TransportSocketMatchSchema, {
    name: 'tlsMode-disabled',
    match: {},
    transportSocket: clearTextSocket(version),
  })
}

/**
 * For Envoys, where a cluster knows nobody yet that it may speak mutual TLS to: an endpoint that wants it, of an assignment that came before
 * the cluster's new form, gets a handshake that cannot succeed instead of clear text. (Our engine never speaks in clear to such endpoints.)
 */
export function neverInClear(): Cluster_TransportSocketMatch {
  const context = create(UpstreamTlsContextSchema, {
    commonTlsContext: {
      validationContextType: {
        case: 'validationContext',
        // No certificate has this SHA-256.
        value: { verifyCertificateHash: ['00'.repeat(32)] },
      },
    },
  })
  return create(Cluster_TransportSocketMatchSchema, {
    name: 'tlsMode-istio',
    match: socketMatch({}),
    transportSocket: transportSocket('envoy.transport_sockets.tls', UpstreamTlsContextSchema, context),
  })
}
