// What the processes of a load counted, put together.
import type { Counts, PhaseCounts, Sample } from './flow-recorder.ts'
import type { GeneratorFlow, GeneratorResult } from './generator-messages.ts'
import { Histogram } from './histogram.ts'
import { type ErrorCount, ErrorCounts } from './load-error.ts'
import { DEFAULT_INTERVAL_MS, type FlowPlan, type LoadPlan, spanOf } from './plan.ts'
import type { ProcessLoad } from './process-load.ts'

/** A flow in one phase, or in several. */
export interface PhaseResult extends Counts {
  readonly name: string
  /** How long the flow was in it; 0 for `prepare`. */
  readonly seconds: number
  /** Microseconds: see `PhaseCounts`. */
  readonly latency: Histogram
  readonly handshake: Histogram
  readonly lateness: Histogram
  readonly unfinished: number
  readonly errorKinds: readonly ErrorCount[]
}

/** A flow in one interval, all processes together. */
export interface SampleResult extends Counts {
  /** End of the interval, since the begin. */
  readonly endSeconds: number
  readonly seconds: number
  readonly latency: Histogram
}

export interface FlowResult {
  readonly name: string
  readonly kind: FlowPlan['kind']
  /** Asked for, where the flow is an open loop; per second. */
  readonly rate?: number
  /** Everything since the first connection: what the service must have counted too. */
  readonly total: PhaseResult
  /** All phases but the warm-up. */
  readonly measured: PhaseResult
  /** Those of the plan that the flow runs in, in order. */
  readonly phases: readonly PhaseResult[]
  readonly samples: readonly SampleResult[]
}

export interface LoadResult {
  readonly flows: readonly FlowResult[]
  /** How busy each process of the load was itself, without the warm-up. */
  readonly processes: readonly ProcessLoad[]
}

/** Throws where there is no such flow in the plan: that is the caller's bug. */
export function flowCalled(result: LoadResult, name: string): FlowResult {
  const flow = result.flows.find((each) => each.name === name)
  if (flow === undefined) throw new Error(`no flow is called ${name}`)
  return flow
}

export function loadResult(
  plan: LoadPlan,
  results: readonly GeneratorResult[],
  samples: readonly Sample[],
): LoadResult {
  return {
    flows: plan.flows.map((flow) =>
      flowResult(
        plan,
        flow,
        results.flatMap(({ flows }) => flows),
        samples,
      ),
    ),
    processes: results.map(({ load }) => load),
  }
}

function flowResult(
  plan: LoadPlan,
  flow: FlowPlan,
  all: readonly GeneratorFlow[],
  samples: readonly Sample[],
): FlowResult {
  const counted = all.filter(({ name }) => name === flow.name).flatMap(({ phases }) => phases)
  const { fromMs, untilMs } = spanOf(flow, plan.phases)
  let endMs = 0
  const within = plan.phases.flatMap((phase) => {
    const startMs = endMs
    endMs += phase.seconds * 1_000
    return startMs >= fromMs && endMs <= untilMs ? [phase] : []
  })
  const of = (name: string, phases: LoadPlan['phases'], also: readonly string[] = []): PhaseResult => {
    const names = [...phases.map((phase) => phase.name), ...also]
    const seconds = phases.reduce((sum, phase) => sum + phase.seconds, 0)
    return together(
      name,
      seconds,
      counted.filter(({ phase }) => names.includes(phase)),
    )
  }
  // Errors of a flow that was not yet, or no longer, in its turn are of its turn's connections all the same.
  const everywhere = [...plan.phases.map(({ name }) => name), 'prepare']
  return {
    name: flow.name,
    kind: flow.kind,
    ...('rate' in flow && flow.rate !== undefined && { rate: flow.rate }),
    total: of('total', within, everywhere),
    measured: of(
      'measured',
      within.filter(({ warmUp }) => warmUp !== true),
    ),
    phases: within.map((phase) => of(phase.name, [phase])),
    samples: samplesOf(
      plan,
      samples.filter((sample) => sample.flow === flow.name),
    ),
  }
}

function together(name: string, seconds: number, parts: readonly PhaseCounts[]): PhaseResult {
  const sum = (of: (part: PhaseCounts) => number) => parts.reduce((total, part) => total + of(part), 0)
  const errors = new ErrorCounts()
  for (const { errorKinds } of parts) errors.addCounts(errorKinds)
  const latency = new Histogram()
  const handshake = new Histogram()
  const lateness = new Histogram()
  for (const part of parts) {
    latency.addEncoded(part.latency)
    handshake.addEncoded(part.handshake)
    lateness.addEncoded(part.lateness)
  }
  return {
    name,
    seconds,
    connections: sum((part) => part.connections),
    requests: sum((part) => part.requests),
    bytesReceived: sum((part) => part.bytesReceived),
    bytesSent: sum((part) => part.bytesSent),
    errors: sum((part) => part.errors),
    unfinished: sum((part) => part.unfinished),
    latency,
    handshake,
    lateness,
    errorKinds: errors.list(),
  }
}

function samplesOf(plan: LoadPlan, samples: readonly Sample[]): SampleResult[] {
  const seconds = (plan.intervalMs ?? DEFAULT_INTERVAL_MS) / 1_000
  const byIndex = new Map<number, Sample[]>()
  for (const sample of samples) byIndex.set(sample.index, [...(byIndex.get(sample.index) ?? []), sample])
  return [...byIndex]
    .sort(([a], [b]) => a - b)
    .map(([index, parts]) => sampleResult((index + 1) * seconds, seconds, parts))
}

/** One interval of all processes. */
export function sampleResult(endSeconds: number, seconds: number, parts: readonly Sample[]): SampleResult {
  const latency = new Histogram()
  const counts = { connections: 0, requests: 0, bytesReceived: 0, bytesSent: 0, errors: 0 }
  for (const part of parts) {
    latency.addEncoded(part.latency)
    for (const key of Object.keys(counts) as (keyof typeof counts)[]) counts[key] += part[key]
  }
  return { endSeconds, seconds, ...counts, latency }
}
