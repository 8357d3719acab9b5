import type { FilterChainConfig } from '../resources/accept-types.ts'
import type { ProxyProtocolTlv } from '../resources/upstream-types.ts'
import { xxHash64 } from './balance/hash.ts'
import type { Connection } from './connection.ts'
import type { DialOptions } from './dial.ts'
import { formatAddress } from './endpoint.ts'
import { formatTlv, type ProxiedConnection, type Tlv } from './proxy-protocol-encode.ts'

/** What dialling an upstream needs to know of the connection that it is for. */
export function dialOptions(connection: Connection, chain: FilterChainConfig, upstream: string): DialOptions {
  return {
    attempts: chain.maxConnectAttempts,
    backoff: chain.connectBackoff,
    passthrough: chain.mode === 'passthrough',
    hash: hashOf(connection, chain),
    proxied: () => ({
      connection: proxiedConnection(connection),
      tlvs: tlvsOf(connection, chain.proxyProtocolTlvs, upstream),
    }),
  }
}

function hashOf({ addresses }: Connection, { hashSourceIp }: FilterChainConfig): bigint | undefined {
  return hashSourceIp && addresses.remoteIp !== '' ? xxHash64(addresses.remoteIp) : undefined
}

/** Undefined for a client inside this process: there is no connection to tell of. */
function proxiedConnection(connection: Connection): ProxiedConnection | undefined {
  const { addresses, downstream } = connection
  if (downstream === undefined || addresses.destinationIp === '') return undefined
  return {
    source: { host: addresses.remoteIp, port: portOf(connection.remoteAddress) },
    destination: { host: addresses.destinationIp, port: addresses.port },
  }
}

function tlvsOf(connection: Connection, tlvs: readonly ProxyProtocolTlv[], upstream: string): Tlv[] {
  if (tlvs.length === 0) return []
  const { addresses, facts, peer, remoteAddress } = connection
  const { remoteIp, destinationIp, port } = addresses
  const values: Readonly<Record<string, string>> = {
    REQUESTED_SERVER_NAME: facts.sni,
    // Only an identity that was verified here is worth telling.
    DOWNSTREAM_PEER_URI_SAN: peer?.proof?.svid.id.uri ?? '',
    DOWNSTREAM_REMOTE_ADDRESS: remoteAddress,
    DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: remoteIp,
    DOWNSTREAM_LOCAL_ADDRESS: formatAddress(destinationIp, port),
    DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: destinationIp,
    DOWNSTREAM_TLS_VERSION: facts.tlsVersion,
    UPSTREAM_CLUSTER: upstream,
  }
  return tlvs.map((tlv) => formatTlv(tlv, values))
}

/** Of `ip:port`: the client's own, which a PROXY header downstream may have told. */
function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1)) || 0
}
