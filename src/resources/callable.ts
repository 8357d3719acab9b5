import { isIP } from 'node:net'
import { parseSpiffeId } from '../identity/spiffe-id.ts'
import { Memo } from '../lib/memo.ts'
import { own } from '../lib/own.ts'
import { type FailoverRule, failoverLabels, type Place, placeOf, priorityOf } from '../model/failover.ts'
import { isClustersOwn } from '../model/host.ts'
import { byText } from '../model/labels.ts'
import { type ProxyProtocolVersion, proxyProtocolOf } from '../model/proxy-protocol.ts'
import { endpointsIn } from '../model/subsets.ts'
import type {
  ImportedService,
  Model,
  ModelEndpoint,
  ModelPort,
  ModelService,
  ModelSubset,
} from '../model/types.ts'
import { type EdsEndpoint, localEndpoints, normalise } from './endpoints.ts'
import { type Share, WEIGHT_MAX, weigh } from './traffic-weights.ts'

/** One port of a host that workloads of this cluster may call, here or elsewhere. Plain JSON. */
export interface CallablePort {
  readonly number: number
  readonly protocol: ModelPort['protocol']
  readonly endpoints: readonly EdsEndpoint[]
  /** The same for each subset, by name; absent: there are none. */
  readonly subsets?: readonly { readonly name: string; readonly endpoints: readonly EdsEndpoint[] }[]
}

export interface CallableHost {
  readonly host: string
  /** Empty for a host that is no Kubernetes service. */
  readonly name: string
  readonly namespace: string
  /** By number. */
  readonly ports: readonly CallablePort[]
  /** SPIFFE ids that its remote gateways may have. */
  readonly gatewayIds: readonly string[]
  /**
   * Where they are of several trust domains, or a cluster has CAs of its own in a shared one: cluster → those of its own, the only ones
   * that may answer for it.
   */
  readonly pins: Readonly<Record<string, readonly string[]>>
  /** What its own endpoints expect first. */
  readonly proxyProtocol: ProxyProtocolVersion | undefined
  /** A Service of this cluster, and not only somebody else's. */
  readonly own: boolean
  /** `name.namespace` does not lead here. */
  readonly noShortName: boolean
  /**
   * Its names are ordinary DNS's: it has ports that a sidecar's listener could not serve, UDP for example, and they must go on working
   * under its name.
   */
  readonly leftToDns: boolean
}

/** Istio's name of an upstream: `outbound|9080|SUBSET|productpage.bookinfo.svc.cluster.local`, without a subset the whole port's. */
export function upstreamName(host: string, port: number, subset = ''): string {
  return `outbound|${port}|${subset}|${host}`
}

/** The names that a host goes by: itself and, for a Kubernetes service, `svc.ns` and `svc.ns.svc`. */
export function hostNamesOf({
  host,
  name,
  namespace,
  noShortName,
}: Pick<CallableHost, 'host' | 'name' | 'namespace' | 'noShortName'>): string[] {
  if (!isService({ host, name, namespace })) return [host]
  const short = `${name}.${namespace}`
  return noShortName ? [host, `${short}.svc`] : [host, short, `${short}.svc`]
}

/** Whether a host is that of a Kubernetes service, and not only said to be of one. */
export function isService({
  host,
  name,
  namespace,
}: Pick<CallableHost, 'host' | 'name' | 'namespace'>): boolean {
  return name !== '' && host === `${name}.${namespace}.svc.cluster.local`
}

/**
 * Every host that the cluster's workloads may call, sorted: its own services and what is imported, those with the same host
 * merged (same name and namespace = same service), in the order that the failover rule of the host says: own endpoints first by default.
 * `hostNames` false leaves out gateways that are known by a host name only, which an Envoy would not take in EDS. `narrowed` are the
 * clusters whose gateways are verified by CAs of their own; given, those that no CA speaks for alone are left out. With the `memo` of
 * the time before, a host of which nothing changed is the same object.
 */
