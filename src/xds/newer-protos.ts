// Fields of Envoy 1.40 that the .proto files of the npm package are too old for. They go into the descriptors by which JSON and
// YAML are read and written, not into the generated code, which carries them as unknown fields.

/** Text that goes in after a line of a .proto file. */
interface Insertion {
  readonly file: string
  readonly after: string
  readonly text: string
}

export const NEWER_FIELDS: readonly Insertion[] = [
  {
    file: 'envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto',
    after: 'import "envoy/config/core/v3/base.proto";',
    text: 'import "envoy/config/core/v3/backoff.proto";\nimport "envoy/config/core/v3/proxy_protocol.proto";',
  },
  {
    file: 'envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto',
    after: 'message TcpProxy {',
    text: `
  enum UpstreamConnectMode {
    IMMEDIATE = 0;
    ON_DOWNSTREAM_DATA = 1;
    ON_DOWNSTREAM_TLS_HANDSHAKE = 2;
  }
  config.core.v3.BackoffStrategy backoff_options = 18;
  repeated config.core.v3.TlvEntry proxy_protocol_tlvs = 19;
  UpstreamConnectMode upstream_connect_mode = 21;
  google.protobuf.UInt32Value max_early_data_bytes = 22;`,
  },
  {
    file: 'envoy/config/core/v3/proxy_protocol.proto',
    after: 'import "udpa/annotations/status.proto";',
    text: 'import "envoy/config/core/v3/substitution_format_string.proto";',
  },
  {
    file: 'envoy/config/core/v3/proxy_protocol.proto',
    after: 'message ProxyProtocolConfig {',
    text: '  repeated TlvEntry added_tlvs = 3;',
  },
  {
    file: 'envoy/config/core/v3/proxy_protocol.proto',
    after: '// [#protodoc-title: Proxy protocol]',
    text: `
message TlvEntry {
  uint32 type = 1;
  bytes value = 2;
  SubstitutionFormatString format_string = 3;
}`,
  },
  {
    file: 'envoy/config/rbac/v3/rbac.proto',
    after: '  oneof identifier {',
    text: '    core.v3.TypedExtensionConfig custom = 14;',
  },
]

/** Whole files: of Envoy, and of ours. */
export const NEWER_FILES: Readonly<Record<string, string>> = {
  'envoy/extensions/rbac/principals/mtls_authenticated/v3/mtls_authenticated.proto': `syntax = "proto3";
package envoy.extensions.rbac.principals.mtls_authenticated.v3;
import "envoy/extensions/transport_sockets/tls/v3/common.proto";
message Config {
  transport_sockets.tls.v3.SubjectAltNameMatcher san_matcher = 1;
  bool any_validated_client_certificate = 2;
}
`,
  'isthmus/rbac/principals/issuer/v1/issuer.proto': `syntax = "proto3";
package isthmus.rbac.principals.issuer.v1;
message Config {
  repeated string public_key_sha256 = 1;
}
`,
}

/** What a bootstrap may hold besides the resources that the generated code knows. */
export const DESCRIPTOR_ROOTS: readonly string[] = [
  'envoy/config/bootstrap/v3/bootstrap.proto',
  ...Object.keys(NEWER_FILES),
]
