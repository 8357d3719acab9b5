// What we make of an entry that a peer sent. A peer is trusted to speak for its own services through its own gateways, and no
// further: whatever it writes must not harm what others offer, nor what is ours.
import { BlockList, isIP, isIPv6 } from 'node:net'
import { parseSpiffeId } from '../identity/spiffe-id.ts'
import { own } from '../lib/own.ts'
import { fail, ok, problem, type Result } from '../lib/result.ts'
import { isClustersOwn, isDnsLabel, isDnsName, parseServiceHost } from '../model/host.ts'
import { MANAGED_BY, MANAGER } from '../model/managed.ts'
import { annotatedSubsets, parseSubsets, SUBSETS_ANNOTATION, subsetsAnnotation } from '../model/subsets.ts'
import type { ClusterInfo } from '../model/types.ts'
import type { EntryConfig, EntryEndpoint } from './service-entry.ts'
import {
  CLUSTER_LABEL,
  HOPS_LABEL,
  NETWORK_LABEL,
  PATH_ANNOTATION,
  RULE_ANNOTATION,
  TLS_MODE_LABEL,
} from './service-entry-export.ts'

/** Entries of one peer that are taken; each costs every sidecar listeners and an address. */
export const OFFERS_MAX = 10_000
/** Of one entry. */
const PORTS_MAX = 256
const ENDPOINTS_MAX = 256
const IDS_MAX = 64
const LABELS_MAX = 64
/** More would take everybody's traffic, and sums of it have to fit into 32 bits. */
const WEIGHT_MAX = 10_000
const TEXT_MAX = 1_024
/** Clusters between a service and who offers it. */
const HOPS_MAX = 4

/** Who offers, as our own objects know him. */
export interface Offerer {
  readonly cluster: string
  readonly trustDomain: string
  /** Where its ADS is: one on loopback is on this machine, and so may its gateways be. */
  readonly adsAddress?: string
  readonly network: string
  /** Of its Cluster object here; empty or absent: we do not know, and believe it. */
  readonly locality?: ClusterInfo['locality']
  /** Our own cluster's id: what has come through it is not taken back. Absent: nothing is known of it. */
  readonly self?: string
}

/**
 * Takes an entry of a peer: only hosts of Kubernetes services that are not every cluster's own, only gateway identities of the
 * peer's own trust domain, only addresses that can be another machine's; cluster, network and locality as our objects say,
 * whatever it claims.
 */
export function acceptEntry(entry: EntryConfig, peer: Offerer): Result<EntryConfig> {
  const object = `ServiceEntry/${entry.namespace}/${entry.name} of peer ${peer.cluster}`
  for (const [field, message] of [
    ['metadata.annotations', looped(entry, peer)],
    ['spec.hosts', wrongHost(entry.hosts)],
    ['spec.subjectAltNames', wrongIds(entry.subjectAltNames, peer.trustDomain)],
    ['spec.ports', wrongPorts(entry)],
    ['spec.endpoints', wrongEndpoints(entry, isLocal(peer.adsAddress ?? ''))],
    [`metadata.annotations["${SUBSETS_ANNOTATION}"]`, wrongSubsets(entry)],
  ] as const) {
    if (message !== undefined) return fail(problem(object, field, message))
  }
  const { region = '', zone = '' } = peer.locality ?? {}
  const place = [region, zone].filter((part) => part !== '').join('/')
  return ok({
    ...entry,
    labels: { [MANAGED_BY]: MANAGER },
    annotations: {
      [RULE_ANNOTATION]: (entry.annotations[RULE_ANNOTATION] ?? '').slice(0, TEXT_MAX),
      ...subsetsAnnotation(annotatedSubsets(entry.annotations)),
    },
    location: 'MESH_INTERNAL',
    resolution: entry.endpoints.every(({ address }) => isIP(address) !== 0) ? 'STATIC' : 'DNS',
    endpoints: entry.endpoints.map((endpoint) => ({
      ...endpoint,
      weight: Math.min(endpoint.weight, WEIGHT_MAX),
      locality: place === '' ? endpoint.locality : place,
      labels: {
        ...endpoint.labels,
        [NETWORK_LABEL]: peer.network,
        [CLUSTER_LABEL]: peer.cluster,
        [TLS_MODE_LABEL]: 'istio',
      },
    })),
  })
}

function wrongSubsets({ annotations }: EntryConfig): string | undefined {
  const parsed = parseSubsets(own(annotations, SUBSETS_ANNOTATION) ?? '{}')
  return parsed.ok ? undefined : parsed.error
}

