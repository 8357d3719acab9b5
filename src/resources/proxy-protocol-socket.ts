import { create } from '@bufbuild/protobuf'
import type { ProxyProtocolVersion } from '../model/proxy-protocol.ts'
import type { TransportSocket } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import { ProxyProtocolConfig_Version } from '../xds/gen/envoy/config/core/v3/proxy_protocol_pb.js'
import type { TcpProxy } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { ProxyProtocolUpstreamTransportSchema } from '../xds/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js'
import { RawBufferSchema } from '../xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import { transportSocket } from './envoy.ts'
import { addFormattedTlvs } from './newer-envoy.ts'

/** PROXY protocol TLVs: PP2_TYPE_AUTHORITY, and the first of the types that are free for everybody. */
const AUTHORITY = 0x02
const CALLER = 0xe0

/** Plain TCP to a service that expects the header of the PROXY protocol where a version is given. */
export function clearTextSocket(version: ProxyProtocolVersion | undefined): TransportSocket {
  const raw = transportSocket('envoy.transport_sockets.raw_buffer', RawBufferSchema, create(RawBufferSchema))
  if (version === undefined) return raw
  const header = create(ProxyProtocolUpstreamTransportSchema, {
    config:
      version === 'V1'
        ? { version: ProxyProtocolConfig_Version.V1 }
        : { version: ProxyProtocolConfig_Version.V2, passThroughTlvs: {} },
    transportSocket: raw,
  })
  return transportSocket(
    'envoy.transport_sockets.upstream_proxy_protocol',
    ProxyProtocolUpstreamTransportSchema,
    header,
  )
}

/** What services that expect the header are told of the caller; for the others it is made and not sent. */
export function tellCaller(proxy: TcpProxy): void {
  addFormattedTlvs(proxy, [
    [AUTHORITY, '%REQUESTED_SERVER_NAME%'],
    [CALLER, '%DOWNSTREAM_PEER_URI_SAN%'],
  ])
}
