// What is measured: units of work whose CPU is counted, and connections that are held to see what they weigh.
import type { BackendCounters } from './backend.ts'
import type { Counts, Load, LoadResult } from './client.ts'

const MB = 1_000_000

/** Names of what is measured, each with its unit. */
export const COLUMN = {
  handshake: 'µs per mTLS handshake + connect + 1 request',
  request: 'µs per keep-alive request, 1 KB',
  down: 'µs per MB down',
  up: 'µs per MB up',
  idle: 'KB per idle connection',
  stalledDown: 'KB per stalled download',
  stalledUp: 'KB per stalled upload',
} as const

interface Case {
  readonly name: string
  readonly load: Pick<Load, 'mode' | 'connections' | 'size'>
}

export interface CpuCase extends Case {
  /** How many units the measured part of a result is. */
  readonly count: (result: LoadResult) => number
}

/** Worker CPU in microseconds for each. */
export const CPU_CASES: readonly CpuCase[] = [
  {
    name: COLUMN.handshake,
    load: { mode: 'handshakes', connections: 8, size: 100 },
    count: (r) => r.connections - r.before.connections,
  },
  {
    name: COLUMN.request,
    load: { mode: 'requests', connections: 32, size: 1_000 },
    count: (r) => r.requests - r.before.requests,
  },
  {
    name: COLUMN.down,
    load: { mode: 'download', connections: 4, size: MB },
    count: (r) => (r.bytesReceived - r.before.bytesReceived) / MB,
  },
  {
    name: COLUMN.up,
    load: { mode: 'upload', connections: 4, size: MB },
    count: (r) => (r.bytesSent - r.before.bytesSent) / MB,
  },
]

/** Growth of resident memory in KB for each connection. */
export function memoryCases(idle: number, stalled: number): readonly Case[] {
  return [
    { name: COLUMN.idle, load: { mode: 'idle', connections: idle, size: 100 } },
    {
      name: COLUMN.stalledDown,
      load: { mode: 'stalled-download', connections: stalled, size: 64 * MB },
    },
    { name: COLUMN.stalledUp, load: { mode: 'stalled-upload', connections: stalled, size: 64 * MB } },
  ]
}

/** What both ends say must be the same, or the figures mean nothing. `held`: bodies on their way cannot be compared. */
export function compare(
  name: string,
  before: BackendCounters,
  after: BackendCounters,
  result: Counts & Pick<LoadResult, 'errors' | 'error'>,
  held = false,
): string[] {
  const answers = result.bytesReceived - (result.bytesSent > 0 ? result.requests : 0)
  const pairs: [string, number, number][] = [
    ['connections', after.connections - before.connections, result.connections],
    ['requests', after.requests - before.requests, result.requests],
  ]
  if (!held) {
    pairs.push(
      ['bytes uploaded', after.bytesReceived - before.bytesReceived, result.bytesSent],
      ['bytes downloaded', after.bytesSent - before.bytesSent, answers],
    )
  }
  const wrong = pairs
    .filter(([, backend, client]) => backend !== client)
    .map(([what, backend, client]) => `${name}: ${what}: backend ${backend}, client ${client}`)
  return result.errors > 0
    ? [...wrong, `${name}: ${result.errors} errors, first: ${result.error.trim()}`]
    : wrong
}
