import { healthRoutes } from '../admin/health.ts'
import { type AdminRoute, AdminServer } from '../admin/http.ts'
import type { Logger } from '../lib/log.ts'
import { formatProblem, type Result } from '../lib/result.ts'
import { type Authority, formatAuthority, isLoopback } from '../proxy/names/authority.ts'
import { dumpSnapshot } from '../proxy/process/config-dump.ts'
import { KeepListening } from '../proxy/process/keep-listening.ts'
import type { Supervisor } from '../proxy/process/supervisor.ts'
import type { WorkerStatus } from '../proxy/process/worker.ts'
import { proxyMetrics } from './proxy-metrics.ts'
import type { ProxyConfig } from './proxy-options.ts'

export interface ProxyAdminOptions {
  readonly supervisor: Supervisor
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
    this.#servers = {
      admin: new AdminServer({ routes: adminRoutes(supervisor, config) }),
      health: new AdminServer({ routes: healthRoutes({ pending: () => supervisor.pending() }) }),
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

function adminRoutes(supervisor: Supervisor, config: ProxyConfig): Record<string, AdminRoute> {
  const ofWorker = (pick: (status: WorkerStatus) => unknown): AdminRoute => {
    return async () => {
      const worker = await supervisor.worker()
      return worker.ok ? { body: pick(worker.value) } : { status: 503, body: { error: worker.error } }
    }
  }
  return {
    '/status': async () => {
      const [pending, worker] = await Promise.all([supervisor.pending(), supervisor.worker()])
      const part = worker.ok ? worker.value : { error: worker.error }
      return {
        body: {
          kind: config.kind,
          ready: pending.length === 0,
          pending,
          ...supervisor.status(),
          worker: part,
        },
      }
    },
    '/config_dump': async () => ({ body: dumpSnapshot(supervisor.resources()) }),
    '/clusters': ofWorker(({ engine }) => engine.upstreams),
    '/listeners': ofWorker(({ engine }) => engine.listeners),
    '/certs': async () => ({ body: certificates(supervisor) }),
    '/drain': async (_query, method) => {
      if (method !== 'POST') return { status: 405, body: 'POST drains; it answers once that is done\n' }
      return answer(await supervisor.drain(config.drainMs), (report) => ({
        drained: true,
        ...(report as object),
      }))
    },
    '/logging': async (query, method) => {
      const level = query.get('level')
      if (level === null) return { body: { level: supervisor.level } }
      // A page's <img> is a GET without an Origin: it must change nothing.
      if (method !== 'POST') return { status: 405, body: 'changing the level needs POST\n' }
      return answer(await supervisor.setLevel(level), () => ({ level }))
    },
  }
}

function answer(result: Result<unknown, string>, body: (value: unknown) => unknown) {
  return result.ok ? { body: body(result.value) } : { status: 503, body: { error: result.error } }
}

function certificates(supervisor: Supervisor): unknown {
  const identity = supervisor.identity()
  const problems = supervisor.credentialProblems().map(formatProblem)
  if (identity === undefined) return { problems }
  const { credential, bundle } = identity
  return { credential, trustDomain: bundle.trustDomain, bundle: bundle.certificates.length, problems }
}
