import type { AdminReply, AdminRoute } from '../admin/http.ts'
import { Metrics } from '../admin/metrics.ts'
import { topologyOf } from '../discovery/topology.ts'
import type { Logger } from '../lib/log.ts'
import { explainClient, explainServing, servingTarget } from '../model/explain.ts'
import { exportsFor } from '../model/export-of.ts'
import type { Model } from '../model/types.ts'
import type { DiscoveryProcess } from './discovery-process.ts'
import { peerMetrics } from './peer-metrics.ts'

const LEVELS = new Set(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
const NOT_READY: AdminReply = { status: 503, body: 'the model is not computed yet: see /status\n' }

/** The admin port of discovery. */
export function discoveryRoutes(process: DiscoveryProcess, logger: Logger): Record<string, AdminRoute> {
  const withModel =
    (answer: (model: Model, query: URLSearchParams) => AdminReply): AdminRoute =>
    async (query) => {
      const { model } = process.discovery
      return model === undefined ? NOT_READY : answer(model, query)
    }
  return {
    '/status': async () => ({ body: process.status() }),
    '/explain': withModel(explain),
    '/topology': withModel((model) => ({ body: topologyOf(model) })),
    '/exports': withModel((model) => ({ body: exportsOf(model) })),
    '/clients': async () => ({ body: process.discovery.clients() }),
    '/config_dump': async () => ({ body: dump(process) }),
    '/logging': async (query, method) => logging(logger, query.get('level'), method),
  }
}

/** `from` given: this cluster's half as the serving one; else as the calling one, towards cluster `to`. */
function explain(model: Model, query: URLSearchParams): AdminReply {
  const host = query.get('host') ?? ''
  const port = Number(query.get('port') ?? '')
  if (host === '' || !Number.isInteger(port) || port < 1 || port > 65_535) {
    return { status: 400, body: 'expected ?host=NAME&port=NUMBER, and from=CLUSTER or to=CLUSTER\n' }
  }
  const from = query.get('from')
  if (from === null)
    return {
      body: { cluster: model.self.id, hops: explainClient(model, host, port, query.get('to') ?? undefined) },
    }
  const target = servingTarget(model, host, port, from)
  const gateway =
    target === undefined ? null : { addresses: target.gateway.addresses, spiffeIds: target.spiffeIds }
  return {
    body: {
      cluster: model.self.id,
      hops: explainServing(model, from, host, port),
      gateway,
      sni: target?.sni ?? null,
    },
  }
}

function exportsOf(model: Model): unknown {
  return model.peers.map(({ cluster }) => {
    const info = model.clusters.get(cluster)
    if (info === undefined)
      return { peer: cluster, allowed: false, reason: 'not known', hosts: [], withheld: [] }
    const { allowed, services, withheld } = exportsFor(model, info)
    return {
      peer: cluster,
      ...allowed,
      hosts: services.map(({ service }) => service.host),
      withheld: withheld.map(({ exposure, reason }) => ({ host: exposure.service.host, reason })),
    }
  })
}

/** Per view: type → name → version. Bodies are for the clients' own config_dump. */
function dump(process: DiscoveryProcess): unknown {
  return [...process.discovery.dump()].map(([view, snapshot]) => ({
    view: JSON.parse(view) as unknown,
    resources: Object.fromEntries(
      [...snapshot].map(([typeUrl, resources]) => [
        typeUrl,
        Object.fromEntries([...resources].map(([name, { version }]) => [name, version])),
      ]),
    ),
  }))
}

/** `GET /logging` tells the level, `POST /logging?level=debug` changes it. */
function logging(logger: Logger, level: string | null, method: string): AdminReply {
  if (level === null) return { body: { level: logger.level } }
  if (method !== 'POST') return { status: 405, body: 'changing the level needs POST\n' }
  if (!LEVELS.has(level))
    return { status: 400, body: `level "${level}": expected ${[...LEVELS].join(', ')}\n` }
  logger.level = level
  return { body: { level } }
}

export function discoveryMetrics(process: DiscoveryProcess): Metrics {
  const { discovery } = process
  const metrics = new Metrics()
  metrics.gauge({
    name: 'isthmus_discovery_streams',
    help: 'Open xDS streams.',
    collect: () => [{ value: discovery.clients().length }],
  })
  metrics.gauge({
    name: 'isthmus_discovery_views',
    help: 'Views that some client watches.',
    collect: () => [{ value: discovery.counters.views }],
  })
  metrics.counter({
    name: 'isthmus_discovery_models_total',
    help: 'How often the model was computed.',
    collect: () => [{ value: discovery.counters.models }],
  })
  metrics.counter({
    name: 'isthmus_discovery_refused_total',
    help: 'xDS streams and messages that were refused, by reason.',
    labels: ['reason'],
    collect: () => [...discovery.counters.refusals].map(([reason, value]) => ({ value, labels: { reason } })),
  })
  metrics.counter({
    name: 'isthmus_discovery_svids_minted_total',
    help: 'Certificates signed for clients.',
    collect: () => [{ value: discovery.counters.minted }],
  })
  metrics.counter({
    name: 'isthmus_discovery_svids_failed_total',
    help: 'Certificates that could not be signed for clients.',
    collect: () => [{ value: discovery.counters.mintsFailed }],
  })
  metrics.gauge({
    name: 'isthmus_discovery_problems',
    help: 'Objects, files and peers that something is wrong with; /status names them.',
    collect: () => [{ value: process.problems().length }],
  })
  peerMetrics(metrics, discovery)
  return metrics
}
