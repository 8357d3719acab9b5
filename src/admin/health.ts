import type { AdminRoute } from './http.ts'

export interface HealthSources {
  /** What is still missing before traffic may be sent here; empty means ready. */
  readonly pending: () => readonly string[] | Promise<readonly string[]>
  /** Why the process ought to be restarted; default: never. */
  readonly broken?: () => readonly string[]
}

/** Routes of the health port for kubelet: `/livez` and `/readyz`, 200 or 503, each with the JSON list of what is pending or broken. */
export function healthRoutes(sources: HealthSources): Record<string, AdminRoute> {
  const answer = (missing: readonly string[]) => ({
    status: missing.length === 0 ? 200 : 503,
    body: [...missing],
  })
  return {
    '/livez': async () => answer(sources.broken?.() ?? []),
    '/readyz': async () => answer(await sources.pending()),
  }
}
