import { ok, type Result } from '../../lib/result.ts'
import type { HealthCheckKind, PayloadBlocks } from '../../resources/upstream-types.ts'
import type { PumpEnd } from '../pump.ts'
import { HttpResponseReader } from './http-response.ts'

/** Why a check failed. */
export interface CheckFailure {
  /** `active`: it answered, and the answer is bad, which needs no second opinion. */
  readonly kind: 'network' | 'timeout' | 'active'
  readonly detail: string
}

export interface Checked {
  /** It asked to be used only where others do not suffice (`x-envoy-degraded`). */
  readonly degraded: boolean
  /** Another check may go over the same connection. */
  readonly reusable: boolean
}

/** What is kept of an answer that nothing else bounds. */
const MAX_ANSWER = 65_536

/** Settles once; whoever called gets the socket without any listener of ours. */
type Finish = (result: Result<Checked, CheckFailure>) => void

/** Runs one check over a connection that is there. The deadline is the caller's: he destroys the stream. */
export function runCheck(
  check: HealthCheckKind,
  { stream }: PumpEnd,
  hostHeader: string,
  reuse: boolean,
): Promise<Result<Checked, CheckFailure>> {
  return new Promise((resolve) => {
    const finish: Finish = (result) => {
      stream.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose)
      stream.pause()
      resolve(result)
    }
    const reader = check.kind === 'tcp' ? tcpReader(check.receive, finish) : httpReader(check, finish)
    const broken = (detail: string) => finish({ ok: false, error: { kind: 'network', detail } })
    const onData = (chunk: Buffer) => reader.data(chunk)
    const onEnd = () => reader.end(() => broken('ended before its answer was whole'))
    const onError = (error: NodeJS.ErrnoException) => broken(error.code ?? error.message)
    const onClose = () => broken('closed before its answer was whole')
    stream.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose)
    stream.resume()
    const request = check.kind === 'tcp' ? check.send : httpRequest(check, hostHeader, reuse)
    if (request !== undefined) stream.write(request)
  })
}

interface Reader {
  data(chunk: Buffer): void
  end(orElse: () => void): void
}

function tcpReader(blocks: PayloadBlocks, finish: Finish): Reader {
  let answer: Buffer = Buffer.alloc(0)
  return {
    data(chunk) {
      answer = Buffer.concat([answer, chunk])
      if (containsInOrder(answer, blocks)) finish(ok({ degraded: false, reusable: true }))
      else if (answer.length > MAX_ANSWER)
        finish({
          ok: false,
          error: { kind: 'active', detail: `answered ${answer.length} bytes without what is expected` },
        })
    },
    end: (orElse) => orElse(),
  }
}

function httpReader(check: HealthCheckKind & { kind: 'http' }, finish: Finish): Reader {
  const wanted = check.receive.length > 0
  const limit = check.responseBytes === 0 ? MAX_ANSWER : Math.min(check.responseBytes, MAX_ANSWER)
  const response = new HttpResponseReader(check.method === 'HEAD', wanted ? limit : 0)
  const judge = () => {
    const { status, degraded, body, whole, keepAlive } = response
    const within = (ranges: readonly { start: number; end: number }[]) =>
      ranges.some(({ start, end }) => status >= start && status < end)
    if (!within(check.expected)) {
      const kind = within(check.retriable) ? 'network' : 'active'
      finish({ ok: false, error: { kind, detail: `answered ${status}` } })
    } else if (wanted && !containsInOrder(body, check.receive)) {
      finish({
        ok: false,
        error: { kind: 'active', detail: `answered ${status} without the body that is expected` },
      })
    } else {
      finish(ok({ degraded, reusable: whole && keepAlive }))
    }
  }
  return {
    data(chunk) {
      const problem = response.push(chunk)
      if (problem !== undefined) finish({ ok: false, error: { kind: 'active', detail: problem } })
      else if (response.whole || (response.status > 0 && wanted && response.body.length >= limit)) judge()
    },
    end(orElse) {
      response.end()
      if (response.whole) judge()
      else orElse()
    },
  }
}

function httpRequest(check: HealthCheckKind & { kind: 'http' }, host: string, reuse: boolean): string {
  const lines = [
    `${check.method} ${check.path} HTTP/1.1`,
    `host: ${host}`,
    'user-agent: isthmus-health-check',
    ...(reuse ? [] : ['connection: close']),
    ...check.headers.map(([name, value]) => `${name}: ${value}`),
  ]
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** Whether all blocks are there, one after the other, with anything between them (Envoy's fuzzy match). */
function containsInOrder(answer: Buffer, blocks: PayloadBlocks): boolean {
  let from = 0
  for (const block of blocks) {
    const at = answer.indexOf(block, from)
    if (at < 0) return false
    from = at + block.length
  }
  return true
}
