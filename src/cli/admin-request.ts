import { fail, ok, type Result } from '../lib/result.ts'

/** A process that has stopped (SIGSTOP) accepts and never answers. */
const TIMEOUT_MS = 5_000

/** GETs JSON from a process's admin port (`host:port`). The error is one line for an operator. */
export async function requestJson(address: string, path: string): Promise<Result<unknown, string>> {
  let response: Response
  try {
    response = await fetch(`http://${address}${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS) })
  } catch (error) {
    return fail(`http://${address} does not answer: ${reasonOf(error)}`)
  }
  const text = await response.text().catch(() => '')
  if (!response.ok)
    return fail(`http://${address}${path} answered ${response.status}: ${text.trim().slice(0, 200)}`)
  try {
    return ok(JSON.parse(text))
  } catch {
    return fail(
      `http://${address}${path} answered something that is not JSON; is this an admin port of isthmus?`,
    )
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return `nothing within ${TIMEOUT_MS / 1000} s`
  const { cause } = error
  return cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : error.message
}

/** `host:port`, `[::1]:port`; undefined for anything else. */
export function parseHostPort(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):([1-9][0-9]{0,4})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port > 65_535 ? undefined : { host, port }
}
