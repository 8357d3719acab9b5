// `/clusters` as Envoy has it: `name::ip:port::stat::value` for people, envoy.admin.v3.Clusters for programs.
import type { AdminReply } from '../../admin/http.ts'
import type { WorkerStatus } from '../../proxy/process/worker.ts'
import type { EndpointStatus, UpstreamStatus } from '../../proxy/upstream.ts'
import { socketAddress } from './listeners.ts'

type Json = Readonly<Record<string, unknown>>

/** The upstreams as all workers see them together: configuration and health of the first, connections of all. */
export function clusters(workers: readonly WorkerStatus[], format: string | null): AdminReply {
  const upstreams = merged(workers)
  if (format === 'json') return { body: { cluster_statuses: upstreams.map(clusterStatus) } }
  return { body: upstreams.flatMap(clusterLines).join('') }
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
      return { ...endpoint, active: same.reduce((sum, { active }) => sum + active, endpoint.active) }
    }),
  }))
}

function clusterLines({ name, endpoints }: UpstreamStatus): string[] {
  const line = (...parts: readonly (string | number)[]) => `${[name, ...parts].join('::')}\n`
  return [
    line('observability_name', name),
    line('added_via_api', 'true'),
    ...endpoints.flatMap((endpoint) => {
      const { address, active, weight, priority } = endpoint
      const { region, zone } = localityOf(endpoint)
      const rows: [string, string | number][] = [
        ['cx_active', active],
        ['rq_active', active],
        ['hostname', ''],
        ['health_flags', healthFlags(endpoint)],
        ['weight', weight],
        ['region', region],
        ['zone', zone],
        ['sub_zone', ''],
        ['canary', 'false'],
        ['priority', priority],
        ['success_rate', -1],
        ['local_origin_success_rate', -1],
      ]
      return rows.map(([stat, value]) => line(address, stat, value))
    }),
  ]
}

function clusterStatus({ name, endpoints }: UpstreamStatus): Json {
  return {
    name,
    added_via_api: true,
    host_statuses: endpoints.map((endpoint) => ({
      address: socketAddress(endpoint.address),
      stats: [
        { type: 'GAUGE', name: 'cx_active', value: String(endpoint.active) },
        { type: 'GAUGE', name: 'rq_active', value: String(endpoint.active) },
      ],
      health_status: {
        ...(endpoint.detail.includes('ejected') && { failed_outlier_check: true }),
        eds_health_status: endpoint.healthy || endpoint.detail.includes('ejected') ? 'HEALTHY' : 'UNHEALTHY',
      },
      weight: endpoint.weight,
      priority: endpoint.priority,
      locality: localityOf(endpoint),
    })),
    observability_name: name,
  }
}

function localityOf({ locality }: EndpointStatus): { region: string; zone: string } {
  const [region = '', zone = ''] = locality.split('/')
  return { region, zone }
}

function healthFlags({ healthy, detail }: EndpointStatus): string {
  if (healthy) return 'healthy'
  return detail.includes('ejected') ? '/failed_outlier_check' : '/failed_eds_health'
}
