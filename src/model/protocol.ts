// Explicit protocol selection as Istio does it (istio/istio pkg/config/kube/conversion.go ConvertProtocol), without sniffing.
import type { ModelPort } from './types.ts'

type Protocol = ModelPort['protocol']

const BY_NAME: ReadonlyMap<string, Protocol> = new Map([
  ['http', 'http'],
  ['http2', 'http2'],
  ['grpc', 'grpc'],
  ['https', 'https'],
  ['tls', 'tls'],
  ['tcp', 'tcp'],
  ['mongo', 'mongo'],
  ['mysql', 'mysql'],
  ['redis', 'redis'],
])

/** The standard names of KEP-3726; they count in `appProtocol` only. */
const KUBERNETES_NAMES: ReadonlyMap<string, Protocol> = new Map([
  ['kubernetes.io/h2c', 'http2'],
  ['kubernetes.io/ws', 'http'],
  ['kubernetes.io/wss', 'https'],
])

/**
 * `appProtocol` decides where it is set, else the port name up to its first hyphen (`http-web` → http), whatever the case;
 * anything else is `tcp`: bytes are forwarded, and an error cannot be told in the application's own words.
 */
export function selectProtocol(portName: string, appProtocol: string | undefined): Protocol {
  const standard = appProtocol === undefined ? undefined : KUBERNETES_NAMES.get(appProtocol)
  if (standard !== undefined) return standard
  const name = (appProtocol ?? portName).toLowerCase()
  // gRPC-Web is HTTP/1.1 or HTTP/2 framing with gRPC inside; its name holds a hyphen, so it is looked at first.
  if (name.startsWith('grpc-web')) return 'http'
  const hyphen = name.indexOf('-')
  return BY_NAME.get(hyphen < 0 ? name : name.slice(0, hyphen)) ?? 'tcp'
}

/** Protocols in which the client always says the first word. MySQL's server greets; what is only known to be TCP may do either. */
const CLIENT_FIRST: ReadonlySet<Protocol> = new Set([
  'http',
  'http2',
  'grpc',
  'https',
  'tls',
  'mongo',
  'redis',
])

/** Who sends the first bytes of a connection: a proxy that waits for the client's would wait for ever where it is the server. */
export function speaksFirst(protocol: Protocol): 'client' | 'server' | 'either' {
  if (CLIENT_FIRST.has(protocol)) return 'client'
  return protocol === 'mysql' ? 'server' : 'either'
}

/** The same for the `protocol` of a ServiceEntry port (`HTTP`, `GRPC-Web`, `TCP`, …). */
export function protocolOf(name: string): Protocol {
  return selectProtocol('', name)
}
