// What the tests of the engine share: resources in Envoy's own messages, backends that count, clients with real SVIDs.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import {
  create,
  type DescMessage,
  type JsonObject,
  type Message,
  type MessageInitShape,
} from '@bufbuild/protobuf'
import { anyPack } from '@bufbuild/protobuf/wkt'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { AccessLogEntry } from '../../src/proxy/access-log.ts'
import { Engine, type EngineOptions } from '../../src/proxy/engine.ts'
import { ISTIO_PROTOCOLS } from '../../src/resources/istio-protocols.ts'
import { addFormattedTlvs, mtlsAuthenticated } from '../../src/resources/newer-envoy.ts'
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { HealthStatus } from '../../src/xds/gen/envoy/config/core/v3/health_check_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import type {
  Filter,
  FilterChainSchema,
  ListenerFilterSchema,
} from '../../src/xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { FilterSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { type Principal, RBAC_Action } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { TlsInspectorSchema } from '../../src/xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { RBACSchema } from '../../src/xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../../src/xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../../src/xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { RawBufferSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import {
  SubjectAltNameMatcher_SanType,
  SubjectAltNameMatcherSchema,
} from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { SecretSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import { encodeResource } from '../../src/xds/resource.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'

export const SNI = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'
export const OUTBOUND = 'outbound|9080||productpage.bookinfo.svc.cluster.local'

const ADS = { configSourceSpecifier: { case: 'ads' as const, value: {} } }
const sds = (name: string) => ({ name, sdsConfig: ADS })
const seconds = (n: number) => ({ seconds: BigInt(Math.floor(n)), nanos: Math.round((n % 1) * 1e9) })

export function typed<Desc extends DescMessage>(schema: Desc, message: Message) {
  return { case: 'typedConfig' as const, value: anyPack(schema, message as never) }
}

export function filterOf<Desc extends DescMessage>(schema: Desc, message: Message): Filter {
  return create(FilterSchema, { name: schema.typeName, configType: typed(schema, message) })
}

export function uriPrincipal(kind: 'prefix' | 'exact', value: string): Principal {
  return mtlsAuthenticated(
    create(SubjectAltNameMatcherSchema, {
      sanType: SubjectAltNameMatcher_SanType.URI,
      matcher: { matchPattern: { case: kind, value } },
    }),
  )
}

export type Policies = Readonly<Record<string, readonly Principal[]>>

/** An ALLOW filter: policy name → principals that may call anything. */
export function allow(policies: Policies, name = 'rbac'): Filter {
  return rbacFilter({ rules: rulesOf(RBAC_Action.ALLOW, policies) }, name)
}

/** A DENY filter: policy name → principals that may call nothing. */
export function deny(policies: Policies, name = 'rbac'): Filter {
  return rbacFilter({ rules: rulesOf(RBAC_Action.DENY, policies) }, name)
}

export function rbacFilter(config: MessageInitShape<typeof RBACSchema>, name = 'rbac'): Filter {
  return create(FilterSchema, {
    name,
    configType: typed(RBACSchema, create(RBACSchema, { ...config, statPrefix: 'gw.' } as never)),
  })
}

export function rulesOf(action: RBAC_Action, policies: Policies) {
  return {
    action,
    policies: Object.fromEntries(
      Object.entries(policies).map(([name, principals]) => [
        name,
        { permissions: [{ rule: { case: 'any' as const, value: true } }], principals: [...principals] },
      ]),
    ),
  }
}

export interface TcpProxyOptions {
  readonly cluster?: string
  readonly idleTimeoutS?: number
  readonly maxConnectAttempts?: number
  readonly maxDurationS?: number
  /** Type and format. */
  readonly proxyProtocolTlvs?: readonly (readonly [type: number, format: string])[]
  readonly hashSourceIp?: boolean
}

export function tcpProxy(options: TcpProxyOptions = {}): Filter {
  const message = create(TcpProxySchema, {
    statPrefix: 'gw',
    clusterSpecifier: { case: 'cluster', value: options.cluster ?? 'BlackHole' },
    ...(options.idleTimeoutS === undefined ? {} : { idleTimeout: seconds(options.idleTimeoutS) }),
    ...(options.maxConnectAttempts === undefined ? {} : { maxConnectAttempts: options.maxConnectAttempts }),
    ...(options.maxDurationS === undefined
      ? {}
      : { maxDownstreamConnectionDuration: seconds(options.maxDurationS) }),
    ...(options.hashSourceIp === true && {
      hashPolicy: [{ policySpecifier: { case: 'sourceIp' as const, value: {} } }],
    }),
  })
  addFormattedTlvs(message, options.proxyProtocolTlvs ?? [])
  return filterOf(TcpProxySchema, message)
}

export interface GatewayListenerOptions extends TcpProxyOptions {
  readonly name?: string
  readonly host?: string
  readonly port?: number
  readonly rbac?: Filter | Filter[]
  readonly alpn?: readonly string[]
  readonly handshakeTimeoutS?: number
}

/** The gateway's listener, as discovery sends it. */
export function gatewayListener(options: GatewayListenerOptions = {}): XdsResource {
  return listenerOf([terminateChain(options)], options)
}

export interface ListenerOptions {
  readonly name?: string
  readonly host?: string
  readonly port?: number
  /** Default: none. */
  readonly listenerFilters?: readonly MessageInitShape<typeof ListenerFilterSchema>[]
  readonly listenerFiltersTimeoutS?: number
  readonly metadata?: JsonObject
}

/** A listener of these filter chains. */
export function listenerOf(
  filterChains: readonly MessageInitShape<typeof FilterChainSchema>[],
  {
    name = 'eastwest',
    host = '127.0.0.1',
    port = 0,
    listenerFilters = [],
    listenerFiltersTimeoutS,
    metadata,
  }: ListenerOptions = {},
): XdsResource {
  return encodeResource(
    ListenerSchema,
    create(ListenerSchema, {
      name,
      address: socketAddress(host, port),
      filterChains: [...filterChains],
      listenerFilters: [...listenerFilters],
      ...(listenerFiltersTimeoutS === undefined
        ? {}
        : { listenerFiltersTimeout: seconds(listenerFiltersTimeoutS) }),
      ...(metadata === undefined ? {} : { metadata: { filterMetadata: { isthmus: metadata } } }),
    }),
    name,
  )
}

export const TLS_INSPECTOR: MessageInitShape<typeof ListenerFilterSchema> = {
  name: 'envoy.filters.listener.tls_inspector',
  configType: typed(TlsInspectorSchema, create(TlsInspectorSchema)),
}

export interface PassthroughOptions extends TcpProxyOptions {
  readonly name?: string
  readonly serverNames: readonly string[]
  /** Default: Istio's. */
  readonly protocols?: readonly string[]
  readonly filters?: readonly Filter[]
}

/** A chain that splices mesh TLS to `cluster`, or with none to the upstream of the server name. */
export function passthroughChain(options: PassthroughOptions): MessageInitShape<typeof FilterChainSchema> {
  const { serverNames, protocols = ISTIO_PROTOCOLS, filters = [], cluster } = options
  return {
    name: options.name ?? `passthrough ${serverNames[0]}`,
    filterChainMatch: {
      transportProtocol: 'tls',
      serverNames: [...serverNames],
      applicationProtocols: [...protocols],
    },
    filters: [
      ...filters,
      ...(cluster === undefined ? [filterOf(SniClusterSchema, create(SniClusterSchema))] : []),
      tcpProxy(options),
    ],
  }
}

/** The chain that terminates mutual TLS and routes by server name. */
export function terminateChain(
  options: Omit<GatewayListenerOptions, 'port'> = {},
): MessageInitShape<typeof FilterChainSchema> {
  const tls = create(DownstreamTlsContextSchema, {
    requireClientCertificate: true,
    commonTlsContext: {
      alpnProtocols: [...(options.alpn ?? ['h2', 'http/1.1', 'istio'])],
      tlsCertificateSdsSecretConfigs: [sds('default')],
      validationContextType: {
        case: 'combinedValidationContext',
        value: { defaultValidationContext: {}, validationContextSdsSecretConfig: sds('ROOTCA') },
      },
    },
  })
  const { rbac = allow({ everyone: [uriPrincipal('prefix', 'spiffe://')] }) } = options
  return {
    name: 'terminate',
    filterChainMatch: { transportProtocol: 'tls' },
    filters: [
      ...(Array.isArray(rbac) ? rbac : [rbac]),
      filterOf(SniClusterSchema, create(SniClusterSchema)),
      tcpProxy(options),
    ],
    transportSocket: { name: 'tls', configType: typed(DownstreamTlsContextSchema, tls) },
    transportSocketConnectTimeout: seconds(options.handshakeTimeoutS ?? 5),
  }
}

export interface SidecarListenerOptions extends TcpProxyOptions {
  readonly name?: string
  readonly host?: string
  readonly port?: number
  readonly protocol?: string
}

/** A sidecar's listener for one service. */
export function sidecarListener(options: SidecarListenerOptions = {}): XdsResource {
  const { name = 'productpage_9080', host = '127.0.0.1', port = 0, protocol = 'http' } = options
  return encodeResource(
    ListenerSchema,
    create(ListenerSchema, {
      name,
      address: socketAddress(host, port),
      metadata: {
        filterMetadata: { isthmus: { host: 'productpage.bookinfo.svc.cluster.local', port: 9080, protocol } },
      },
      filterChains: [{ filters: [tcpProxy({ cluster: OUTBOUND, ...options })] }],
    }),
    name,
  )
}

export function socketAddress(address: string, port: number) {
  return {
    address: {
      case: 'socketAddress' as const,
      value: { address, portSpecifier: { case: 'portValue' as const, value: port } },
    },
  }
}

export interface UpstreamOptions {
  readonly connectTimeoutS?: number
  readonly policy?: Cluster_LbPolicy
  readonly outlier?: Cluster['outlierDetection']
  /** Exact SPIFFE ids of the server: then endpoints with tlsMode istio are spoken to over mutual TLS. */
  readonly pins?: readonly string[]
  readonly sni?: string
  readonly aliases?: readonly string[]
  /** Connections go back to a better priority. */
  readonly failback?: { readonly quiet_ms: number; readonly deadline_ms: number }
  /** Circuit breaker. */
  readonly maxConnections?: number
  /** TCP keepalive: idle time before the first probe. */
  readonly keepaliveS?: number
}

export function upstreamTls(pins: readonly string[], sni: string = SNI) {
  return create(UpstreamTlsContextSchema, {
    sni,
    commonTlsContext: {
      alpnProtocols: ['istio'],
      tlsCertificateSdsSecretConfigs: [sds('default')],
      validationContextType: {
        case: 'combinedValidationContext',
        value: {
          defaultValidationContext: {
            matchTypedSubjectAltNames: pins.map((value) => ({
              sanType: SubjectAltNameMatcher_SanType.URI,
              matcher: { matchPattern: { case: 'exact' as const, value } },
            })),
          },
          validationContextSdsSecretConfig: sds('ROOTCA'),
        },
      },
    },
  })
}

export function upstream(name: string, options: UpstreamOptions = {}): XdsResource {
  const { pins, outlier, aliases, failback } = options
  const own = {
    ...(aliases !== undefined && { aliases: [...aliases] }),
    ...(failback !== undefined && { failback }),
  }
  return encodeResource(
    ClusterSchema,
    create(ClusterSchema, {
      name,
      clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
      connectTimeout: seconds(options.connectTimeoutS ?? 2),
      lbPolicy: options.policy ?? Cluster_LbPolicy.LEAST_REQUEST,
      edsClusterConfig: { serviceName: name, edsConfig: ADS },
      commonLbConfig: { healthyPanicThreshold: { value: 0 } },
      ...(Object.keys(own).length > 0 && { metadata: { filterMetadata: { isthmus: own } } }),
      ...(outlier === undefined ? {} : { outlierDetection: outlier }),
      ...(options.maxConnections === undefined
        ? {}
        : { circuitBreakers: { thresholds: [{ maxConnections: options.maxConnections }] } }),
      ...(options.keepaliveS === undefined
        ? {}
        : { upstreamConnectionOptions: { tcpKeepalive: { keepaliveTime: options.keepaliveS } } }),
      transportSocketMatches:
        pins === undefined
          ? []
          : [
              {
                name: 'istio',
                match: { tlsMode: 'istio' },
                transportSocket: {
                  name: 'tls',
                  configType: typed(UpstreamTlsContextSchema, upstreamTls(pins, options.sni)),
                },
              },
              {
                name: 'raw',
                match: {},
                transportSocket: { name: 'raw', configType: typed(RawBufferSchema, create(RawBufferSchema)) },
              },
            ],
    }),
    name,
  )
}

export interface EndpointSpec {
  readonly host?: string
  readonly port: number
  readonly priority?: number
  readonly tls?: boolean
  readonly unhealthy?: boolean
}

export function endpoints(name: string, specs: readonly EndpointSpec[]): XdsResource {
  return encodeResource(
    ClusterLoadAssignmentSchema,
    create(ClusterLoadAssignmentSchema, {
      clusterName: name,
      endpoints: specs.map(({ host = '127.0.0.1', port, priority = 0, tls = false, unhealthy = false }) => ({
        priority,
        locality: { region: 'r1', zone: `z${priority}` },
        loadBalancingWeight: 1,
        lbEndpoints: [
          {
            hostIdentifier: { case: 'endpoint' as const, value: { address: socketAddress(host, port) } },
            healthStatus: unhealthy ? HealthStatus.UNHEALTHY : HealthStatus.HEALTHY,
            loadBalancingWeight: 1,
            ...(tls
              ? { metadata: { filterMetadata: { 'envoy.transport_socket_match': { tlsMode: 'istio' } } } }
              : {}),
          },
        ],
      })),
    }),
    name,
  )
}

export function credentialSecret({ certificatePem, privateKeyPem }: Pem, name = 'default'): XdsResource {
  const inline = (value: string) => ({ specifier: { case: 'inlineString' as const, value } })
  return encodeResource(
    SecretSchema,
    create(SecretSchema, {
      name,
      type: {
        case: 'tlsCertificate',
        value: { certificateChain: inline(certificatePem), privateKey: inline(privateKeyPem) },
      },
    }),
    name,
  )
}

export interface Pem {
  readonly certificatePem: string
  readonly privateKeyPem: string
}

export function trustSecret(
  cas: readonly Pick<Ca, 'trustDomain' | 'bundlePem'>[],
  name = 'ROOTCA',
  /** CRLs in PEM. */
  crl = '',
): XdsResource {
  const config = create(SPIFFECertValidatorConfigSchema, {
    trustDomains: cas.map(({ trustDomain, bundlePem }) => ({
      name: trustDomain,
      trustBundle: { specifier: { case: 'inlineString' as const, value: bundlePem } },
    })),
  })
  return encodeResource(
    SecretSchema,
    create(SecretSchema, {
      name,
      type: {
        case: 'validationContext',
        value: {
          customValidatorConfig: {
            name: 'envoy.tls.cert_validator.spiffe',
            typedConfig: anyPack(SPIFFECertValidatorConfigSchema, config),
          },
          ...(crl !== '' && { crl: { specifier: { case: 'inlineString' as const, value: crl } } }),
        },
      },
    }),
    name,
  )
}

/** A TCP server on a free port that counts what it is sent. */
export interface Backend {
  readonly port: number
  readonly accepts: number
  readonly bytes: number
  readonly sockets: readonly Socket[]
  close(): Promise<void>
}

/** `serve` gets each socket; default: echo, half-close included. */
export async function backend(
  serve: (socket: Socket) => void = echo,
  host = '127.0.0.1',
  port = 0,
): Promise<Backend> {
  const sockets: Socket[] = []
  let bytes = 0
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      bytes += chunk.length
    })
    serve(socket)
  })
  server.listen(port, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    get accepts() {
      return sockets.length
    },
    get bytes() {
      return bytes
    },
    sockets,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

export function echo(socket: Socket): void {
  socket.pipe(socket)
}

/** An engine whose access log can be waited for. */
export class TestProxy {
  readonly engine: Engine
  readonly log: AccessLogEntry[] = []
  readonly #waiters: (() => void)[] = []

  constructor(options: Partial<EngineOptions> = {}) {
    this.engine = new Engine({
      name: 'test',
      logger: silentLogger,
      allowLocalEndpoints: true,
      ...options,
      accessLog: (entry) => {
        this.log.push(entry)
        for (const wake of this.#waiters.splice(0)) wake()
      },
    })
  }

  /** Updates that must be accepted. */
  put(typeUrl: string, ...resources: readonly XdsResource[]): void {
    const problems = this.engine.update(typeUrl, resources, [])
    if (problems.length > 0) throw new Error(JSON.stringify(problems))
  }

  /** The port of a listener once it is open. */
  async port(name: string): Promise<number> {
    const failed = await this.engine.whenBound()
    if (failed.length > 0) throw new Error(JSON.stringify(failed))
    const status = this.engine.status().listeners.find((listener) => listener.name === name)
    return Number(status?.address.split(':').at(-1))
  }

  /** The first `count` lines. */
  async lines(count: number): Promise<AccessLogEntry[]> {
    while (this.log.length < count) await new Promise<void>((wake) => this.#waiters.push(wake))
    return this.log.slice(0, count)
  }
}

export interface World {
  readonly proxy: TestProxy
  readonly port: number
  readonly home: Ca
  readonly peer: Ca
  readonly client: Pem
  /** A client socket after its handshake. */
  connect(options?: ConnectionOptions): Promise<TLSSocket>
  open(options?: ConnectionOptions): TLSSocket
}

/** A gateway of cluster-2 that trusts cluster-1, with `SNI` leading to the backend. */
export async function gateway(
  target: Backend,
  options: GatewayListenerOptions & { engine?: Partial<EngineOptions> } = {},
): Promise<World> {
  const [home, peer] = await Promise.all([
    createCa({ trustDomain: 'cluster-2.example' }),
    createCa({ trustDomain: 'cluster-1.example' }),
  ])
  const proxy = new TestProxy(options.engine)
  const identity = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })
  const client = await peer.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
  proxy.put(TYPE.cluster, upstream(SNI))
  proxy.put(TYPE.endpoints, endpoints(SNI, [{ port: target.port }]))
  proxy.put(TYPE.listener, gatewayListener(options))
  proxy.put(TYPE.secret, credentialSecret(identity), trustSecret([home, peer]))
  const port = await proxy.port('eastwest')
  const open = (extra: ConnectionOptions = {}) =>
    connect({
      host: '127.0.0.1',
      port,
      servername: SNI,
      cert: client.certificatePem,
      key: client.privateKeyPem,
      ca: home.bundlePem,
      checkServerIdentity: () => undefined,
      ...extra,
    })
  return {
    proxy,
    port,
    home,
    peer,
    client,
    open,
    async connect(extra) {
      const socket = open(extra)
      await once(socket, 'secureConnect')
      return socket
    },
  }
}

/** Everything until the end; an error is the word `error <code>` at the end. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  await new Promise<void>((resolve) => {
    socket.once('end', resolve)
    socket.once('close', () => resolve())
    socket.once('error', () => resolve())
  })
  return Buffer.concat(chunks)
}

/** Resolves when the socket is gone, however it went. */
export async function gone(socket: Socket): Promise<void> {
  socket.on('error', () => {})
  if (socket.destroyed && socket.closed) return
  await new Promise<void>((resolve) => socket.once('close', () => resolve()))
}
