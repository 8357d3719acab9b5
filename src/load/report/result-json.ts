// A result as JSON, for machines: `isthmus bench --json`. Times in microseconds.
import { type Histogram, RELATIVE_ERROR } from '../histogram.ts'
import type { FlowResult, LoadResult, PhaseResult, SampleResult } from '../load-result.ts'
import type { LoadPlan } from '../plan.ts'
import { verdictOf } from '../verdict.ts'

/** Of every latency that is reported. */
export const QUANTILES = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999] as const

/** No certificate and no key is in it. */
export function resultJson(plan: LoadPlan, result: LoadResult): Record<string, unknown> {
  const { address, port, tls } = plan.target
  const { limited, words } = verdictOf(result)
  return {
    target: { address, port, serverNames: tls?.serverNames ?? [], mutualTls: tls !== undefined },
    phases: plan.phases,
    plan: plan.flows,
    unit: 'microseconds',
    quantileError: RELATIVE_ERROR,
    flows: result.flows.map(flowJson),
    generator: { limited, words, processes: result.processes },
  }
}

function flowJson({
  name,
  kind,
  rate,
  total,
  measured,
  phases,
  samples,
}: FlowResult): Record<string, unknown> {
  return {
    name,
    kind,
    ...(rate === undefined ? {} : { rate }),
    measured: phaseJson(measured),
    phases: phases.map(phaseJson),
    total: phaseJson(total),
    samples: samples.map(sampleJson),
  }
}

function phaseJson(phase: PhaseResult): Record<string, unknown> {
  const { latency, handshake, lateness, seconds, ...rest } = phase
  return {
    ...rest,
    seconds,
    ...(seconds > 0 && {
      requestsPerSecond: phase.requests / seconds,
      connectionsPerSecond: phase.connections / seconds,
      receivedPerSecond: phase.bytesReceived / seconds,
      sentPerSecond: phase.bytesSent / seconds,
    }),
    latency: histogramJson(latency),
    handshake: histogramJson(handshake),
    lateness: histogramJson(lateness),
  }
}

function sampleJson({ latency, ...rest }: SampleResult): Record<string, unknown> {
  return { ...rest, p50: latency.quantile(0.5), p99: latency.quantile(0.99), max: latency.max }
}

function histogramJson(histogram: Histogram): Record<string, unknown> {
  const quantiles = QUANTILES.map((q) => [`p${q * 100}`, histogram.quantile(q)])
  const { count, min, mean, max } = histogram
  return { count, min, mean, ...Object.fromEntries(quantiles), max }
}
