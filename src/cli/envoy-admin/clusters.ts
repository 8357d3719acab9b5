// `/clusters` as Envoy has it: `name::ip:port::stat::value` for people, envoy.admin.v3.Clusters for programs.
import type { AdminReply } from '../../admin/http.ts'
import type { WorkerStatus } from '../../proxy/process/worker.ts'
import type { EndpointStatus, UpstreamStatus } from '../../proxy/upstream-status.ts'
import { socketAddress } from './listeners.ts'

type Json = Readonly<Record<string, unknown>>

/**
 * The upstreams as all workers see them together: configuration and health of the first, connections of all. `fixed` are those that
 * do not come from discovery.
 */
export function clusters(
  workers: readonly WorkerStatus[],
  fixed: ReadonlyMap<string, unknown> | undefined,
  format: string | null,
): AdminReply {
  const viaApi = (name: string) => fixed?.has(name) !== true
  const upstreams = merged(workers)
  if (format === 'json')
    return { body: { cluster_statuses: upstreams.map((one) => clusterStatus(one, viaApi(one.name))) } }
  return { body: upstreams.flatMap((one) => clusterLines(one, viaApi(one.name))).join('') }
}

function merged(workers: readonly WorkerStatus[]): UpstreamStatus[] {
  const [first, ...others] = workers.map(({ engine }) => engine.upstreams)
  const byAddress = others.map((upstreams) => {
    const endpoints = upstreams.flatMap(({ name, endpoints: all }) =>
      all.map((endpoint): [string, EndpointStatus] => [`${name} ${endpoint.address}`, endpoint]),
    )
    return new Map(endpoints)
  })
  return (first ?? []).map((upstream) => ({
    ...upstream,
    endpoints: upstream.endpoints.map((endpoint) => {
      const same = byAddress.flatMap((map) => map.get(`${upstream.name} ${endpoint.address}`) ?? [])
      const sum = (pick: (status: EndpointStatus) => number): number =>
        same.reduce((total, status) => total + pick(status), pick(endpoint))
      return {
        ...endpoint,
        active: sum(({ active }) => active),
        cxTotal: sum(({ cxTotal }) => cxTotal),
        cxConnectFail: sum(({ cxConnectFail }) => cxConnectFail),
      }
    }),
  }))
}

function clusterLines(
  { name, endpoints, circuitBreakers: { limits } }: UpstreamStatus,
  viaApi: boolean,
): string[] {
  const line = (...parts: readonly (string | number)[]) => `${[name, ...parts].join('::')}\n`
  return [
    line('observability_name', name),
    ...(['max_connections', 'max_pending_requests', 'max_retries'] as const).map((limit) =>
      line('default_priority', limit, limits[limit] ?? UNLIMITED),
    ),
    line('added_via_api', String(viaApi)),
    ...endpoints.flatMap((endpoint) => {
      const { address, active, weight, priority, region, zone, subZone } = endpoint
      const rows: [string, string | number][] = [
        ['cx_active', active],
        ['cx_connect_fail', endpoint.cxConnectFail],
        ['cx_total', endpoint.cxTotal],
        ['rq_active', active],
        ['hostname', endpoint.hostname],
        ['health_flags', healthFlags(endpoint)],
        ['weight', weight],
        ['region', region],
        ['zone', zone],
        ['sub_zone', subZone],
        ['canary', 'false'],
        ['priority', priority],
        ['success_rate', -1],
        ['local_origin_success_rate', endpoint.successRate],
      ]
      return rows.map(([stat, value]) => line(address, stat, value))
    }),
  ]
}

function clusterStatus({ name, endpoints }: UpstreamStatus, viaApi: boolean): Json {
  return {
    name,
    ...(viaApi && { added_via_api: true }),
    host_statuses: endpoints.map((endpoint) => ({
      address: socketAddress(endpoint.address),
      stats: [
        { type: 'COUNTER', name: 'cx_connect_fail', value: String(endpoint.cxConnectFail) },
        { type: 'COUNTER', name: 'cx_total', value: String(endpoint.cxTotal) },
        { type: 'GAUGE', name: 'cx_active', value: String(endpoint.active) },
        { type: 'GAUGE', name: 'rq_active', value: String(endpoint.active) },
      ],
      health_status: healthStatus(endpoint),
      weight: endpoint.weight,
      ...filled({ priority: endpoint.priority, hostname: endpoint.hostname }),
      locality: filled({ region: endpoint.region, zone: endpoint.zone, sub_zone: endpoint.subZone }),
    })),
    observability_name: name,
  }
}

/** Without what is 0 or empty: protobuf's JSON leaves that out. */
function filled(fields: Json): Json {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== 0 && value !== ''))
}

/** What Envoy shows for no limit at all. */
const UNLIMITED = 4_294_967_295

/** `envoy.admin.v3.HostHealthStatus`. */
function healthStatus({ healthFlags: flags, edsHealth }: EndpointStatus): Json {
  const names = {
    failed_active_hc: 'failed_active_health_check',
    failed_outlier_check: 'failed_outlier_check',
    degraded_active_hc: 'failed_active_degraded_check',
    pending_dynamic_removal: 'pending_dynamic_removal',
    pending_active_hc: 'pending_active_hc',
    active_hc_timeout: 'active_hc_timeout',
  } as const
  const set = Object.entries(names).flatMap(([flag, name]) =>
    flags.some((each) => each === flag) ? [[name, true]] : [],
  )
  // UNKNOWN in EDS counts as healthy, and Envoy shows it so.
  return { ...Object.fromEntries(set), eds_health_status: edsHealth === 'UNKNOWN' ? 'HEALTHY' : edsHealth }
}

function healthFlags({ healthFlags: flags }: EndpointStatus): string {
  return flags.length === 0 ? 'healthy' : flags.map((flag) => `/${flag}`).join('')
}
