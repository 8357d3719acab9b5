import type { Condition, Kind, KubeObject, ObjectOf } from '../objects/types.ts'

/** What is to be known of an object from the others. */
export interface World {
  /** A gateway's address stands in its Service. */
  gatewayAddress(gateway: KubeObject): string
}

/** What `isthmus get` shows of a kind, besides NAMESPACE and NAME. */
type Columns<O> = readonly (readonly [title: string, cell: (object: O, world: World) => string])[]

const COLUMNS: { readonly [K in Kind]: Columns<ObjectOf[K]> } = {
  Namespace: [['LABELS', ({ metadata }) => pairs(metadata.labels)]],
  Service: [
    ['TYPE', ({ spec }) => spec.type],
    ['CLUSTER-IP', ({ spec }) => spec.clusterIP],
    ['EXTERNAL', ({ spec, loadBalancer }) => list([...loadBalancer.map(addressOf), ...spec.externalIPs])],
    [
      'PORTS',
      ({ spec }) =>
        list(
          spec.ports.map(({ port, targetPort }) =>
            port === targetPort ? `${port}` : `${port}→${targetPort}`,
          ),
        ),
    ],
  ],
  EndpointSlice: [
    ['SERVICE', ({ spec }) => spec.serviceName],
    ['PORTS', ({ spec }) => list(spec.ports.map(({ port }) => `${port}`))],
    ['READY', ({ spec }) => `${spec.endpoints.filter(({ ready }) => ready).length}/${spec.endpoints.length}`],
    ['ENDPOINTS', ({ spec }) => list(spec.endpoints.flatMap(({ addresses }) => addresses))],
  ],
  Pod: [
    ['READY', ({ ready }) => (ready ? 'yes' : 'no')],
    ['IP', ({ podIPs }) => list(podIPs)],
    ['NODE', ({ spec }) => spec.nodeName],
    ['SERVICE-ACCOUNT', ({ spec }) => spec.serviceAccountName],
  ],
  Deployment: [
    ['REPLICAS', ({ spec }) => `${spec.replicas}`],
    ['SELECTOR', ({ spec }) => pairs(spec.selector.labels)],
  ],
  Secret: [
    ['TYPE', ({ spec }) => spec.type],
    ['KEYS', ({ spec }) => list(Object.keys(spec.data))],
  ],
  Workspace: [
    ['TENANT', ({ metadata }) => `${metadata.organization}/${metadata.tenant}`],
    [
      'NAMESPACES',
      ({ spec }) => list(spec.namespaces.map(({ cluster, namespace }) => `${cluster}/${namespace}`)),
    ],
    ['CONDITIONS', conditions],
  ],
  WorkspaceSetting: [
    ['WORKSPACE', ({ metadata }) => metadata.workspace],
    [
      'GATEWAYS',
      ({ spec }) =>
        list(
          spec.defaultEastWestGatewaySettings.map(
            ({ workloadSelector: { namespace, labels } }) => `${namespace}/${pairs(labels)}`,
          ),
        ),
    ],
    ['EXPOSED', ({ spec }) => list(spec.defaultEastWestGatewaySettings.map(exposed))],
    ['CONDITIONS', conditions],
  ],
  OrganizationSetting: [
    ['ORGANIZATION', ({ metadata }) => metadata.organization],
    ['REACHABILITY', ({ spec }) => reachability(spec.networkReachability)],
    ['CONDITIONS', conditions],
  ],
  Cluster: [
    ['ORGANIZATION', ({ metadata }) => metadata.organization],
    ['NETWORK', ({ spec }) => spec.network],
    ['TRUST-DOMAIN', ({ spec }) => spec.trustDomain],
    ['REGION', ({ spec }) => spec.locality.region],
  ],
  IngressGateway: [
    ['ADDRESS', (gateway, world) => world.gatewayAddress(gateway)],
    ['CONDITIONS', conditions],
  ],
  Gateway: [
    ['ADDRESS', (gateway, world) => world.gatewayAddress(gateway)],
    ['CONDITIONS', conditions],
  ],
  ServiceEntry: [
    ['HOSTS', ({ spec }) => list(spec.hosts)],
    ['PORTS', ({ spec }) => list(spec.ports.map(({ number }) => `${number}`))],
    ['LOCATION', ({ spec }) => spec.location],
    ['RESOLUTION', ({ spec }) => spec.resolution],
    ['ENDPOINTS', ({ spec }) => list(spec.endpoints.map(endpoint))],
  ],
  DestinationRule: [
    ['HOST', ({ spec }) => spec.host],
    ['SUBSETS', ({ spec }) => spec.subsets.map(({ name }) => name).join(',')],
  ],
  AuthorizationPolicy: [
    ['ACTION', ({ spec }) => spec.action],
    ['SELECTOR', ({ spec }) => (spec.selector === undefined ? '' : pairs(spec.selector))],
    ['RULES', ({ spec }) => `${spec.rules.length}`],
    ['CONDITIONS', conditions],
  ],
}

/** Titles and rows. */
export function tableOf(kind: Kind, objects: readonly KubeObject[], world: World): string[][] {
  // The table of a kind is for objects of the kind.
  const columns = COLUMNS[kind] as Columns<KubeObject>
  const namespaced = objects.some(({ metadata }) => metadata.namespace !== '')
  const titles = [...(namespaced ? ['NAMESPACE'] : []), 'NAME', ...columns.map(([title]) => title)]
  const rows = objects.map((object) => [
    ...(namespaced ? [object.metadata.namespace] : []),
    object.metadata.name,
    ...columns.map(([, cell]) => cell(object, world)),
  ])
  return [titles, ...rows.map((row) => row.map((cell) => (cell === '' ? '<none>' : cell)))]
}

/** Columns as wide as their widest cell, three spaces between them. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_title, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('   ')
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('')
}

const list = (items: readonly string[]): string => items.join(',')
const pairs = (labels: Readonly<Record<string, string>>): string =>
  list(Object.entries(labels).map(([key, value]) => `${key}=${value}`))

/** `Accepted=True`, and the reason where it is not true. */
function conditions({ conditions }: { readonly conditions: readonly Condition[] }): string {
  return list(
    conditions.map(({ type, status, reason }) =>
      status === 'True' || reason === '' ? `${type}=${status}` : `${type}=${status}(${reason})`,
    ),
  )
}

function exposed({
  exposedServices,
}: ObjectOf['WorkspaceSetting']['spec']['defaultEastWestGatewaySettings'][number]): string {
  if (exposedServices.length === 0) return 'all'
  return exposedServices.map(({ serviceLabels }) => pairs(serviceLabels)).join('|')
}

function reachability(networks: ReadonlyMap<string, readonly string[]> | undefined): string {
  return list([...(networks ?? [])].map(([from, to]) => `${from}→${to.join('+')}`))
}

function endpoint({ address, ports }: ObjectOf['ServiceEntry']['spec']['endpoints'][number]): string {
  const numbers = [...new Set(Object.values(ports))]
  return numbers.length === 1 ? `${address}:${numbers[0]}` : address
}

export function addressOf({ ip, hostname }: { readonly ip?: string; readonly hostname?: string }): string {
  return ip ?? hostname ?? ''
}
