import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Engine, UpstreamHealth } from '../engine.ts'
import type { TrafficStats } from '../traffic-stats.ts'
import type { WorkerHello } from './control.ts'

/** What a scrape asks of each worker: numbers, whose size does not grow with the number of endpoints. */
export interface WorkerStats extends TrafficStats, WorkerHello {
  /** Not one worker, but the counters of all that are gone: their sums must not fall. */
  readonly departed?: boolean
  readonly draining: boolean
  /** How late the event loop was since the last time this was asked, milliseconds: who waits for it waits that long. */
  readonly loopDelay: { readonly p50Ms: number; readonly p99Ms: number; readonly maxMs: number }
  /** Log lines that nobody read in time. */
  readonly logLinesDropped: number
  /** Spans that a collector has taken, and those that were lost; null where none are made. */
  readonly spans: SpanCounts | null
  readonly upstreams: readonly UpstreamHealth[]
  /** Listeners by phase. */
  readonly listeners: Readonly<Record<string, number>>
}

export interface WorkerStatsSources {
  readonly engine: Engine
  readonly identity: WorkerHello
  readonly logLinesDropped: () => number
  readonly spans?: (() => SpanCounts) | undefined
}

export interface SpanCounts {
  readonly sent: number
  readonly dropped: number
}

/** Upstreams that are told apart; what is over counts as one called `other`. */
export const MAX_UPSTREAMS = 1_024
const RESOLUTION_MS = 20
const NS = 1e6

/** Takes the stats of one worker. */
export class WorkerStatsReader {
  readonly #sources: WorkerStatsSources
  readonly #delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })

  constructor(sources: WorkerStatsSources) {
    this.#sources = sources
    this.#delay.enable()
  }

  read(draining: boolean): WorkerStats {
    const { engine, identity, logLinesDropped, spans } = this.#sources
    const loopDelay = {
      p50Ms: lateness(this.#delay.percentile(50)),
      p99Ms: lateness(this.#delay.percentile(99)),
      maxMs: lateness(this.#delay.max),
    }
    this.#delay.reset()
    return {
      ...engine.stats(),
      ...identity,
      draining,
      loopDelay,
      logLinesDropped: logLinesDropped(),
      spans: spans?.() ?? null,
      upstreams: bounded(engine.upstreamHealth()),
      listeners: engine.listenerPhases(),
    }
  }
}

/** The histogram holds the time between two looks: what is over the resolution is delay. */
function lateness(ns: number): number {
  return Number.isFinite(ns) ? Math.max(0, ns / NS - RESOLUTION_MS) : 0
}

/** The first of a list by themselves, the others as one. */
export function bounded(all: readonly UpstreamHealth[]): readonly UpstreamHealth[] {
  if (all.length <= MAX_UPSTREAMS) return all
  const other = { name: 'other', healthy: 0, unhealthy: 0, active: 0 }
  for (const { healthy, unhealthy, active } of all.slice(MAX_UPSTREAMS)) {
    other.healthy += healthy
    other.unhealthy += unhealthy
    other.active += active
  }
  return [...all.slice(0, MAX_UPSTREAMS), other]
}
