// npm run bench [-- --seconds 3 --rounds 3 --json FILE]: a real gateway under mTLS load on this machine. Prints what it forwards
// and what the worker's CPU pays for it; fails when the backend's own counters do not equal the client's.
import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { BackendCounters } from './backend.ts'
import type { Load, LoadResult } from './client.ts'
import { startTarget } from './target.ts'

const here = dirname(fileURLToPath(import.meta.url))
/** USER_HZ of every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

interface Case {
  readonly name: string
  readonly unit: string
  readonly load: Pick<Load, 'mode' | 'connections' | 'size'>
  /** How many units a result is. */
  readonly count: (result: LoadResult) => number
}

const MB = 1_000_000
const CASES: readonly Case[] = [
  {
    name: 'handshake + connect + 1 request',
    unit: 'handshake',
    load: { mode: 'handshakes', connections: 8, size: 100 },
    count: (r) => r.connections,
  },
  {
    name: 'keep-alive request, 1 KB',
    unit: 'request',
    load: { mode: 'requests', connections: 32, size: 1_000 },
    count: (r) => r.requests,
  },
  {
    name: 'download',
    unit: 'MB',
    load: { mode: 'download', connections: 4, size: MB },
    count: (r) => r.bytesReceived / MB,
  },
  {
    name: 'upload',
    unit: 'MB',
    load: { mode: 'upload', connections: 4, size: MB },
    count: (r) => r.bytesSent / MB,
  },
]

interface Row {
  readonly name: string
  readonly unit: string
  readonly perSecond: number
  readonly cpuMicrosecondsPerUnit: number
  readonly p50Ms: number
  readonly p99Ms: number
}

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

function ask<T>(
  child: ChildProcess,
  question: unknown,
  pick: (answer: Record<string, unknown>) => T | undefined,
): Promise<T> {
  return new Promise((resolve) => {
    const take = (answer: Record<string, unknown>): void => {
      const picked = pick(answer)
      if (picked === undefined) return
      child.off('message', take)
      resolve(picked)
    }
    child.on('message', take)
    if (question !== undefined) child.send(question as object)
  })
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
const quantile = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN

/** What both ends say of one round must be the same, or the figures mean nothing. */
function compare(
  name: string,
  before: BackendCounters,
  after: BackendCounters,
  result: LoadResult,
): string[] {
  const pairs: [string, number, number][] = [
    ['connections', after.connections - before.connections, result.connections],
    ['requests', after.requests - before.requests, result.requests],
    ['bytes uploaded', after.bytesReceived - before.bytesReceived, result.bytesSent],
  ]
  const answers = result.bytesReceived - (result.bytesSent > 0 ? result.requests : 0)
  pairs.push(['bytes downloaded', after.bytesSent - before.bytesSent, answers])
  const wrong = pairs
    .filter(([, backend, client]) => backend !== client)
    .map(([what, backend, client]) => `${name}: ${what}: backend ${backend}, client ${client}`)
  return result.errors > 0 ? [...wrong, `${name}: ${result.errors} errors, first: ${result.error}`] : wrong
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '3' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string' },
    },
  })
  const backend = fork(join(here, 'backend.ts'))
  const port = await ask(backend, undefined, (answer) => answer['port'] as number | undefined)
  const target = await startTarget(port)
  const client = fork(join(here, 'client.ts'))
  const problems: string[] = []
  const rounds = new Map<string, Row[]>()
  try {
    const counters = (): Promise<BackendCounters> =>
      ask(backend, 'counters', (answer) => answer['counters'] as BackendCounters | undefined)
    const measure = async (each: Case, seconds: number): Promise<Row> => {
      const before = await counters()
      const cpu = cpuSeconds(target.workerPid)
      const load: Load = {
        ...target.client,
        host: target.host,
        port: target.port,
        servername: target.servername,
        seconds,
        ...each.load,
      }
      const result = await ask(client, load, (answer) => answer['result'] as LoadResult | undefined)
      const spent = cpuSeconds(target.workerPid) - cpu
      problems.push(...compare(each.name, before, await counters(), result))
      const units = each.count(result)
      return {
        name: each.name,
        unit: each.unit,
        perSecond: units / result.seconds,
        cpuMicrosecondsPerUnit: (spent * 1e6) / units,
        p50Ms: quantile(result.latencies, 0.5),
        p99Ms: quantile(result.latencies, 0.99),
      }
    }
    for (const each of CASES) await measure(each, 0.5)
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const each of round % 2 === 0 ? CASES : [...CASES].reverse()) {
        rounds.set(each.name, [...(rounds.get(each.name) ?? []), await measure(each, Number(values.seconds))])
      }
    }
  } finally {
    client.disconnect()
    await target.stop()
    backend.disconnect()
  }
  const rows = CASES.map((each) => summary(rounds.get(each.name) ?? []))
  print(rows)
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ node: process.version, rows }, null, 2)}\n`)
  if (problems.length === 0) return void console.log('\nThe backend counted what the client counted.')
  console.error(`\nThe figures do not hold:\n${problems.map((line) => `  ${line}`).join('\n')}`)
  process.exitCode = 1
}

function summary(rows: readonly Row[]): Row {
  const first = rows[0]
  if (first === undefined) throw new Error('a case without a round')
  const of = (pick: (row: Row) => number): number => median(rows.map(pick))
  return {
    ...first,
    perSecond: of((r) => r.perSecond),
    cpuMicrosecondsPerUnit: of((r) => r.cpuMicrosecondsPerUnit),
    p50Ms: of((r) => r.p50Ms),
    p99Ms: of((r) => r.p99Ms),
  }
}

function print(rows: readonly Row[]): void {
  console.log(
    `Gateway on 15443's path: mTLS both identities checked, SNI routed, plain upstream. One worker, Node ${process.version}, medians.\n`,
  )
  console.log(
    `${''.padEnd(34)}${'per second'.padStart(12)}${'worker CPU µs per unit'.padStart(26)}${'p50 ms'.padStart(10)}${'p99 ms'.padStart(10)}`,
  )
  for (const row of rows) {
    console.log(
      `${row.name.padEnd(34)}${`${row.perSecond.toFixed(0)} ${row.unit === 'MB' ? 'MB' : ''}`.trim().padStart(12)}${row.cpuMicrosecondsPerUnit.toFixed(1).padStart(26)}${row.p50Ms.toFixed(2).padStart(10)}${row.p99Ms.toFixed(2).padStart(10)}`,
    )
  }
}

await main()
