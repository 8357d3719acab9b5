import type { AdminReply, AdminRoute } from '../admin/http.ts'
import { Metrics } from '../admin/metrics.ts'
import type { Discovery } from '../discovery/discovery.ts'
import { gatewayConfigHop, sidecarConfigHop } from '../discovery/explain-config.ts'
import { topologyOf } from '../discovery/topology.ts'
import type { Logger } from '../lib/log.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { explainClient, explainServing, servingTarget } from '../model/explain.ts'
import { exportsFor } from '../model/export-of.ts'
import type { Model } from '../model/types.ts'
import { kindByWord } from '../objects/kinds.ts'
import type { ObjectEdit } from '../objects/overlay.ts'
import type { ObjectRef } from '../objects/types.ts'
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
    '/explain': withModel((model, query) => explain(process.discovery, model, query)),
    '/topology': withModel((model) => ({ body: topologyOf(model) })),
    '/plan': (_query, method, body) => plan(process, method, body),
    '/exports': withModel((model) => ({ body: exportsOf(model) })),
    '/link': withModel((model) => ({
      body: {
        side: process.discovery.federation.linkSide(),
        gateways: model.gateways.flatMap(({ addresses }) =>
          addresses.map(({ address, port }) => `${address.includes(':') ? `[${address}]` : address}:${port}`),
        ),
      },
    })),
    '/clients': async () => ({ body: process.discovery.clients() }),
    '/config_dump': async () => ({ body: dump(process) }),
    '/logging': async (query, method) => logging(logger, query.get('level'), method),
  }
}

/** `from` given: this cluster's half as the serving one; else as the calling one, towards cluster `to`. */
function explain(discovery: Discovery, model: Model, query: URLSearchParams): AdminReply {
  const host = query.get('host') ?? ''
  const port = Number(query.get('port') ?? '')
  if (host === '' || !Number.isInteger(port) || port < 1 || port > 65_535) {
    return { status: 400, body: 'expected ?host=NAME&port=NUMBER, and from=CLUSTER or to=CLUSTER\n' }
  }
  const from = query.get('from')
  const cluster = model.self.id
  const { clients, peers } = discovery.connected()
  if (from === null) {
    const to = query.get('to') ?? undefined
    const told = peers.filter((peer) => to === undefined || peer.cluster === to)
    return {
      body: { cluster, hops: [...explainClient(model, host, port, to), sidecarConfigHop(clients, told)] },
    }
  }
  const target = servingTarget(model, host, port, from)
  const hops = explainServing(model, from, host, port)
  const gateway =
    target === undefined ? null : { addresses: target.gateway.addresses, spiffeIds: target.spiffeIds }
  return {
    body: {
      cluster,
      hops: target === undefined ? hops : [...hops, gatewayConfigHop(gatewayName(target.gateway), clients)],
      gateway,
      sni: target?.sni ?? null,
    },
  }
}

const gatewayName = ({ namespace, name }: { namespace: string; name: string }): string =>
  `${namespace}/${name}`

/** `POST {"apply": [documents], "delete": [refs]}`: what would be different, and nothing is. */
async function plan(
  process: DiscoveryProcess,
  method: string,
  body: () => Promise<string>,
): Promise<AdminReply> {
  if (method !== 'POST') return { status: 405, body: 'expected POST with {"apply": […], "delete": […]}\n' }
  const edit = readEdit(await body())
  if (!edit.ok) return { status: 400, body: `${edit.error}\n` }
  const planned = process.discovery.plan(edit.value)
  return planned === undefined ? NOT_READY : { body: planned }
}

function readEdit(text: string): Result<ObjectEdit, string> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return fail(`expected JSON: ${(error as Error).message}`)
  }
  const { apply = [], delete: gone = [] } = (value ?? {}) as { apply?: unknown; delete?: unknown }
  if (!Array.isArray(apply)) return fail('apply: expected an array of documents')
  if (!Array.isArray(gone) || !gone.every(isRef))
    return fail('delete: expected an array of {kind, namespace, organization, tenant, workspace, name}')
  return ok({ apply, delete: gone })
}

function isRef(value: unknown): value is ObjectRef {
  if (typeof value !== 'object' || value === null) return false
  const ref = value as Record<string, unknown>
  const fields = ['kind', 'namespace', 'organization', 'tenant', 'workspace', 'name']
  return (
    fields.every((field) => typeof ref[field] === 'string') &&
    kindByWord(String(ref['kind']))?.kind === ref['kind']
  )
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
    help: 'Handshakes, xDS streams and messages that were refused, by reason.',
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
