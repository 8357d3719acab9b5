import { request } from 'undici'
import { fail, ok, type Result } from '../lib/result.ts'

/** A process that has stopped (SIGSTOP) accepts and never answers. */
const TIMEOUT_MS = 5_000

export interface AdminReply {
  readonly status: number
  readonly body: string
}

/**
 * Asks an admin port (`host:port`) and waits at most `timeoutMs` for the whole answer: undici's own limits are off, since a
 * drain answers when it is over. The error is one line for an operator.
 */
export async function callAdmin(
  address: string,
  path: string,
  {
    method = 'GET',
    timeoutMs = TIMEOUT_MS,
    body,
  }: { method?: 'GET' | 'POST'; timeoutMs?: number; body?: string } = {},
): Promise<Result<AdminReply, string>> {
  try {
    const signal = AbortSignal.timeout(timeoutMs)
    const sent = body === undefined ? {} : { body }
    const options = { method, signal, headersTimeout: 0, bodyTimeout: 0, reset: true, ...sent }
    const reply = await request(`http://${address}${path}`, options)
    return ok({ status: reply.statusCode, body: await reply.body.text() })
  } catch (error) {
    return fail(`http://${address} does not answer: ${reasonOf(error, timeoutMs)}`)
  }
}

/** GETs JSON from an admin port. The error is one line for an operator. */
export async function requestJson(address: string, path: string): Promise<Result<unknown, string>> {
  const reply = await callAdmin(address, path)
  if (!reply.ok) return reply
  const { status, body } = reply.value
  if (status < 200 || status > 299)
    return fail(`http://${address}${path} answered ${status}: ${body.trim().slice(0, 200)}`)
  try {
    return ok(JSON.parse(body))
  } catch {
    return fail(
      `http://${address}${path} answered something that is not JSON; is this an admin port of isthmus?`,
    )
  }
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return `nothing within ${timeoutMs / 1000} s`
  return (error as NodeJS.ErrnoException).code ?? error.message
}

/** `host:port`, `[::1]:port`; undefined for anything else. */
export function parseHostPort(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):([1-9][0-9]{0,4})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port > 65_535 ? undefined : { host, port }
}
