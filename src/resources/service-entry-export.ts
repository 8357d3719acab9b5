import { isIP } from 'node:net'
import { contentHash } from '../lib/canonical.ts'
import { Memo } from '../lib/memo.ts'
import { failoverLabels } from '../model/failover.ts'
import { NOT_READY_LABEL } from '../model/imports.ts'
import { ENTRY_NAMESPACE, MANAGED_BY, MANAGER } from '../model/managed.ts'
import { answeringIds } from '../model/mode.ts'
import { subsetLabels, subsetsAnnotation } from '../model/subsets.ts'
import type { ClusterInfo, Exposure, ModelGateway, ModelPort, ModelService } from '../model/types.ts'
import type { EntryConfig, EntryPort } from './service-entry.ts'

/** Endpoint labels of the reference product, and Istio's for mutual TLS. */
export const CLUSTER_LABEL = 'xcp.tetrate.io/cluster'
export const NETWORK_LABEL = 'network'
export const TLS_MODE_LABEL = 'security.istio.io/tlsMode'
/** Endpoint label of the reference product: how many clusters pass calls on before the serving one. */
export const HOPS_LABEL = 'xcp.tetrate.io/hops'
/** Annotation: the clusters that an entry has come through, separated by commas, the serving one last. */
export const PATH_ANNOTATION = 'isthmus.io/path'
/** Annotation: since when entries are in force without the word of who offers them: `cluster-1 2026-01-01T00:00:00.000Z; …`. */
export const STALE_ANNOTATION = 'isthmus.io/stale-since'
/** Annotation: the rule of the serving cluster that exposed it. */
export const RULE_ANNOTATION = 'isthmus.io/exposed-by'

/**
 * What a peer is told of each exposed service: its host and ports, the addresses of the gateway that serves it, and whose ids answer
 * there: the gateway's, or the workloads' where it passes through. A service whose gateway has no address yet is withheld. With the
 * `memo` of the time before, an entry of which nothing changed is the same object.
 */
export function exportEntries(
  exposures: readonly Exposure[],
  gateways: readonly ModelGateway[],
  self: ClusterInfo,
  memo = new Memo(),
): EntryConfig[] {
  const byName = new Map(gateways.map((gateway) => [`${gateway.namespace}/${gateway.name}`, gateway]))
  const ready = exposures.flatMap((exposure) => {
    const gateway = byName.get(exposure.gateway ?? '')
    return exposure.decision.allowed && gateway !== undefined && gateway.addresses.length > 0
      ? [{ exposure, gateway }]
      : []
  })
  const hosts = ready.map(({ exposure }) => exposure.service.host)
  const names = memo.get('', { hosts }, () => entryNames(hosts))
  return ready.map(({ exposure, gateway }) => {
    const { host } = exposure.service
    return memo.get(host, { exposure, gateway, self, name: names.get(host) ?? '' }, exportEntry)
  })
}

interface EntryInputs {
  readonly exposure: Exposure
  readonly gateway: ModelGateway
  readonly self: ClusterInfo
  /** Of the entry. */
  readonly name: string
}

function exportEntry({ exposure, gateway, self, name }: EntryInputs): EntryConfig {
  const { host, subsets = [] } = exposure.service
  const ports = exposure.service.ports.map(entryPort)
  const weight = Math.max(
    1,
    ...exposure.service.ports.map((port) => port.endpoints.filter(({ ready }) => ready).length),
  )
  return {
    namespace: ENTRY_NAMESPACE,
    name,
    labels: { [MANAGED_BY]: MANAGER },
    annotations: { [RULE_ANNOTATION]: exposure.rule, ...subsetsAnnotation(subsets) },
    ...created(exposure.service),
    hosts: [host],
    location: 'MESH_INTERNAL',
    resolution: gateway.addresses.every(({ address }) => isIP(address) !== 0) ? 'STATIC' : 'DNS',
    ports,
    endpoints: gateway.addresses.map(({ address, port }) => ({
      address,
      ports: Object.fromEntries(ports.map(({ name }) => [name, port])),
      labels: {
        [NETWORK_LABEL]: self.network,
        [TLS_MODE_LABEL]: 'istio',
        [CLUSTER_LABEL]: self.id,
        [HOPS_LABEL]: '0',
        'xcp.tetrate.io/serviceType': 'remoteGateway',
        ...failoverLabels(exposure.service.labels, gateway.failoverLabels),
        ...notReadyLabel(exposure.service.ports, gateway.withdrawn === true),
        ...subsetLabels(exposure.service.ports, subsets),
      },
      network: '',
      locality: [self.locality.region, self.locality.zone].filter((part) => part !== '').join('/'),
      weight,
    })),
    exportTo: ['*'],
    subjectAltNames: [...answeringIds(self, exposure, gateway)].sort(),
  }
}

/** What is exported is as old as the Service. */
const created = ({ creationTimestamp }: ModelService): Pick<EntryConfig, 'createTime'> =>
  creationTimestamp === undefined ? {} : { createTime: creationTimestamp }

/** A label value has 63 characters at most: ports that find no room there are tried, and refused by the gateway. */
const LABEL_LENGTH_MAX = 63

/** So that others can fail over, or say at once that nobody is there. `nobody`: the gateway itself is about to stop. */
function notReadyLabel(ports: readonly ModelPort[], nobody: boolean): Record<string, string> {
  let label = ''
  for (const { number, endpoints } of ports) {
    if (!nobody && endpoints.some(({ ready, draining }) => ready || draining)) continue
    const longer = label === '' ? String(number) : `${label}.${number}`
    if (longer.length <= LABEL_LENGTH_MAX) label = longer
  }
  return label === '' ? {} : { [NOT_READY_LABEL]: label }
}

function entryPort({ name, number, protocol }: ModelPort): EntryPort {
  return { name: name === '' ? `${protocol}-${number}` : name, number, protocol: protocol.toUpperCase() }
}

/**
 * `global-gwinternal-productpage-bookinfo-svc-cluster-local`, as the reference product names them. Two hosts that read the same
 * with dashes (`a-b.c`, `a.b-c`) get the hash of the host behind.
 */
export function entryNames(hosts: readonly string[]): ReadonlyMap<string, string> {
  const dashed = (host: string): string => `global-gwinternal-${host.replaceAll('.', '-')}`
  const groups = Map.groupBy(new Set(hosts), dashed)
  return new Map(
    [...groups].flatMap(([name, members]) =>
      members.map(
        (host) => [host, members.length === 1 ? name : `${name}-${contentHash(host).slice(0, 8)}`] as const,
      ),
    ),
  )
}
