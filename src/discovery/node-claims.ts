// What a client says of itself in `node`, beside its id: claims, which choose the form of what it gets and never what it may see.
import { isIP, isIPv4, isIPv6 } from 'node:net'
import { fail, ok, type Result } from '../lib/result.ts'
import type { DnsOptions, SocketName } from '../resources/dns-filter.ts'
import { SDS_CLUSTER } from '../resources/envoy.ts'
import type { NodeInfo } from '../xds/types.ts'

/** Whose xDS client it is: each takes another subset of the resources, and refuses what is not in it. */
export type ClientKind = 'isthmus' | 'envoy' | 'grpc'

/**
 * By `user_agent_name`: `envoy`; `gRPC Go`, `gRPC Node Pure JS`, `gRPC C-core linux` (Python, Ruby, PHP, C++), `gRPC Java`. Anybody else
 * is taken for one of ours.
 */
export function clientKind({ userAgentName }: NodeInfo): ClientKind {
  if (userAgentName === 'envoy') return 'envoy'
  return userAgentName.startsWith('gRPC ') ? 'grpc' : 'isthmus'
}

/** Envoys before it read past `upstream_connect_mode`, and so connect upstream for whoever comes: [major, minor]. */
const SAFE_GATEWAY = [1, 37] as const

/**
 * Why an Envoy cannot be a gateway: one that is too old takes the resources that make it safe and does not do what they say. One that does
 * not say how old it is is taken at its word, as whoever would lie could.
 */
export function tooOldForGateway({ userAgentName, userAgentVersion }: NodeInfo): string | undefined {
  if (userAgentName !== 'envoy' || userAgentVersion === undefined) return undefined
  const [major = 0, minor = 0] = userAgentVersion.split('.').map(Number)
  if (major > SAFE_GATEWAY[0] || (major === SAFE_GATEWAY[0] && minor >= SAFE_GATEWAY[1])) return undefined
  return `Envoy ${userAgentVersion} connects upstream before it knows who calls; as a gateway ${SAFE_GATEWAY.join('.')} or later is safe`
}

/** A claim of the metadata; undefined if it is absent, empty or no text. */
export function claim(node: NodeInfo, name: string): string | undefined {
  const value = node.metadata[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** What is longer is no address and no path (PATH_MAX), characters. */
const CLAIM_MAX = 4_096

/** Claims tell views apart, and each view keeps its own: says which of ours is too long to be kept. */
export function overlongClaim(node: NodeInfo): string | undefined {
  for (const [name, value] of Object.entries(node.metadata)) {
    if (!name.startsWith('ISTHMUS_') || typeof value !== 'string' || value.length <= CLAIM_MAX) continue
    return `node.metadata.${name.slice(0, 64)} has ${value.length} characters, ${CLAIM_MAX} are allowed`
  }
  return undefined
}

/**
 * Where an Envoy has its own certificate, as `tlsContext` takes it. `ISTHMUS_CREDENTIAL_FILE`: an SDS file; `ISTHMUS_CREDENTIAL_CLUSTER`: the
 * cluster in its bootstrap that is an SDS server (`sds-grpc` where Istio's agent is). Neither: '', over ADS.
 */
export function credentialClaim(node: NodeInfo): Result<string, string> {
  const file = claim(node, 'ISTHMUS_CREDENTIAL_FILE')
  const cluster = claim(node, 'ISTHMUS_CREDENTIAL_CLUSTER')
  if (file !== undefined && cluster !== undefined)
    return fail(
      'node.metadata.ISTHMUS_CREDENTIAL_CLUSTER: ISTHMUS_CREDENTIAL_FILE is given too; give one of them',
    )
  if (cluster !== undefined) return ok(`${SDS_CLUSTER}${cluster}`)
  if (file !== undefined && !file.startsWith('/'))
    return fail(`node.metadata.ISTHMUS_CREDENTIAL_FILE "${file}": expected an absolute path`)
  return ok(file ?? '')
}

/** Reads a claim of the form `IP:PORT`, an IPv6 address in brackets. */
export function socketClaim(name: string, text: string): Result<SocketName, string> {
  const colon = text.lastIndexOf(':')
  const address = text.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  const digits = text.slice(colon + 1)
  const port = Number(digits)
  if (isIP(address) === 0 || !/^\d{1,5}$/.test(digits) || port > 65_535)
    return fail(`node.metadata.${name} "${text}": expected IP:PORT such as 0.0.0.0:15443`)
  return ok({ address, port })
}

/**
 * `ISTHMUS_DNS`: where an Envoy answers DNS; `ISTHMUS_DNS_RESOLVERS`: who answers the names that are not ours, separated by commas,
 * port 53 unless said otherwise. Undefined: it asked for none.
 */
export function dnsClaim(node: NodeInfo): Result<DnsOptions | undefined, string> {
  const at = claim(node, 'ISTHMUS_DNS')
  if (at === undefined) return ok(undefined)
  const listen = socketClaim('ISTHMUS_DNS', at)
  if (!listen.ok) return listen
  const resolvers: SocketName[] = []
  for (const text of claim(node, 'ISTHMUS_DNS_RESOLVERS')?.split(',') ?? []) {
    const withPort = isIPv4(text) ? `${text}:53` : isIPv6(text) ? `[${text}]:53` : text
    const resolver = socketClaim('ISTHMUS_DNS_RESOLVERS', withPort)
    if (!resolver.ok) return resolver
    resolvers.push(resolver.value)
  }
  return ok({ listen: listen.value, resolvers })
}
