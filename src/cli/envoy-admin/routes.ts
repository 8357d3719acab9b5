import type { AdminReply, AdminRoute } from '../../admin/http.ts'
import { VERSION } from '../../lib/version.ts'
import type { SupervisorView } from '../../proxy/process/supervisor-view.ts'
import { TYPE } from '../../xds/types.ts'
import type { ProxyConfig } from '../proxy-options.ts'
import { certs } from './certs.ts'
import { clusters } from './clusters.ts'
import { configDump, nodeOf } from './config-dump.ts'
import { listeners } from './listeners.ts'
import { stats } from './stats.ts'

export interface EnvoyAdminOptions {
  readonly supervisor: SupervisorView
  readonly config: ProxyConfig
  /** What `/healthcheck/fail` said, for readiness. */
  readonly health: HealthOverride
  /** Ends the whole proxy in order. */
  readonly quit: () => void
}

/** Whether the operator has declared this proxy unfit, whatever it thinks of itself. */
export class HealthOverride {
  failed = false

  /** For the readiness list. */
  get pending(): readonly string[] {
    return this.failed ? ['the operator said so (POST /healthcheck/fail)'] : []
  }
}

/** Envoy's levels by their names there. */
const LEVELS: Readonly<Record<string, string>> = { warning: 'warn', critical: 'fatal', off: 'silent' }

/** What Envoy's admin port answers, so that who can read an Envoy can read this proxy. GET changes nothing. */
export function envoyAdminRoutes(options: EnvoyAdminOptions): Record<string, AdminRoute> {
  const { supervisor } = options
  return {
    '/clusters': async (query) =>
      clusters(await supervisor.workers(), supervisor.fixed.get(TYPE.cluster), query.get('format')),
    '/listeners': async (query) => listeners(await supervisor.workers(), query.get('format')),
    '/certs': async () => ({ body: certs(supervisor.resources(), Date.now()) }),
    '/config_dump': async (query) => configDump(supervisor, query),
    '/stats': async (query) => stats(supervisor, query, query.get('format')),
    '/stats/prometheus': async (query) => stats(supervisor, query, 'prometheus'),
    '/ready': async () => {
      const state = await serverState(options)
      return { status: state === 'LIVE' ? 200 : 503, body: `${state}\n` }
    },
    '/server_info': async () => ({ body: await serverInfo(options) }),
    ...changingRoutes(options),
  }
}

function changingRoutes({ supervisor, config, health, quit }: EnvoyAdminOptions): Record<string, AdminRoute> {
  return {
    '/drain_listeners': post(['graceful'], (query) => {
      // Answered at once, as Envoy does; `/drain` answers when it is over.
      void supervisor.drain(config.drainMs, query.has('graceful') ? config.drainDelayMs : 0)
      return OK
    }),
    '/healthcheck/fail': post([], () => {
      health.failed = true
      return OK
    }),
    '/healthcheck/ok': post([], () => {
      health.failed = false
      return OK
    }),
    '/quitquitquit': post([], () => {
      quit()
      return OK
    }),
    '/logging': async (query, method) => {
      const level = query.get('level')
      const unknown = [...query.keys()].find((key) => key !== 'level')
      if (unknown !== undefined) return { status: 400, body: `${unknown}: not supported, there is level\n` }
      if (level === null) return { body: { level: supervisor.level } }
      // A page's <img> is a GET without an Origin: it must change nothing.
      if (method !== 'POST') return METHOD_NOT_ALLOWED
      const set = await supervisor.setLevel(LEVELS[level] ?? level)
      return set.ok ? { body: { level: supervisor.level } } : { status: 400, body: `${set.error}\n` }
    },
  }
}

const OK: AdminReply = { body: 'OK\n' }
const METHOD_NOT_ALLOWED: AdminReply = { status: 405, body: 'this changes something and needs POST\n' }

function post(parameters: readonly string[], act: (query: URLSearchParams) => AdminReply): AdminRoute {
  return async (query, method) => {
    if (method !== 'POST') return METHOD_NOT_ALLOWED
    const unknown = [...query.keys()].find((key) => !parameters.includes(key))
    return unknown === undefined ? act(query) : { status: 400, body: `${unknown}: not supported\n` }
  }
}

/** envoy.admin.v3.ServerInfo.State. */
async function serverState({ supervisor, health }: EnvoyAdminOptions): Promise<string> {
  const [pending, workers] = await Promise.all([supervisor.pending(), supervisor.workers()])
  if (health.failed || workers.some(({ state }) => state === 'draining' || state === 'drained'))
    return 'DRAINING'
  if (pending.length === 0) return 'LIVE'
  return supervisor.identity() === undefined ? 'PRE_INITIALIZING' : 'INITIALIZING'
}

async function serverInfo(options: EnvoyAdminOptions): Promise<unknown> {
  const { supervisor, config } = options
  const workers = await supervisor.workers()
  const uptime = `${Math.floor(process.uptime())}s`
  return {
    version: `isthmus/${VERSION}`,
    state: await serverState(options),
    uptime_current_epoch: uptime,
    uptime_all_epochs: uptime,
    hot_restart_version: 'disabled',
    command_line_options: {
      concurrency: workers.length,
      log_level: supervisor.level,
      drain_time: `${config.drainMs / 1_000}s`,
      mode: 'Serve',
    },
    node: nodeOf(supervisor),
  }
}