export function callableHosts(
  model: Model,
  hostNames: boolean,
  narrowed?: Narrowed,
  memo = new Memo(),
): CallableHost[] {
  const { self, ownLabels, clusters, origins, failover } = model
  const of = { self, ownLabels, clusters, origins, failover, hostNames, narrowed }
  const cluster = memo.get(' cluster', of, (same) => same)
  // What belongs to a cluster's own workings (its DNS, its API server) must not need a sidecar to be reached.
  const ours = model.services.filter((service) => !isClustersOwn(service))
  const services = new Map(ours.map((service) => [service.host, service]))
  const imports = new Map(model.imports.map((entry) => [entry.host, entry]))
  const hosts = [...new Set([...services.keys(), ...imports.keys()])].sort()
  return hosts.map((host) => {
    const inputs = { host, service: services.get(host), entry: imports.get(host), cluster }
    return memo.get(host, inputs, () => merge({ ...cluster, ...inputs }))
  })
}

type Narrowed = Pick<ReadonlySet<string>, 'has'>

/** All that a host is made of. */
interface HostInputs extends Pick<Model, 'self' | 'ownLabels' | 'clusters' | 'origins' | 'failover'> {
  readonly host: string
  readonly service: ModelService | undefined
  readonly entry: ImportedService | undefined
  readonly hostNames: boolean
  readonly narrowed: Narrowed | undefined
}

function merge(inputs: HostInputs): CallableHost {
  const { host, service, entry, narrowed } = inputs
  const protocols = new Map<number, ModelPort['protocol']>()
  for (const port of [...(service?.ports ?? []), ...(entry?.ports ?? [])]) {
    if (!protocols.has(port.number)) protocols.set(port.number, port.protocol)
  }
  const gatewayIds = entry?.subjectAltNames.filter((id) => parseSpiffeId(id).ok) ?? []
  const known = narrowed === undefined ? entry : withoutNobodys(inputs, entry)
  const pins = pinsOf(inputs, known, gatewayIds)
  const ports = [...protocols].sort(([a], [b]) => a - b)
  const order = orderOf(inputs)
  const endpointsAt = (number: number, pods: readonly ModelEndpoint[], from: ImportedService | undefined) => {
    const remote = from === undefined ? [] : remoteShares(order, from, number, { gatewayIds, pins })
    const elsewhere = remote.some(
      ({ percent, endpoints }) => percent > 0 && endpoints.some(({ unready }) => unready !== true),
    )
    return normalise(weigh([ownShare(order, pods, elsewhere), ...remote]))
  }
  const subsets = subsetsOf(service, known)
  return {
    host,
    name: service?.name ?? entry?.name ?? '',
    namespace: service?.namespace ?? entry?.namespace ?? '',
    gatewayIds,
    pins,
    proxyProtocol: service && proxyProtocolOf(service.annotations),
    own: service !== undefined,
    noShortName: service === undefined && entry?.noShortName === true,
    leftToDns: service?.notOnlyTcp === true || ports.length === 0,
    ports: ports.map(([number, protocol]) => {
      const pods = service?.ports.find((port) => port.number === number)?.endpoints ?? []
      const parts = subsets.map((subset) => ({
        name: subset.name,
        endpoints: endpointsAt(number, endpointsIn(pods, subset), importedSubset(known, subset)),
      }))
      return {
        number,
        protocol,
        endpoints: endpointsAt(number, pods, known),
        ...(parts.length > 0 && { subsets: parts }),
      }
    }),
  }
}

/** Those of both, by name; the Service's own labels say which of its pods are meant. */
function subsetsOf(service: ModelService | undefined, entry: ImportedService | undefined): ModelSubset[] {
  const byName = new Map<string, ModelSubset>()
  for (const subset of [...(entry?.subsets ?? []), ...(service?.subsets ?? [])])
    byName.set(subset.name, subset)
  return [...byName.values()].sort((a, b) => byText(a.name, b.name))
}

/** What is imported of a subset: gateways that serve it, weighed by what is ready of it behind them. */
function importedSubset(
  entry: ImportedService | undefined,
  { name }: ModelSubset,
): ImportedService | undefined {
  if (entry === undefined) return undefined
  const nobody = entry.ports.map(({ number }) => number)
  const endpoints = entry.endpoints.flatMap((endpoint) => {
    const ready = own(endpoint.subsets ?? {}, name)
    if (ready === undefined) return []
    return [ready === 0 ? { ...endpoint, notReady: nobody } : { ...endpoint, weight: ready }]
  })
  return { ...entry, endpoints }
}

/** In which order endpoints are tried, and by whom. */
interface Order {
  readonly of: HostInputs
  readonly rule: FailoverRule
  readonly caller: Place
}

