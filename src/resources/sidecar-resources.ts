import { create } from '@bufbuild/protobuf'
import type { Memo } from '../lib/memo.ts'
import type { ProxyProtocolVersion } from '../model/proxy-protocol.ts'
import { formatServerName } from '../model/server-name.ts'
import type { Model } from '../model/types.ts'
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  type Cluster_TransportSocketMatch,
  ClusterSchema,
  type Cluster as XdsCluster,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { type Listener, ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { RouteConfigurationSchema } from '../xds/gen/envoy/config/route/v3/route_pb.js'
import { TcpProxySchema } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { TYPE } from '../xds/types.ts'
import { OWN_METADATA } from './accept-aliases.ts'
import { type BindRange, bindAddresses } from './bind-address.ts'
import {
  type CallableHost,
  type CallablePort,
  callableHosts,
  hostNamesOf,
  isService,
  upstreamName,
} from './callable.ts'
import { DNS_LISTENER, type DnsOptions, dnsListener } from './dns-filter.ts'
import { loadAssignment, socketMatch } from './endpoints.ts'
import {
  adsSource,
  type DomainBundle,
  filter,
  KEEPALIVE,
  NO_CIRCUIT_BREAKERS,
  seconds,
  socketAddress,
  TRUST_BUNDLES,
  tcpProxy,
  trustBundleSecret,
} from './envoy.ts'
import { envoyHttpFilter, envoyRoutes, envoyUpstreamProtocol, isHttp, routeName } from './http-resources.ts'
import { encodeNameTable, NAME_TABLE, type NameInfo } from './name-table.ts'
import { SnapshotBuilder } from './snapshot-builder.ts'
import { clearTextMatch, mutualTlsMatch, neverInClear } from './transport-socket-matches.ts'

export interface SidecarOptions {
  /** Where the listeners' addresses come from. */
  readonly bind: BindRange
  readonly bundles: readonly DomainBundle[]
  /** False for clients in clear: everything but the Secret. */
  readonly secrets: boolean
  /** Whether the client takes host names as endpoints' addresses: our engine does, Envoy does not. */
  readonly hostNames: boolean
  /** Whether ports that speak HTTP are served as such, with routes over RDS: for an Envoy. Default false. */
  readonly http?: boolean
  /** DNS that an Envoy answers itself. */
  readonly dns?: DnsOptions | undefined
  /**
   * By cluster, where clusters share a trust domain or a CA: the bundle that alone vouches for its gateways. Undefined for clients that
   * are told of the whole trust domain only, as an Envoy is: it takes whatever chain leads to the root.
   */
  readonly clusterBundles?: ReadonlyMap<string, DomainBundle> | undefined
  /** An Envoy's SDS file with its own certificate; empty for our sidecar. */
  readonly credentialFile: string
}

/**
 * What every sidecar of the cluster serves: per host an address in the bind range, per port a listener on it whose upstream is
 * local endpoints in clear and remote gateways over mutual TLS; and the names that lead there.
 */
export function sidecarResources(
  model: Model,
  options: SidecarOptions,
  previous?: SnapshotBuilder,
): SnapshotBuilder {
  const builder = new SnapshotBuilder(previous)
  for (const typeUrl of [TYPE.cluster, TYPE.endpoints, TYPE.listener, TYPE.nameTable]) builder.type(typeUrl)
  if (options.http === true) builder.type(TYPE.route)
  const { clusterBundles, bind, credentialFile, http = false } = options
  const guarded = !options.hostNames
  const hosts = callableHosts(model, options.hostNames, clusterBundles, builder.memo('hosts'))
  const [all, own] = [hosts, hosts.filter((each) => each.own)].map((some) => some.map(({ host }) => host))
  const addresses = builder
    .memo('addresses')
    .get('', { all, own }, () => bindAddresses(all ?? [], bind, new Set(own)))
  for (const callable of hosts) {
    const address = addresses.get(callable.host)
    const inputs = { callable, address, credentialFile, clusterBundles, http, guarded }
    builder.group(callable.host, inputs, () => addHost(builder, inputs))
  }
  const { dns } = options
  const named = hosts.map((host) => namedHost(host, addresses.get(host.host), builder.memo('named')))
  builder.group('names', { named, dns }, () => {
    const names = nameTable(named)
    builder.add(TYPE.nameTable, NAME_TABLE, names, () => encodeNameTable(names))
    if (dns !== undefined)
      builder.message(TYPE.listener, ListenerSchema, DNS_LISTENER, { names, dns }, () =>
        dnsListener(names, dns),
      )
  })
  if (options.secrets) {
    const { bundles } = options
    builder.message(TYPE.secret, SecretSchema, TRUST_BUNDLES, bundles, () => trustBundleSecret(bundles))
    for (const [cluster, bundle] of clusterBundles ?? []) {
      const name = clusterTrust(cluster)
      builder.message(TYPE.secret, SecretSchema, name, bundle, () => trustBundleSecret([bundle], name))
    }
  }
  return builder
}

/** All that the resources of a host are made of. */
interface HostInputs extends Pick<SidecarOptions, 'credentialFile' | 'clusterBundles'> {
  readonly callable: CallableHost
  /** Undefined where the range has no room. */
  readonly address: string | undefined
  readonly http: boolean
  readonly guarded: boolean
}

function addHost(
  builder: SnapshotBuilder,
  { callable, address, credentialFile, clusterBundles, http, guarded }: HostInputs,
): void {
  const { host, ports, gatewayIds, pins, proxyProtocol } = callable
  for (const port of ports) {
    const name = upstreamName(host, port.number)
    const asHttp = http && isHttp(port.protocol)
    const remote = port.endpoints.some(({ mtls }) => mtls)
    const shape = {
      host,
      port: port.number,
      guarded,
      gatewayIds: remote ? gatewayIds : [],
      pins: remote ? pins : {},
      credentialFile,
      proxyProtocol,
      quietMs: quietMs(port.protocol),
      narrowed: Object.keys(remote ? pins : {}).filter((cluster) => clusterBundles?.has(cluster) === true),
      ...(asHttp && { http: port.protocol }),
    }
    for (const { name: subset, endpoints } of [
      { name: '', endpoints: port.endpoints },
      ...(port.subsets ?? []),
    ]) {
      const each = upstreamName(host, port.number, subset)
      const inputs = subset === '' ? shape : { ...shape, subset }
      builder.message(TYPE.cluster, ClusterSchema, each, inputs, () => upstream(each, inputs))
      builder.message(TYPE.endpoints, ClusterLoadAssignmentSchema, each, endpoints, () =>
        loadAssignment(each, endpoints),
      )
    }
    if (address === undefined) continue
    const inputs = { address, protocol: port.protocol, asHttp }
    builder.message(TYPE.listener, ListenerSchema, `${host}_${port.number}`, inputs, () =>
      listener(host, port, address, asHttp),
    )
    if (!asHttp) continue
    const route = routeName(host, port.number)
    builder.message(TYPE.route, RouteConfigurationSchema, route, name, () => envoyRoutes(route, name))
  }
}

interface UpstreamShape {
  readonly host: string
  readonly port: number
  /** Absent: the whole port. */
  readonly subset?: string
  /** Empty: no remote gateway, no TLS. */
  readonly gatewayIds: readonly string[]
  readonly pins: CallableHost['pins']
  readonly credentialFile: string
  readonly proxyProtocol: ProxyProtocolVersion | undefined
  /** Clusters of `pins` that have a trust bundle of their own. */
  readonly narrowed: readonly string[]
  /** Silence that counts as rest, where connections go back to a better priority. */
  readonly quietMs: number
  /** What an Envoy reads in it; absent: bytes. */
  readonly http?: CallablePort['protocol']
  /** Whether the client has to be told that what wants mutual TLS is never spoken to in clear. */
  readonly guarded: boolean
}

function upstream(name: string, shape: UpstreamShape): XdsCluster {
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
    connectTimeout: seconds(2),
    lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
    edsClusterConfig: { serviceName: name, edsConfig: adsSource(5) },
    circuitBreakers: NO_CIRCUIT_BREAKERS,
    upstreamConnectionOptions: KEEPALIVE,
    commonLbConfig: {
      healthyPanicThreshold: { value: 0 },
      localityConfigSpecifier: { case: 'localityWeightedLbConfig', value: {} },
    },
    // Failures to connect or to shake hands count here; Envoy's 5xx counter sees none of them in TCP. In HTTP it would see an
    // application's own errors, which say nothing of its gateway.
    outlierDetection: {
      consecutive5xx: 5,
      enforcingConsecutive5xx: shape.http === undefined ? 100 : 0,
      enforcingSuccessRate: 0,
      interval: seconds(1),
      baseEjectionTime: seconds(3),
      maxEjectionPercent: 100,
      splitExternalLocalOriginErrors: true,
      consecutiveLocalOriginFailure: 2,
      enforcingConsecutiveLocalOriginFailure: 100,
    },
    metadata: {
      filterMetadata: {
        [OWN_METADATA]: { failback: { quiet_ms: shape.quietMs, deadline_ms: FAILBACK_DEADLINE_MS } },
      },
    },
    transportSocketMatches: [...mutualTls(shape), clearTextMatch(shape.proxyProtocol)],
    ...(shape.http !== undefined && { typedExtensionProtocolOptions: envoyUpstreamProtocol(shape.http) }),
  })
}

