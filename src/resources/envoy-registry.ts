import { createRegistry } from '@bufbuild/protobuf'
import { ClusterSchema } from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { ProxyProtocolSchema } from '../xds/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js'
import { TlsInspectorSchema } from '../xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { RBACSchema } from '../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { RawBufferSchema } from '../xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'

/** Every message that may stand in an `Any` of the subset that the engine accepts. */
export const envoyRegistry = createRegistry(
  ListenerSchema,
  ClusterSchema,
  ProxyProtocolSchema,
  TlsInspectorSchema,
  RBACSchema,
  SniClusterSchema,
  TcpProxySchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  SPIFFECertValidatorConfigSchema,
)
