import { Metrics, type Sample } from '../admin/metrics.ts'
import type { Supervisor } from '../proxy/process/supervisor.ts'
import type { WorkerStatus } from '../proxy/process/worker.ts'

/** The metrics of a gateway or sidecar. Their names are part of what the product promises. */
export function proxyMetrics(supervisor: Supervisor): Metrics {
  let worker: WorkerStatus | undefined
  const metrics = new Metrics({
    refresh: async () => {
      const asked = await supervisor.worker()
      worker = asked.ok ? asked.value : undefined
    },
  })
  const ofWorker = (samples: (status: WorkerStatus) => readonly Sample[]) => () =>
    worker === undefined ? [] : samples(worker)
  addTraffic(metrics, ofWorker)
  addRevocation(metrics, ofWorker)
  addControl(metrics, supervisor)
  metrics.gauge({
    name: 'isthmus_worker_up',
    help: 'Whether the worker answers.',
    collect: () => [{ value: worker === undefined ? 0 : 1 }],
  })
  metrics.counter({
    name: 'isthmus_worker_starts_total',
    help: 'How many workers there have been.',
    collect: ofWorker(({ generation }) => [{ value: generation }]),
  })
  return metrics
}

type OfWorker = (samples: (status: WorkerStatus) => readonly Sample[]) => () => readonly Sample[]

function addTraffic(metrics: Metrics, ofWorker: OfWorker): void {
  metrics.counter({
    name: 'isthmus_connections_total',
    help: 'Ended connections by the flag of the access log; "-" ended well.',
    labels: ['flag'],
    collect: ofWorker(({ engine }) =>
      Object.entries(engine.counters.byFlag).map(([flag, value]) => ({ labels: { flag }, value })),
    ),
  })
  metrics.counter({
    name: 'isthmus_connections_accepted_total',
    help: 'Accepted connections.',
    collect: ofWorker(({ engine }) => [{ value: engine.counters.accepted }]),
  })
  metrics.gauge({
    name: 'isthmus_connections',
    help: 'Connections now, by phase.',
    labels: ['phase'],
    collect: ofWorker(({ engine }) => [
      { labels: { phase: 'open' }, value: engine.connections.open },
      { labels: { phase: 'opening' }, value: engine.connections.opening },
    ]),
  })
  metrics.counter({
    name: 'isthmus_bytes_total',
    help: 'Payload bytes of ended connections; "in" is from downstream to upstream.',
    labels: ['direction'],
    collect: ofWorker(({ engine }) => [
      { labels: { direction: 'in' }, value: engine.counters.bytesIn },
      { labels: { direction: 'out' }, value: engine.counters.bytesOut },
    ]),
  })
  metrics.gauge({
    name: 'isthmus_upstream_endpoints',
    help: 'Endpoints of each upstream.',
    labels: ['upstream', 'healthy'],
    collect: ofWorker(({ engine }) =>
      engine.upstreams.flatMap(({ name, endpoints }) => {
        const healthy = endpoints.filter((endpoint) => endpoint.healthy).length
        return [
          { labels: { upstream: name, healthy: 'true' }, value: healthy },
          { labels: { upstream: name, healthy: 'false' }, value: endpoints.length - healthy },
        ]
      }),
    ),
  })
  metrics.gauge({
    name: 'isthmus_listeners',
    help: 'Listeners by phase.',
    labels: ['phase'],
    collect: ofWorker(({ engine }) => {
      const phases = Map.groupBy(engine.listeners, ({ phase }) => phase)
      return [...phases].map(([phase, { length }]) => ({ labels: { phase }, value: length }))
    }),
  })
}

/** By CA: a few, and they come from our own configuration. */
function addRevocation(metrics: Metrics, ofWorker: OfWorker): void {
  const crls = (status: WorkerStatus) => {
    const all = status.engine.secrets.flatMap((secret) => secret.crls)
    return [...new Map(all.map((crl) => [`${crl.trustDomain} ${crl.issuer}`, crl])).values()]
  }
  metrics.gauge({
    name: 'isthmus_crl_expiry_seconds',
    help: 'Seconds until the CRL of a CA ends; negative = it has.',
    labels: ['trust_domain', 'issuer'],
    collect: ofWorker((status) =>
      crls(status).map(({ trustDomain, issuer, nextUpdate }) => ({
        labels: { trust_domain: trustDomain, issuer },
        value: (Date.parse(nextUpdate) - Date.now()) / 1_000,
      })),
    ),
  })
  metrics.gauge({
    name: 'isthmus_crl_revoked_certificates',
    help: 'How many certificates the CRL of a CA revokes.',
    labels: ['trust_domain', 'issuer'],
    collect: ofWorker((status) =>
      crls(status).map(({ trustDomain, issuer, revoked }) => ({
        labels: { trust_domain: trustDomain, issuer },
        value: revoked,
      })),
    ),
  })
}

function addControl(metrics: Metrics, supervisor: Supervisor): void {
  metrics.gauge({
    name: 'isthmus_xds_connected',
    help: 'Whether the stream to discovery is up.',
    collect: () => [{ value: supervisor.status().discovery.phase === 'connected' ? 1 : 0 }],
  })
  metrics.gauge({
    name: 'isthmus_xds_last_update_timestamp_seconds',
    help: 'When discovery last sent something; 0 = never.',
    collect: () => [{ value: Date.parse(supervisor.status().discovery.lastUpdate || '1970-01-01') / 1_000 }],
  })
  metrics.counter({
    name: 'isthmus_xds_nacks_total',
    help: 'Updates of discovery of which a part was refused.',
    collect: () => [{ value: supervisor.status().nacks }],
  })
  metrics.gauge({
    name: 'isthmus_certificate_expiry_seconds',
    help: 'Seconds until our certificate ends; negative = it has.',
    collect: () => {
      const identity = supervisor.identity()
      return identity === undefined ? [] : [{ value: (identity.credential.notAfterMs - Date.now()) / 1_000 }]
    },
  })
}