function orderOf(of: HostInputs): Order {
  const { service, entry, self } = of
  const clusters = [self.id, ...new Set(entry?.endpoints.map(({ cluster }) => cluster))]
  const namespace = service?.namespace ?? entry?.namespace ?? ''
  return { of, rule: of.failover(namespace, clusters), caller: placeOf(self, of.ownLabels) }
}

function ownShare(
  { of: { self, service }, rule, caller }: Order,
  pods: readonly ModelEndpoint[],
  elsewhere: boolean,
): Share {
  const labels = new Map(pods.map((pod) => [pod.address, pod.labels]))
  const endpoints = localEndpoints(pods, self.locality, elsewhere).map((endpoint) => {
    const { region, zone, address } = endpoint
    const { labels: services = {} } = service ?? {}
    const place = { ...caller, region, zone, labels: { ...failoverLabels(services), ...labels.get(address) } }
    return { ...endpoint, priority: priorityOf(rule, caller, place) }
  })
  return { percent: self.weight ?? 100, sameBehindEach: false, endpoints }
}

/** Without the endpoints of clusters whose CAs are all somebody else's too: whoever answers there could be another. */
function withoutNobodys(
  { origins }: HostInputs,
  entry: ImportedService | undefined,
): ImportedService | undefined {
  const nobodys = entry?.endpoints.filter(({ cluster }) => origins.get(cluster)?.issuers?.length === 0)
  if (entry === undefined || nobodys === undefined || nobodys.length === 0) return entry
  return { ...entry, endpoints: entry.endpoints.filter((endpoint) => !nobodys.includes(endpoint)) }
}

/** The ids of each cluster's own trust domain, where the host's gateways have others too or its CAs are to be its own. */
function pinsOf(
  { clusters: known, narrowed }: HostInputs,
  entry: ImportedService | undefined,
  gatewayIds: readonly string[],
): Record<string, readonly string[]> {
  const clusters = [...new Set(entry?.endpoints.map(({ cluster }) => cluster) ?? [])].sort()
  return Object.fromEntries(
    clusters.flatMap((cluster) => {
      const trustDomain = known.get(cluster)?.trustDomain ?? ''
      const ids = gatewayIds.filter((id) => id.startsWith(`spiffe://${trustDomain}/`))
      const needless = ids.length === gatewayIds.length && narrowed?.has(cluster) !== true
      return trustDomain === '' || ids.length === 0 || needless ? [] : [[cluster, ids]]
    }),
  )
}

/** One share for each cluster; endpoints of no cluster stand for themselves. */
function remoteShares(
  order: Order,
  entry: ImportedService,
  port: number,
  options: {
    readonly gatewayIds: readonly string[]
    readonly pins: CallableHost['pins']
  },
): Share[] {
  const name = entry.ports.find(({ number }) => number === port)?.name
  if (name === undefined) return []
  const byCluster = Map.groupBy(entry.endpoints, ({ cluster }) => cluster)
  return [...byCluster].map(([cluster, members]) => ({
    percent: order.of.clusters.get(cluster)?.weight ?? 100,
    sameBehindEach: cluster !== '',
    endpoints: members.flatMap((member) => {
      const at = own(member.ports, name) ?? port
      return remoteEndpoint(order, member, { ...options, port, at })
    }),
  }))
}

function remoteEndpoint(
  { of: { hostNames }, rule, caller }: Order,
  endpoint: ImportedService['endpoints'][number],
  {
    gatewayIds,
    pins,
    port,
    at,
  }: {
    readonly gatewayIds: readonly string[]
    readonly pins: CallableHost['pins']
    readonly port: number
    readonly at: number
  },
): EdsEndpoint[] {
  const { address, locality, weight, mtls, cluster, network, failoverLabels: labels = {} } = endpoint
  // TLS to a gateway that nothing pins would trust every certificate of every peer.
  if (mtls && gatewayIds.length === 0) return []
  if (!hostNames && isIP(address) === 0) return []
  const [region = '', zone = ''] = locality.split('/')
  return [
    {
      address,
      port: at,
      region,
      zone,
      priority: priorityOf(rule, caller, { cluster, network, region, zone, labels }),
      weight: Math.min(Math.max(1, weight), WEIGHT_MAX),
      draining: false,
      ...(endpoint.notReady?.includes(port) === true ? { unready: true as const } : {}),
      mtls,
      ...(mtls && own(pins, cluster) !== undefined ? { cluster } : {}),
    },
  ]
}
