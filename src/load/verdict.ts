// Whether the figures are of the target, or of the load generator itself, in words.
import type { FlowResult, LoadResult } from './load-result.ts'

/** A main thread that is busy for so much of the time has no time to be on time. */
const BUSY = 0.85
/** Late by less is nothing beside a network. Microseconds. */
const LATE_US = 1_000
/** A part of the latency that lateness may make up. */
const LATE_PART = 0.1

export interface Verdict {
  /** The figures say as much of the generator as of the target. */
  readonly limited: boolean
  /** Sentences. */
  readonly words: readonly string[]
}

export function verdictOf({ flows, processes }: LoadResult): Verdict {
  const words: string[] = []
  for (const [index, { cpu, waited }] of processes.entries()) {
    const who = processes.length === 1 ? 'the generator' : `process ${index + 1} of the generator`
    if (cpu >= BUSY)
      words.push(
        `${who} used ${percent(cpu)} of its core: rates are a lower bound, latencies an upper bound (more --processes, or --runtime bun)`,
      )
    else if (cpu + waited >= BUSY)
      words.push(
        `${who} ran for ${percent(cpu)} of the time and waited for a core for ${percent(waited)}: this machine is too busy for it; rates are a lower bound, latencies an upper bound`,
      )
  }
  for (const flow of flows) words.push(...lateness(flow))
  if (words.length > 0) return { limited: true, words: [...words, ...unanswered(flows)] }
  const most = Math.max(0, ...processes.map(({ cpu }) => cpu))
  const late = Math.max(0, ...flows.map(({ measured }) => measured.lateness.quantile(0.99)))
  const schedule = flows.some(({ measured }) => measured.lateness.count > 0)
    ? `, and its schedule was late by ${(late / 1_000).toFixed(2)} ms (p99)`
    : ''
  const fine = `the generator was not the bottleneck: it used ${percent(most)} of a core at most${schedule}`
  return { limited: false, words: [fine, ...unanswered(flows)] }
}

function lateness({ name, measured: { lateness, latency } }: FlowResult): string[] {
  const late = lateness.quantile(0.99)
  if (late < LATE_US || late < latency.quantile(0.99) * LATE_PART) return []
  return [
    `${name}: the generator itself sent up to ${(late / 1_000).toFixed(1)} ms late (p99), with connections free: latencies are an upper bound`,
  ]
}

function unanswered(flows: readonly FlowResult[]): string[] {
  return flows.flatMap(({ name, measured: { unfinished } }) =>
    unfinished === 0
      ? []
      : [
          `${name}: ${unfinished} requests were not answered when the load was over; they count with the time that they had waited by then`,
        ],
  )
}

const percent = (part: number): string => `${Math.round(part * 100)} %`
