import { healthRoutes } from '../admin/health.ts'
import { type AdminRoute, AdminServer } from '../admin/http.ts'
import { tellParent } from '../lib/lifeline.ts'
import type { Logger } from '../lib/log.ts'
import { isLoopback } from '../lib/loopback.ts'
import { formatProblem } from '../lib/result.ts'
import { type Authority, formatAuthority } from '../proxy/names/authority.ts'
import { KeepListening } from '../proxy/process/keep-listening.ts'
import type { SupervisorView } from '../proxy/process/supervisor-view.ts'
import { type EnvoyAdminOptions, envoyAdminRoutes, HealthOverride } from './envoy-admin/routes.ts'
import { proxyMetrics } from './proxy-metrics.ts'
import type { ProxyConfig } from './proxy-options.ts'

export interface ProxyAdminOptions {
  readonly supervisor: SupervisorView
  readonly config: ProxyConfig
  readonly logger: Logger
}

/** Admin, health and metrics of a gateway or sidecar: three ports over one supervisor. */
export class ProxyAdmin {
  readonly #config: ProxyConfig
  readonly #logger: Logger
  readonly #servers: Readonly<Record<'admin' | 'health' | 'metrics', AdminServer>>
  #listening: readonly KeepListening[] = []

  constructor({ supervisor, config, logger }: ProxyAdminOptions) {
    this.#config = config
    this.#logger = logger
    const health = new HealthOverride()
    // Our parent is the launcher, which drains the workers and ends us last.
    const quit = () => void process.kill(process.ppid, 'SIGTERM')
    this.#servers = {
      admin: new AdminServer({ routes: adminRoutes({ supervisor, config, health, quit }) }),
      health: new AdminServer({
        routes: healthRoutes({ pending: async () => [...(await supervisor.pending()), ...health.pending] }),
      }),
      metrics: new AdminServer({ routes: proxyMetrics(supervisor).routes() }),
    }
  }

  /** Resolves with the real addresses once all three listen; a port that is taken is tried again meanwhile. */
  async start(): Promise<Record<string, string>> {
    const { admin, health, metrics } = this.#config
    if (!isLoopback(admin.host))
      this.#logger.warn(`--admin ${formatAuthority(admin)}: whoever reaches it may drain this proxy`)
    const keep = (name: 'admin' | 'health' | 'metrics', at: Authority) =>
      new KeepListening({
        name,
        at,
        logger: this.#logger,
        listen: (host, port) => this.#servers[name].listen(host, port),
      })
    this.#listening = [keep('admin', admin), keep('health', health), keep('metrics', metrics)]
    const addresses = await Promise.all(
      this.#listening.map(async (one) => [one.name, formatAuthority(await one.whenListening())]),
    )
    return Object.fromEntries(addresses)
  }

  async close(): Promise<void> {
    for (const one of this.#listening) one.stop()
    await Promise.all(Object.values(this.#servers).map((server) => server.close()))
  }
}

function adminRoutes(options: EnvoyAdminOptions): Record<string, AdminRoute> {
  const { supervisor, config, health } = options
  return {
    ...envoyAdminRoutes(options),
    '/status': async () => {
      const [pending, workers] = await Promise.all([supervisor.pending(), supervisor.workers()])
      const missing = [...pending, ...health.pending]
      return {
        body: {
          kind: config.kind,
          // How many supervisors there have been, this one included.
          generation: Number(process.env['ISTHMUS_GENERATION'] ?? 1),
          ready: missing.length === 0,
          pending: missing,
          ...supervisor.status(),
          credential: supervisor.identity()?.credential ?? null,
          credentialProblems: supervisor.credentialProblems().map(formatProblem),
          worker: workers[0] ?? { error: 'the worker is not connected' },
          workers: workers.map(({ engine, ...about }) => ({ ...about, connections: engine.connections })),
        },
      }
    },
    '/replace': async (_query, method) => {
      if (method !== 'POST') return { status: 405, body: 'POST replaces this process and its workers\n' }
      tellParent({ notice: 'replace' })
      return { status: 202, body: { replacing: true } }
    },
    '/drain': async (_query, method) => {
      if (method !== 'POST') return { status: 405, body: 'POST drains; it answers once that is done\n' }
      const drained = await supervisor.drain(config.drainMs, config.drainDelayMs)
      return drained.ok
        ? { body: { drained: true, ...drained.value } }
        : { status: 503, body: { error: drained.error } }
    },
  }
}