/** That a few near endpoints crashed at one time, and nobody has heard of it yet, must cost no call. */
const CONNECT_ATTEMPTS = 6

/** As long as a gateway drains. */
const FAILBACK_DEADLINE_MS = 45_000
/** Protocols in which both sides speak whenever they like, inside TLS perhaps: that the server spoke last says nothing of a call. */
const TALKATIVE: ReadonlySet<CallablePort['protocol']> = new Set(['http2', 'grpc', 'https', 'tls'])

/** Longer than an answer in the making usually pauses, and still home within 5 s. */
const QUIET_MS = 3_000
const TALKATIVE_QUIET_MS = 10_000

const quietMs = (protocol: CallablePort['protocol']): number =>
  TALKATIVE.has(protocol) ? TALKATIVE_QUIET_MS : QUIET_MS

/** The first match counts: a cluster's own pins before those for all. */
function mutualTls(shape: UpstreamShape): Cluster_TransportSocketMatch[] {
  const { host, port, subset = '', credentialFile, gatewayIds, narrowed } = shape
  if (gatewayIds.length === 0) return shape.guarded ? [neverInClear()] : []
  const sni = formatServerName({ port, subset, host })
  const narrow = Object.entries(shape.pins).map(([cluster, ids]) =>
    mutualTlsMatch({
      name: `tlsMode-istio-${cluster}`,
      match: socketMatch({ cluster }),
      sni,
      ids,
      credentialFile,
      ...(narrowed.includes(cluster) && { trust: clusterTrust(cluster) }),
    }),
  )
  const all = { name: 'tlsMode-istio', match: socketMatch({}), sni, ids: gatewayIds, credentialFile }
  return [...narrow, mutualTlsMatch(all)]
}

