// Envoy's messages as far as they are supported: the allow-lists of `accept-*.ts`, and a sentence for each field that does not mean
// quite what it means in Envoy. docs/ENVOY-SUBSET.md is made of it.
import { LEAST_REQUEST, MAGLEV, RING_HASH } from './accept-balancing.ts'
import { ENDPOINTS_FIELDS } from './accept-endpoints.ts'
import type { Allowed } from './accept-fields.ts'
import { LISTENER_FIELDS } from './accept-listener.ts'
import { PROXY_PROTOCOL_FIELDS as PROXY_PROTOCOL_FILTER } from './accept-listener-filters.ts'
import { PROXY_PROTOCOL_FIELDS } from './accept-proxy-protocol.ts'
import { RBAC_FIELDS } from './accept-rbac.ts'
import { SECRET_FIELDS, VALIDATOR_FIELDS } from './accept-secret.ts'
import { TCP_PROXY_FIELDS } from './accept-tcp-proxy.ts'
import { DOWNSTREAM_FIELDS, UPSTREAM_FIELDS } from './accept-tls.ts'
import { CLUSTER_FIELDS } from './accept-upstream.ts'
import { CLUSTER_FIELDS as DISCOVERY_CLUSTER } from './bootstrap/ads.ts'
import { BOOTSTRAP, BOOTSTRAP_FIELDS } from './bootstrap/bootstrap.ts'

export interface SubsetMessage {
  /** Full name of the protobuf message. */
  readonly type: string
  /** What is to be said of the message as a whole. */
  readonly about: string
  readonly fields: Allowed
  /** By path in the proto's own names. A path that is not in `fields` is a mistake, and a test says so. */
  readonly notes: Readonly<Record<string, string>>
}

const EXT = 'envoy.extensions'
const TLS = `${EXT}.transport_sockets.tls.v3`
const BALANCERS = `${EXT}.load_balancing_policies`
const SECRETS_BY_NAME = 'exactly one, from the ADS stream that the resource came by, or static'

