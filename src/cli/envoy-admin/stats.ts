// `/stats` as Envoy has it: the names of Envoy for what exists here too. Ours are at the metrics port.
import type { AdminReply } from '../../admin/http.ts'
import type { SupervisorView } from '../../proxy/process/supervisor-view.ts'
import type { WorkerStatus } from '../../proxy/process/worker.ts'
import type { WorkerStats } from '../../proxy/process/worker-stats.ts'
import type { ListenerCounters } from '../../proxy/traffic-stats.ts'
import type { UpstreamStatus } from '../../proxy/upstream-status.ts'

/** One statistic: Envoy's name with the part that Prometheus wants as a label cut out. */
interface Stat {
  /** `cluster`, `listener`, `server`, … */
  readonly scope: string
  /** Whose; empty where there is only one. */
  readonly of: string
  /** `upstream_cx_active`. */
  readonly name: string
  readonly kind: 'counter' | 'gauge'
  readonly value: number
}

/** Labels of Envoy's tag extractors. */
const LABEL: Readonly<Record<string, string>> = {
  cluster: 'envoy_cluster_name',
  listener: 'envoy_listener_address',
}

/** `?filter=` is a regular expression over names, `?format=json` another form; Prometheus at `/stats/prometheus`. */
export async function stats(
  supervisor: SupervisorView,
  query: URLSearchParams,
  format: string | null,
): Promise<AdminReply> {
  const filter = readFilter(query.get('filter'))
  if (filter === undefined) return { status: 400, body: 'filter: not a regular expression\n' }
  const [workers, statuses] = await Promise.all([supervisor.stats(), supervisor.workers()])
  const addresses = new Map(statuses[0]?.engine.listeners.map(({ name, address }) => [name, address]))
  const all = collect(supervisor, workers, statuses, addresses)
    .filter((stat) => filter.test(nameOf(stat)) && (!query.has('usedonly') || stat.value !== 0))
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  if (format === 'prometheus') return { body: prometheus(all), type: 'text/plain; version=0.0.4' }
  if (format === 'json')
    return { body: { stats: all.map((stat) => ({ name: nameOf(stat), value: stat.value })) } }
  if (format !== null && format !== 'text')
    return { status: 400, body: 'format: there is text, json and prometheus\n' }
  return { body: all.map((stat) => `${nameOf(stat)}: ${stat.value}\n`).join('') }
}

function nameOf({ scope, of, name }: Stat): string {
  return [scope, of, name].filter((part) => part !== '').join('.')
}

function collect(
  supervisor: SupervisorView,
  workers: readonly WorkerStats[],
  statuses: readonly WorkerStatus[],
  addresses: ReadonlyMap<string, string>,
): Stat[] {
  const found = new Map<string, Stat>()
  const add = (scope: string, of: string, name: string, kind: Stat['kind'], value: number) => {
    const key = `${scope} ${of} ${name}`
    found.set(key, { scope, of, name, kind, value: value + (found.get(key)?.value ?? 0) })
  }
  for (const { upstreams, listenerCounters } of workers) {
    for (const { name, active } of upstreams) add('cluster', name, 'upstream_cx_active', 'gauge', active)
    for (const counters of listenerCounters) {
      // As Envoy names a listener: by its address, whose colons would be separators elsewhere.
      const of = (addresses.get(counters.listener) ?? counters.listener).replaceAll(':', '_')
      for (const [name, kind, value] of ofListener(counters)) add('listener', of, name, kind, value)
      add('rbac', '', 'allowed', 'counter', counters.rbacAllowed)
      add('rbac', '', 'denied', 'counter', counters.rbacDenied)
    }
  }
  for (const upstream of statuses.flatMap(({ engine }) => engine.upstreams))
    for (const [name, kind, value] of ofUpstream(upstream)) add('cluster', upstream.name, name, kind, value)
  for (const { shadowAllowed, shadowDenied } of workers) {
    add('rbac', '', 'shadow_allowed', 'counter', shadowAllowed)
    add('rbac', '', 'shadow_denied', 'counter', shadowDenied)
  }
  // What is gone has counted, and has no endpoints or listeners any more.
  const present = workers.filter(({ departed }) => departed !== true)
  const [first] = present
  for (const { name, healthy, unhealthy } of first?.upstreams ?? []) {
    add('cluster', name, 'membership_healthy', 'gauge', healthy)
    add('cluster', name, 'membership_total', 'gauge', healthy + unhealthy)
  }
  const { discovery, resources, nacksByType } = supervisor.status()
  add('cluster_manager', '', 'active_clusters', 'gauge', resources['Cluster'] ?? 0)
  add('cluster_manager', 'cds', 'update_rejected', 'counter', nacksByType['Cluster'] ?? 0)
  add('listener_manager', 'lds', 'update_rejected', 'counter', nacksByType['Listener'] ?? 0)
  const { listening = 0, waiting = 0 } = first?.listeners ?? {}
  add('listener_manager', '', 'total_listeners_active', 'gauge', listening)
  add('listener_manager', '', 'total_listeners_warming', 'gauge', waiting)
  add('control_plane', '', 'connected_state', 'gauge', discovery.phase === 'connected' ? 1 : 0)
  add('server', '', 'live', 'gauge', present.some(({ draining }) => !draining) ? 1 : 0)
  add('server', '', 'concurrency', 'gauge', present.length)
  add('server', '', 'uptime', 'gauge', Math.floor(process.uptime()))
  return [...found.values()]
}