/** Name of the Secret with the CAs that alone vouch for the gateways of a cluster. */
function clusterTrust(cluster: string): string {
  return `${TRUST_BUNDLES}/${cluster}`
}

function listener(host: string, port: CallablePort, address: string, asHttp: boolean): Listener {
  const name = `${host}_${port.number}`
  const tcp = () => {
    const proxy = tcpProxy(name, upstreamName(host, port.number), CONNECT_ATTEMPTS)
    return filter('envoy.filters.network.tcp_proxy', TcpProxySchema, proxy)
  }
  return create(ListenerSchema, {
    name,
    address: socketAddress(address, port.number),
    filterChains: [{ filters: [asHttp ? envoyHttpFilter(routeName(host, port.number)) : tcp()] }],
    metadata: { filterMetadata: { isthmus: { host, port: port.number, protocol: port.protocol } } },
  })
}

/** A host and how it is found. Undefined where it found no room in the range, or is left to ordinary DNS: it has no name then. */
type NamedHost = { readonly names: readonly string[]; readonly info: NameInfo } | undefined

function namedHost(callable: CallableHost, address: string | undefined, memo: Memo): NamedHost {
  const { host, name, namespace, noShortName, leftToDns } = callable
  return memo.get(host, { host, name, namespace, noShortName, leftToDns, address }, (inputs) => {
    if (inputs.address === undefined || inputs.leftToDns) return undefined
    const service = isService(inputs)
    const info = {
      ips: [inputs.address],
      shortname: service ? inputs.name : '',
      namespace: service ? inputs.namespace : '',
    }
    return { names: hostNamesOf(inputs), info }
  })
}

/** Host, `svc.ns` and `svc.ns.svc` → the host's address. A host's full name counts before a short one of another. */
function nameTable(hosts: readonly NamedHost[]): Record<string, NameInfo> {
  const table: Record<string, NameInfo> = {}
  for (const host of hosts) {
    const [full = '', ...more] = host?.names ?? []
    if (host === undefined) continue
    table[full] = host.info
    for (const name of more) table[name] ??= host.info
  }
  return table
}