export const SUBSET: readonly SubsetMessage[] = [
  {
    type: 'envoy.config.listener.v3.Listener',
    about:
      'One TCP address; either TLS (terminated or passed through) or one chain of plain TCP. Clients are probed after 5 minutes of silence (TCP keepalive).',
    fields: LISTENER_FIELDS,
    notes: {
      'metadata.filter_metadata':
        '`isthmus` names service, aliases and who may speak the PROXY protocol; the rest is not read',
      'listener_filters.typed_config': '`TlsInspector`, and `ProxyProtocol` before it',
      listener_filters_timeout: 'default 5 s instead of 15; it is the deadline of the ClientHello',
      'filter_chains.name': 'chains keep their connections through a change by it; default `chain-<index>`',
      'filter_chains.filter_chain_match.server_names': 'exact names only, no wildcards',
      'filter_chains.filter_chain_match.application_protocols':
        'passthrough chains only, and Istio’s own only',
      'filter_chains.filters.typed_config': '`RBAC`…, `SniCluster`, `TcpProxy` last',
      'filter_chains.transport_socket.typed_config':
        '`DownstreamTlsContext`; without it TLS is passed through or there is none',
      'filter_chains.transport_socket_connect_timeout':
        'from accept to the end of the handshake; default `listener_filters_timeout`',
      stat_prefix: 'taken and not used: statistics go by the address',
      traffic_direction: 'taken and not used',
    },
  },
  {
    type: `${EXT}.filters.listener.tls_inspector.v3.TlsInspector`,
    about: 'The whole ClientHello is always read, up to 16 KiB; the filter has no fields of its own here.',
    fields: {},
    notes: {},
  },
  {
    type: `${EXT}.filters.listener.proxy_protocol.v3.ProxyProtocol`,
    about: 'Only from the address ranges that the listener’s metadata names: an Envoy believes everybody.',
    fields: PROXY_PROTOCOL_FILTER,
    notes: { stat_prefix: 'taken and not used' },
  },
  {
    type: `${TLS}.DownstreamTlsContext`,
    about:
      'Mutual TLS only, 1.2 and 1.3, never resumed, never renegotiated. The leaf is verified as an X.509-SVID.',
    fields: DOWNSTREAM_FIELDS,
    notes: {
      require_client_certificate: 'must be true',
      disable_stateless_session_resumption: 'as if true',
      disable_stateful_session_resumption: 'as if true',
      'common_tls_context.tls_certificate_sds_secret_configs.name': SECRETS_BY_NAME,
      'common_tls_context.tls_params.tls_minimum_protocol_version': '`TLSv1_2` or `TLSv1_3`',
      'common_tls_context.tls_params.tls_maximum_protocol_version': '`TLSv1_2` or `TLSv1_3`',
      'common_tls_context.alpn_protocols':
        'where nothing is in common the client’s first is selected; `istio-peer-exchange` never',
      'common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names.san_type':
        '`URI`',
    },
  },
  {
    type: `${TLS}.UpstreamTlsContext`,
    about: 'Mutual TLS only; the server is pinned to SPIFFE ids.',
    fields: UPSTREAM_FIELDS,
    notes: {
      'common_tls_context.tls_certificate_sds_secret_configs.name': SECRETS_BY_NAME,
      'common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names.matcher':
        'at least one, exact, with case, a SPIFFE id; only bundles of the trust domains in them vouch for the server',
    },
  },
  {
    type: `${TLS}.Secret`,
    about:
      'A certificate with its key, or the SPIFFE validator. A plain `trusted_ca` pools trust domains and is refused.',
    fields: SECRET_FIELDS,
    notes: {
      tls_certificate: 'never from discovery: private keys come from files',
      'validation_context.custom_validator_config.typed_config': '`SPIFFECertValidatorConfig`',
      'validation_context.crl':
        'enforced, for each CA its own; an Envoy with the SPIFFE validator ignores it',
    },
  },
  {
    type: `${TLS}.SPIFFECertValidatorConfig`,
    about: 'Bundles are never pooled in the verdict; roots, and issuing intermediates.',
    fields: VALIDATOR_FIELDS,
    notes: {},
  },
  {
    type: `${EXT}.filters.network.rbac.v3.RBAC`,
    about:
      'Decides after the handshake and before any upstream connect, and again for open connections at every change.',
    fields: RBAC_FIELDS,
    notes: {
      stat_prefix: 'taken and not used',
      shadow_rules_stat_prefix: 'taken and not used',
      enforcement_type: 'as if `CONTINUOUS`, and more',
      'rules.action': '`ALLOW` or `DENY`',
      'rules.policies.permissions': 'see below',
      'rules.policies.principals':
        'see below; an id is the one verified SPIFFE id and nothing else in the certificate',
    },
  },
  {
    type: `${EXT}.filters.network.sni_cluster.v3.SniCluster`,
    about: 'The SNI is the upstream’s name; a name that no upstream has is refused before any crypto.',
    fields: {},
    notes: {},
  },
  {
    type: `${EXT}.filters.network.tcp_proxy.v3.TcpProxy`,
    about: '',
    fields: TCP_PROXY_FIELDS,
    notes: {
      stat_prefix: 'taken and not used',
      max_connect_attempts: 'the next attempt takes an endpoint that was not tried yet',
      upstream_connect_mode: 'as if `ON_DOWNSTREAM_TLS_HANDSHAKE`, and after the policy',
      max_early_data_bytes: 'taken and not used: nothing is read before the upstream is there',
      proxy_protocol_tlvs: 'format strings of SNI and verified caller',
    },
  },
  {
    type: 'envoy.config.cluster.v3.Cluster',
    about: '`EDS` over ADS, `STATIC`, `STRICT_DNS`, `LOGICAL_DNS`; raw or mutual TLS, by endpoint metadata.',
    fields: CLUSTER_FIELDS,
    notes: {
      type: '`EDS`, `STATIC`, `STRICT_DNS`, `LOGICAL_DNS`',
      'transport_socket.typed_config':
        '`UpstreamTlsContext`, `RawBuffer`, or either inside `ProxyProtocolUpstreamTransport`',
      'common_lb_config.update_merge_window': 'taken and not used: changes are worked in at once',
      track_cluster_stats: 'taken and not used',
      typed_extension_protocol_options: 'taken and not used: they are of HTTP',
      alt_stat_name: 'taken and not used',
      metadata:
        '`isthmus` names aliases, further server names that lead here, and when connections go back to a better priority (`failback`); the rest is not read',
      'circuit_breakers.thresholds.max_connections':
        'counted by each worker for itself; the workers of an Envoy count together',
      'circuit_breakers.thresholds.max_pending_requests': 'likewise; what is being connected',
      'circuit_breakers.thresholds.max_retries':
        'likewise; no limit where it is unset; an Envoy’s `tcp_proxy` does not look at it',
      'circuit_breakers.per_host_thresholds.max_connections':
        'likewise; another endpoint is taken; in an Envoy the connection waits',
      'circuit_breakers.thresholds.max_requests': 'taken and not used: requests are of HTTP',
    },
  },
  { type: `${BALANCERS}.least_request.v3.LeastRequest`, about: '', fields: LEAST_REQUEST, notes: {} },
  { type: `${BALANCERS}.ring_hash.v3.RingHash`, about: '', fields: RING_HASH, notes: {} },
  { type: `${BALANCERS}.maglev.v3.Maglev`, about: '', fields: MAGLEV, notes: {} },
  {
    type: `${EXT}.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport`,
    about: '',
    fields: PROXY_PROTOCOL_FIELDS,
    notes: {},
  },
  {
    type: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
    about:
      'Inline or by EDS. Addresses that no endpoint may have (loopback, link-local, metadata services) are not dialled.',
    fields: ENDPOINTS_FIELDS,
    notes: {
      'endpoints.lb_endpoints.endpoint.address.socket_address.address':
        'a host name too, which the engine resolves; Envoy wants an IP address',
      'endpoints.lb_endpoints.metadata.filter_metadata':
        '`envoy.transport_socket_match`, and `hash_key` of `envoy.lb`',
      'policy.drop_overloads.drop_percentage': 'obeyed; an Envoy’s `tcp_proxy` does not look at it',
    },
  },
  {
    type: BOOTSTRAP,
    about:
      'With `--config`. The resources in it are as above; certificates may besides be inline, in files, in variables of the environment, or in SDS files.',
    fields: BOOTSTRAP_FIELDS,
    notes: {
      'dynamic_resources.ads_config.api_type': '`GRPC` or `DELTA_GRPC`',
      'dynamic_resources.ads_config.grpc_services.envoy_grpc.cluster_name':
        'a static cluster, which is no upstream then',
    },
  },
  {
    type: 'envoy.config.cluster.v3.Cluster',
    about:
      'As the cluster that `ads_config` names: one endpoint, mutual TLS to a pinned server, or in clear on this machine.',
    fields: DISCOVERY_CLUSTER,
    notes: {
      lb_policy: 'taken and not used: there is one endpoint',
      connect_timeout: 'taken and not used: 10 s',
      typed_extension_protocol_options: 'taken and not used: gRPC speaks HTTP/2',
      http2_protocol_options: 'taken and not used: gRPC speaks HTTP/2',
    },
  },
]