function ofUpstream({
  counters,
  circuitBreakers,
  endpoints,
}: UpstreamStatus): [string, Stat['kind'], number][] {
  const { overflows } = circuitBreakers
  const ejected = endpoints.filter(({ healthFlags }) => healthFlags.includes('failed_outlier_check'))
  return [
    ['upstream_cx_total', 'counter', counters.cxTotal],
    ['upstream_cx_connect_fail', 'counter', counters.cxConnectFail],
    ['upstream_cx_connect_timeout', 'counter', counters.cxConnectTimeout],
    ['upstream_cx_overflow', 'counter', overflows.max_connections],
    ['upstream_rq_pending_overflow', 'counter', overflows.max_pending_requests],
    ['upstream_rq_retry_overflow', 'counter', overflows.max_retries],
    // An Envoy has it where outlier detection is configured, which cannot be told here.
    ...(ejected.length === 0
      ? []
      : ([['outlier_detection.ejections_active', 'gauge', ejected.length]] satisfies [
          string,
          Stat['kind'],
          number,
        ][])),
  ]
}

function ofListener(counters: ListenerCounters): [string, Stat['kind'], number][] {
  const { accepted, active, handshakes, handshakeFailures, certificatesRefused, noFilterChain } = counters
  return [
    ['downstream_cx_total', 'counter', accepted],
    ['downstream_cx_active', 'gauge', active],
    ['downstream_cx_destroy', 'counter', accepted - active],
    ['no_filter_chain_match', 'counter', noFilterChain],
    ['ssl.handshake', 'counter', handshakes],
    ['ssl.connection_error', 'counter', handshakeFailures],
    ['ssl.fail_verify_error', 'counter', certificatesRefused],
  ]
}

function prometheus(all: readonly Stat[]): string {
  const byMetric = Map.groupBy(all, ({ scope, name }) =>
    `envoy_${scope}_${name}`.replaceAll(/[^a-zA-Z0-9_]/g, '_'),
  )
  return [...byMetric]
    .map(([metric, stats]) => {
      const rows = stats.map(({ scope, of, value }) => {
        const label = of === '' ? '' : `${LABEL[scope] ?? 'of'}=${JSON.stringify(of)}`
        return `${metric}{${label}} ${value}\n`
      })
      return `# TYPE ${metric} ${stats[0]?.kind}\n${rows.join('')}`
    })
    .join('')
}

function readFilter(text: string | null): RegExp | undefined {
  try {
    return new RegExp(text ?? '')
  } catch {
    return undefined
  }
}
