// The client's connection: where the server is, who both sides are, and one gRPC channel per stream.
import { createSecureContext } from 'node:tls'
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  credentials,
} from '@grpc/grpc-js'

/** What the client presents and trusts, asked for anew at every connection. */
export interface ClientTls {
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** Roots (and intermediates) that the TLS layer trusts. */
  readonly caPem: string
  /** Judges the server's leaf certificate once its chain is trusted: an error refuses the connection. */
  verifyPeer(der: Uint8Array): Error | undefined
}

export interface TcpTarget {
  /** `host:port`. */
  readonly address: string
  /** Undefined: in clear. Its result undefined: no credential yet, try again later. */
  readonly tls?: (() => ClientTls | undefined) | undefined
  /** Name in SNI; must not be an IP address. Default `isthmus-discovery`. */
  readonly serverName?: string
}

export type XdsTarget = TcpTarget | { readonly path: string }

/** HTTP/2 pings: how often, and how long a server may take to answer, milliseconds. */
export interface Keepalive {
  readonly timeMs: number
  readonly timeoutMs: number
}

export type Call = ClientDuplexStream<Buffer, Buffer>

/** Of one response. Ours are split at 3 MB; another server's whole state, or one large table of names, is far below this. */
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024

const identity = (bytes: Buffer): Buffer => bytes

/** Opens a channel of its own with one stream on it. Throws where there is no certificate to present yet. */
export function openCall(
  target: XdsTarget,
  path: string,
  keepalive: Keepalive = { timeMs: 20_000, timeoutMs: 5_000 },
  maxMessageBytes = MAX_MESSAGE_BYTES,
): { readonly client: Client; readonly call: Call } {
  const channel: ChannelOptions = {
    'grpc.keepalive_time_ms': keepalive.timeMs,
    'grpc.keepalive_timeout_ms': keepalive.timeoutMs,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc-node.flow_control_window': 8 * 1024 * 1024,
    // A subchannel shared with an earlier attempt would keep that attempt's certificate.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_retries': 0,
  }
  if (!('path' in target)) channel['grpc.ssl_target_name_override'] = target.serverName ?? 'isthmus-discovery'
  const client = new Client(
    'path' in target ? `unix:${target.path}` : target.address,
    credentialsOf(target),
    channel,
  )
  return { client, call: client.makeBidiStreamRequest(path, identity, identity) }
}

function credentialsOf(target: XdsTarget): ChannelCredentials {
  if ('path' in target || target.tls === undefined) return credentials.createInsecure()
  const tls = target.tls()
  if (tls === undefined) throw new Error('no certificate to present yet')
  const context = createSecureContext({
    cert: tls.certificatePem,
    key: tls.privateKeyPem,
    ca: tls.caPem,
    minVersion: 'TLSv1.2',
    ecdhCurve: 'X25519:P-256',
  })
  return credentials.createFromSecureContext(context, {
    checkServerIdentity: (_host, certificate) => tls.verifyPeer(certificate.raw),
  })
}
