// How long requests take when the target is half busy: an open loop, the same rate for everybody, so that nobody is spared the requests
// that came while it was slow.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { BackendCounters } from '../src/load/backend.ts'
import { flowCalled } from '../src/load/load-result.ts'
import type { LoadPlan } from '../src/load/plan.ts'
import { get, LoadGenerator } from '../src/load/run.ts'
import { COLUMN } from './cases.ts'
import { LATENCY_COLUMN } from './goals.ts'
import type { Harness } from './harness.ts'
import { inOrder, REPEATS, type Recorder } from './measure.ts'
import type { Plan } from './options.ts'
import { cpuMicroseconds } from './process-stats.ts'
import { inTurn, type Steadiness } from './steadiness.ts'
import { startTarget, type Target, type TargetKind } from './targets.ts'

/** Everybody gets half of what this one could do. */
const YARDSTICK = 'envoy'
/** Where the yardstick was not measured, requests a second. */
const OTHERWISE = 10_000
const CONNECTIONS = 64
const FLOW = 'requests'

/** Columns of `Recorder.load`. */
export const LATENCY_LOAD = {
  busy: 'half capacity: target busy',
  late: 'half capacity: p99 of how late the load itself was, ms',
  client: 'half capacity: client busy',
} as const

export interface Offered {
  /** Requests a second. */
  readonly rate: number
  readonly said: string
}

interface Measured {
  readonly target: string
  readonly figures: Readonly<Record<string, number>>
  readonly load: Readonly<Record<string, number>>
}

/** Half of what a whole core of the yardstick pays for, by what a request cost it in the closed loop. */
export function offeredRate({ figures }: Pick<Recorder, 'figures'>): Offered {
  const microseconds = figures.median(YARDSTICK, COLUMN.request)
  if (Number.isNaN(microseconds))
    return { rate: OTHERWISE, said: `${OTHERWISE} requests a second, since ${YARDSTICK} was not measured` }
  const capacity = 1e6 / microseconds
  const rate = Math.round(capacity / 2 / 100) * 100
  return {
    rate,
    said: `${rate} requests a second of 1 KB, half of what a core of ${YARDSTICK} pays for (${Math.round(capacity)}), over ${CONNECTIONS} connections`,
  }
}

export async function measureLatency(
  harness: Harness,
  kinds: readonly TargetKind[],
  prefix: readonly string[],
  plan: Plan,
  steadiness: Steadiness,
  recorder: Recorder,
): Promise<Offered> {
  const offered = offeredRate(recorder)
  const backend = await HttpBackend.start()
  const generator = await LoadGenerator.start()
  const targets: Target[] = []
  try {
    for (const kind of kinds) {
      const job = { ...harness.job, backendPort: backend.port }
      targets.push(await startTarget(kind, job, harness.folderOf(`${kind.name} latency`), prefix))
    }
    const measure = (target: Target): Promise<Measured> =>
      measureOne(harness, target, backend, generator, offered.rate, plan.latencySeconds, recorder)
    for (const target of targets) await measure(target)
    const steadied = await steadiness.measure(
      Array.from({ length: plan.latencyRounds }, (_, round) => ({
        name: 'latency',
        async measure() {
          const all: Measured[] = []
          for (const target of inTurn(targets, round)) all.push(await measure(target))
          return all
        },
      })),
      Math.ceil(plan.latencyRounds * REPEATS),
    )
    for (const { target, figures, load } of inOrder(targets, steadied.kept.flat())) {
      for (const [column, value] of Object.entries(figures)) recorder.figures.add(target, column, value)
      for (const [column, value] of Object.entries(load)) recorder.load.add(target, column, value)
    }
  } finally {
    await Promise.all(targets.map((target) => target.stop()))
    await generator.stop()
    backend.stop()
  }
  return offered
}

async function measureOne(
  harness: Harness,
  target: Target,
  backend: HttpBackend,
  generator: LoadGenerator,
  rate: number,
  seconds: number,
  { problems }: Recorder,
): Promise<Measured> {
  const { name } = target.kind
  const load: LoadPlan = {
    target: { address: '127.0.0.1', port: target.port, tls: harness.loadTls },
    phases: [
      { name: 'warm-up', seconds: seconds / 4, warmUp: true },
      { name: 'load', seconds },
    ],
    flows: [{ kind: 'requests', name: FLOW, connections: CONNECTIONS, rate, request: get('/bytes/1000') }],
  }
  const before = await backend.counters()
  const cpu = cpuMicroseconds(target.pid)
  const result = await generator.run(load)
  const spent = cpuMicroseconds(target.pid) - cpu
  const after = await backend.counters()
  const { total, measured } = flowCalled(result, FLOW)
  const seen = {
    connections: after.connections - before.connections,
    requests: after.requests - before.requests,
  }
  // A request that was not answered in time may have come through, or not.
  const { connections, requests, unfinished } = total
  if (seen.connections !== connections || seen.requests < requests || seen.requests > requests + unfinished)
    problems.push(
      `${name}, latency: backend ${JSON.stringify(seen)}, client ${JSON.stringify({ connections, requests, unfinished })}`,
    )
  if (total.errors > 0)
    problems.push(`${name}, latency: ${total.errors} errors: ${JSON.stringify(total.errorKinds[0])}`)
  const ms = (q: number): number => measured.latency.quantile(q) / 1_000
  return {
    target: name,
    figures: {
      [LATENCY_COLUMN.p50]: ms(0.5),
      [LATENCY_COLUMN.p99]: ms(0.99),
      [LATENCY_COLUMN.p999]: ms(0.999),
    },
    load: {
      // With the warm-up, and with the handshakes before it: a little more than the truth.
      [LATENCY_LOAD.busy]: spent / (seconds * 1.25 * 1e6),
      [LATENCY_LOAD.late]: measured.lateness.quantile(0.99) / 1_000,
      [LATENCY_LOAD.client]: result.processes[0]?.cpu ?? Number.NaN,
    },
  }
}

class HttpBackend {
  readonly port: number
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
  }

  static async start(): Promise<HttpBackend> {
    const child = fork(fileURLToPath(new URL('./http-backend.ts', import.meta.url)))
    const [{ port }] = (await once(child, 'message')) as [{ port: number }]
    return new HttpBackend(child, port)
  }

  async counters(): Promise<BackendCounters> {
    const answer = once(this.#child, 'message')
    this.#child.send('counters')
    return ((await answer) as [{ counters: BackendCounters }])[0].counters
  }

  stop(): void {
    this.#child.disconnect()
  }
}