/** What came from us, or through us, would lead calls around in a circle; what came too far may do so unseen. */
function looped({ annotations, endpoints }: EntryConfig, { self }: Offerer): string | undefined {
  const path = (annotations[PATH_ANNOTATION] ?? '').split(',').map((cluster) => cluster.trim())
  const ours = endpoints.some(({ labels }) => labels[CLUSTER_LABEL] === self)
  if (self !== undefined && (ours || path.includes(self)))
    return `Loop: it has come through ${self}, this cluster itself`
  const hops = Math.max(path.length - 1, ...endpoints.map(({ labels }) => Number(labels[HOPS_LABEL] ?? 0)))
  if (hops >= 0 && hops <= HOPS_MAX) return undefined
  return `HopLimit: it has come through ${Number.isNaN(hops) ? 'who knows how many' : hops} clusters, at most ${HOPS_MAX}`
}

function wrongHost(hosts: readonly string[]): string | undefined {
  const [host = '', ...more] = hosts
  const service = isDnsName(host) ? parseServiceHost(host) : undefined
  if (more.length > 0 || service === undefined)
    return `is [${hosts.slice(0, 5).join(', ')}], expected one name.namespace.svc.cluster.local`
  return isClustersOwn(service)
    ? `is ${host}, which every cluster has for itself; another's is not taken`
    : undefined
}

function wrongIds(ids: readonly string[], trustDomain: string): string | undefined {
  const expected = `expected ids of trust domain ${trustDomain}`
  if (ids.length === 0) return `is empty, ${expected}`
  if (ids.length > IDS_MAX) return `has ${ids.length} ids, expected at most ${IDS_MAX}`
  const foreign = ids.find((text) => {
    const id = parseSpiffeId(text)
    return !id.ok || id.value.trustDomain !== trustDomain || id.value.path === ''
  })
  return foreign === undefined ? undefined : `is ${foreign.slice(0, TEXT_MAX)}, ${expected}`
}

function wrongPorts({ ports }: EntryConfig): string | undefined {
  if (ports.length === 0) return 'is empty, expected at least one port'
  if (ports.length > PORTS_MAX) return `has ${ports.length} ports, expected at most ${PORTS_MAX}`
  const bad = ports.find(
    ({ name, number, protocol }) => !isDnsLabel(name) || !isPort(number) || protocol.length > 32,
  )
  return bad === undefined
    ? undefined
    : `has "${bad.name.slice(0, 64)}" ${bad.number}, expected a DNS label as name and a number from 1 to 65535`
}

function wrongEndpoints({ endpoints }: EntryConfig, local: boolean): string | undefined {
  if (endpoints.length > ENDPOINTS_MAX) return `has ${endpoints.length}, expected at most ${ENDPOINTS_MAX}`
  for (const [i, endpoint] of endpoints.entries()) {
    const wrong = wrongEndpoint(endpoint, local)
    if (wrong !== undefined) return `[${i}] ${wrong}`
  }
  return undefined
}

function wrongEndpoint(
  { address, ports, labels, locality }: EntryEndpoint,
  local: boolean,
): string | undefined {
  const shown = address.slice(0, 64)
  if (isIP(address) === 0 && !isDnsName(address))
    return `has address "${shown}", expected an IP address or a host name`
  const kind = kindOf(address)
  if (kind !== undefined && !(kind === 'a loopback address' && local))
    return `has address "${shown}", ${kind}: expected one that another cluster's gateway can have`
  const bad = Object.values(ports).find((number) => !isPort(number))
  if (bad !== undefined) return `has port ${bad}, expected 1 to 65535`
  if (Object.keys(labels).length > LABELS_MAX) return `has more than ${LABELS_MAX} labels`
  const label = Object.entries(labels).find(([key, value]) => !KEY.test(key) || !VALUE.test(value))
  if (label !== undefined) return `has label "${label[0].slice(0, 64)}", expected a label of Kubernetes`
  return /^[A-Za-z0-9._/-]{0,256}$/.test(locality) ? undefined : 'has a locality that is no region/zone'
}

const isPort = (number: number): boolean => number >= 1 && number <= 65_535
// k8s.io/apimachinery util/validation.
const KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
const VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/

const LOOPBACK = ranges('127.0.0.0/8', '::1/128')
/** RFC 6890: this network, link-local (cloud metadata among them), multicast, reserved. */
const NOBODYS = ranges(
  '0.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/128',
  'fe80::/10',
  'ff00::/8',
)

function ranges(...cidrs: readonly string[]): BlockList {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [address = '', bits] = cidr.split('/')
    list.addSubnet(address, Number(bits), isIPv6(address) ? 'ipv6' : 'ipv4')
  }
  return list
}

/** What an address is that cannot be another machine's; undefined where it can. */
function kindOf(address: string): string | undefined {
  if (address === 'localhost' || address.endsWith('.localhost')) return 'a loopback address'
  if (isIP(address) === 0) return undefined
  if (address.includes('%')) return 'an address with a zone of its own machine'
  // `::ffff:a.b.c.d`: the check looks through it.
  const family = isIPv6(address) ? 'ipv6' : 'ipv4'
  if (LOOPBACK.check(address, family)) return 'a loopback address'
  return NOBODYS.check(address, family) ? "nobody's address" : undefined
}

function isLocal(authority: string): boolean {
  return kindOf(authority.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')) === 'a loopback address'
}
