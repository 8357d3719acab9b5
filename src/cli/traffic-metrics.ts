import type { HistogramSample, Metrics, Sample } from '../admin/metrics.ts'
import type { WorkerStats } from '../proxy/process/worker-stats.ts'
import type { Histogram, TrafficCounters } from '../proxy/traffic-stats.ts'

/** What the workers answered for this scrape; the last may stand for all that are gone. */
export type Workers = () => readonly WorkerStats[]

/** Connections and bytes, summed over the workers, those that are gone included. */
export function addTraffic(metrics: Metrics, workers: Workers): void {
  metrics.counter({
    name: 'isthmus_connections_total',
    help: 'Ended connections by service, trust domain of the verified caller, and flag of the access log; "-" ended well.',
    labels: ['service', 'peer_trust_domain', 'flag'],
    collect: () =>
      summed(workers(), ({ traffic }) =>
        traffic.flatMap((cell) =>
          Object.entries(cell.ended).map(([flag, value]) => ({ labels: { ...labelsOf(cell), flag }, value })),
        ),
      ),
  })
  metrics.counter({
    name: 'isthmus_bytes_total',
    help: 'Payload bytes, of open connections too; "in" is from downstream to upstream.',
    labels: ['service', 'peer_trust_domain', 'direction'],
    collect: () =>
      summed(workers(), ({ traffic }) =>
        traffic.flatMap((cell) => [
          { labels: { ...labelsOf(cell), direction: 'in' }, value: cell.bytesIn },
          { labels: { ...labelsOf(cell), direction: 'out' }, value: cell.bytesOut },
        ]),
      ),
  })
  metrics.gauge({
    name: 'isthmus_open_connections',
    help: 'Connections whose bytes flow now, by service and trust domain of the verified caller.',
    labels: ['service', 'peer_trust_domain'],
    collect: () =>
      summed(workers(), ({ traffic }) =>
        traffic.flatMap((cell) => (cell.open > 0 ? [{ labels: labelsOf(cell), value: cell.open }] : [])),
      ),
  })
  metrics.counter({
    name: 'isthmus_connections_accepted_total',
    help: 'Accepted connections.',
    collect: () => summed(workers(), ({ accepted }) => [{ value: accepted }]),
  })
  metrics.gauge({
    name: 'isthmus_connections',
    help: 'Connections now, by phase.',
    labels: ['phase'],
    collect: () =>
      summed(workers(), ({ open, opening }) => [
        { labels: { phase: 'open' }, value: open },
        { labels: { phase: 'opening' }, value: opening },
      ]),
  })
  metrics.counter({
    name: 'isthmus_rbac_shadow_total',
    help: 'What shadow rules would have done: allowed or denied.',
    labels: ['verdict'],
    collect: () =>
      summed(workers(), ({ shadowAllowed, shadowDenied }) => [
        { labels: { verdict: 'allowed' }, value: shadowAllowed },
        { labels: { verdict: 'denied' }, value: shadowDenied },
      ]),
  })
  addTimes(metrics, workers)
  addUpstreams(metrics, workers)
}

function addTimes(metrics: Metrics, workers: Workers): void {
  metrics.histogram({
    name: 'isthmus_handshake_seconds',
    help: 'From accept to the end of the TLS handshake.',
    collect: () => merged(workers().map(({ handshake }) => handshake)),
  })
  metrics.histogram({
    name: 'isthmus_upstream_connect_seconds',
    help: 'Connecting the upstream, its handshake and retries included.',
    collect: () => merged(workers().map(({ connect }) => connect)),
  })
  metrics.histogram({
    name: 'isthmus_connection_duration_seconds',
    help: 'From accept to the end, of ended connections.',
    collect: () => merged(workers().map(({ duration }) => duration)),
  })
}

function addUpstreams(metrics: Metrics, workers: Workers): void {
  metrics.gauge({
    name: 'isthmus_upstream_endpoints',
    help: 'Endpoints of each upstream, as the first worker sees them.',
    labels: ['upstream', 'healthy'],
    // Every worker has the same endpoints.
    collect: () =>
      (workers()[0]?.upstreams ?? []).flatMap(({ name, healthy, unhealthy }) => [
        { labels: { upstream: name, healthy: 'true' }, value: healthy },
        { labels: { upstream: name, healthy: 'false' }, value: unhealthy },
      ]),
  })
  metrics.gauge({
    name: 'isthmus_upstream_connections',
    help: 'Connections to each upstream, open and being opened.',
    labels: ['upstream'],
    collect: () =>
      summed(workers(), ({ upstreams }) =>
        upstreams.map(({ name, active }) => ({ labels: { upstream: name }, value: active })),
      ),
  })
  metrics.gauge({
    name: 'isthmus_listeners',
    help: 'Listeners by phase, as the first worker sees them.',
    labels: ['phase'],
    collect: () =>
      Object.entries(workers()[0]?.listeners ?? {}).map(([phase, value]) => ({ labels: { phase }, value })),
  })
}

function labelsOf({ service, peerTrustDomain }: TrafficCounters): Record<string, string> {
  return { service, peer_trust_domain: peerTrustDomain }
}

/** Adds up the samples of all workers that have the same labels. */
export function summed(
  workers: readonly WorkerStats[],
  samples: (stats: WorkerStats) => readonly Sample[],
): Sample[] {
  const sums = new Map<string, { value: number; labels: Readonly<Record<string, string>> }>()
  for (const stats of workers)
    for (const { labels = {}, value } of samples(stats)) {
      const key = JSON.stringify(labels)
      const sum = sums.get(key)
      if (sum === undefined) sums.set(key, { labels, value })
      else sum.value += value
    }
  return [...sums.values()]
}

function merged(all: readonly Histogram[]): HistogramSample[] {
  const [first] = all
  if (first === undefined) return []
  return [
    {
      bounds: first.boundsMs.map((ms) => ms / 1_000),
      counts: first.counts.map((_, index) => all.reduce((sum, { counts }) => sum + (counts[index] ?? 0), 0)),
      sum: all.reduce((sum, { sumMs }) => sum + sumMs, 0) / 1_000,
    },
  ]
}
