import { Metrics, type Sample } from '../admin/metrics.ts'
import type { SupervisorView } from '../proxy/process/supervisor-view.ts'
import type { WorkerStats } from '../proxy/process/worker-stats.ts'
import { certificatesInForce } from './certificates-in-force.ts'
import { addTraffic, summed, type Workers } from './traffic-metrics.ts'

/** The metrics of a gateway or sidecar. Their names are part of what the product promises. */
export function proxyMetrics(supervisor: SupervisorView): Metrics {
  let answered: readonly WorkerStats[] = []
  const metrics = new Metrics({
    refresh: async () => {
      answered = await supervisor.stats()
    },
  })
  const workers = () => answered
  addTraffic(metrics, workers)
  addWorkers(metrics, () => answered.filter(({ departed }) => departed !== true))
  addLogging(metrics, workers)
  addSpans(metrics, workers)
  addControl(metrics, supervisor)
  addCertificates(metrics, supervisor)
  addRevocation(metrics, supervisor)
  return metrics
}

function addWorkers(metrics: Metrics, workers: Workers): void {
  metrics.gauge({
    name: 'isthmus_worker_up',
    help: 'How many workers answer.',
    collect: () => [{ value: workers().length }],
  })
  metrics.counter({
    name: 'isthmus_worker_starts_total',
    help: 'How many workers there have been, by slot.',
    labels: ['slot'],
    // By slot, older ones of a slot first.
    collect: () =>
      [...Map.groupBy(workers(), ({ slot }) => slot)].map(([slot, all]) => ({
        labels: { slot: String(slot) },
        value: all.at(-1)?.generation ?? 0,
      })),
  })
  metrics.gauge({
    name: 'isthmus_draining',
    help: 'How many workers drain.',
    collect: () => [{ value: workers().filter(({ draining }) => draining).length }],
  })
  metrics.gauge({
    name: 'isthmus_worker_loop_delay_seconds',
    help: 'How late the event loop of the slowest worker was since the last scrape.',
    labels: ['quantile'],
    collect: () => {
      const worst = (pick: (delay: WorkerStats['loopDelay']) => number) =>
        Math.max(0, ...workers().map(({ loopDelay }) => pick(loopDelay))) / 1_000
      return [
        { labels: { quantile: '0.5' }, value: worst(({ p50Ms }) => p50Ms) },
        { labels: { quantile: '0.99' }, value: worst(({ p99Ms }) => p99Ms) },
        { labels: { quantile: '1' }, value: worst(({ maxMs }) => maxMs) },
      ]
    },
  })
}

function addLogging(metrics: Metrics, workers: Workers): void {
  metrics.counter({
    name: 'isthmus_log_lines_dropped_total',
    help: 'Log lines that nobody read in time.',
    collect: () => summed(workers(), ({ logLinesDropped }) => [{ value: logLinesDropped }]),
  })
}

/** Nothing where no spans are made. */
function addSpans(metrics: Metrics, workers: Workers): void {
  metrics.counter({
    name: 'isthmus_spans_total',
    help: 'Spans of connections: sent to the collector, or dropped because it did not take them in time.',
    labels: ['outcome'],
    collect: () =>
      summed(workers(), ({ spans }) =>
        Object.entries(spans ?? {}).map(([outcome, value]) => ({ labels: { outcome }, value })),
      ),
  })
}

function addControl(metrics: Metrics, supervisor: SupervisorView): void {
  metrics.gauge({
    name: 'isthmus_xds_connected',
    help: 'Whether the stream to discovery is up.',
    collect: () => [{ value: supervisor.status().discovery.phase === 'connected' ? 1 : 0 }],
  })
  metrics.gauge({
    name: 'isthmus_xds_last_update_timestamp_seconds',
    help: 'When discovery last sent something; 0 = never.',
    collect: () => [{ value: secondsOf(supervisor.status().discovery.lastUpdate) }],
  })
  metrics.counter({
    name: 'isthmus_xds_nacks_total',
    help: 'Updates of discovery of which a part was refused, by type.',
    labels: ['type'],
    collect: () =>
      Object.entries(supervisor.status().nacksByType).map(([type, value]) => ({ labels: { type }, value })),
  })
  metrics.gauge({
    name: 'isthmus_xds_refused_resources',
    help: 'Resources whose last version is refused now.',
    collect: () => [{ value: supervisor.status().refused.length }],
  })
  metrics.gauge({
    name: 'isthmus_xds_resources',
    help: 'Resources that are held, by type.',
    labels: ['type'],
    collect: () =>
      Object.entries(supervisor.status().resources).map(([type, value]) => ({ labels: { type }, value })),
  })
  metrics.gauge({
    name: 'isthmus_snapshot_saved_timestamp_seconds',
    help: 'When the last good configuration on disk was written or confirmed; 0 = never.',
    collect: () => [{ value: secondsOf(supervisor.status().snapshotSaved) }],
  })
}

function addCertificates(metrics: Metrics, supervisor: SupervisorView): void {
  metrics.gauge({
    name: 'isthmus_certificate_expiry_seconds',
    help: 'Seconds until our certificate ends; negative = it has.',
    collect: () => {
      const identity = supervisor.identity()
      return identity === undefined ? [] : [{ value: (identity.credential.notAfterMs - Date.now()) / 1_000 }]
    },
  })
  metrics.gauge({
    name: 'isthmus_certificate_not_after_timestamp_seconds',
    help: 'When the first certificate ends: of our leaf, of the chain above it, of the CAs of each trust domain.',
    labels: ['use', 'secret', 'trust_domain'],
    collect: () =>
      certificatesInForce(supervisor.resources()).flatMap(({ use, secret, trustDomain, certificates }) => {
        const ends = certificates.map(({ validToDate }) => validToDate.getTime() / 1_000)
        const sample = (what: string, times: readonly number[]): Sample[] =>
          times.length === 0
            ? []
            : [{ labels: { use: what, secret, trust_domain: trustDomain }, value: Math.min(...times) }]
        if (use === 'trust') return sample('trust', ends)
        return [...sample('leaf', ends.slice(0, 1)), ...sample('intermediate', ends.slice(1))]
      }),
  })
}

/** By CA: a few, and they come from our own configuration. */
function addRevocation(metrics: Metrics, supervisor: SupervisorView): void {
  const crls = () => {
    const all = certificatesInForce(supervisor.resources()).flatMap((one) => one.crls)
    return [...new Map(all.map((crl) => [`${crl.trustDomain} ${crl.issuer}`, crl])).values()]
  }
  metrics.gauge({
    name: 'isthmus_crl_expiry_seconds',
    help: 'Seconds until the CRL of a CA ends; negative = it has.',
    labels: ['trust_domain', 'issuer'],
    collect: () =>
      crls().map(({ trustDomain, issuer, nextUpdate }) => ({
        labels: { trust_domain: trustDomain, issuer },
        value: (Date.parse(nextUpdate) - Date.now()) / 1_000,
      })),
  })
  metrics.gauge({
    name: 'isthmus_crl_revoked_certificates',
    help: 'How many certificates the CRL of a CA revokes.',
    labels: ['trust_domain', 'issuer'],
    collect: () =>
      crls().map(({ trustDomain, issuer, revoked }) => ({
        labels: { trust_domain: trustDomain, issuer },
        value: revoked,
      })),
  })
}

function secondsOf(time: string): number {
  return time === '' ? 0 : Date.parse(time) / 1_000
}
