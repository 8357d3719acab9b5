import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Histogram, ListenerCounters, TrafficCounters } from '../traffic-stats.ts'
import type { ControlledWorker } from './control.ts'
import type { WorkerStats } from './worker-stats.ts'

const NO_WORKER = { pid: 0, slot: -1, generation: 0, runtime: '', version: '' }

export interface DepartedStatsOptions {
  /** Where the sum is kept for the next supervisor of the same workers. Default nowhere. */
  readonly path?: string
  /** Whether to go on from what is there: not where the workers are new as well. Default false. */
  readonly resume?: boolean
}

/**
 * The counters of workers that are gone. A counter that falls is read as one that began anew, and what it still holds as new
 * events: the sum over the workers must go on when one of them leaves. What a worker counted after it was asked last, and
 * before it was killed, is lost.
 */
export class DepartedStats {
  /** The last answers of those that may still be there, by pid and generation. */
  readonly #last = new Map<string, WorkerStats>()
  readonly #path: string | undefined
  #sum: WorkerStats | undefined

  constructor({ path, resume = false }: DepartedStatsOptions = {}) {
    this.#path = path
    if (path === undefined) return
    if (resume) this.#sum = read(path)
    else rmSync(path, { force: true })
  }

  answered(stats: WorkerStats): void {
    this.#last.set(keyOf(stats), stats)
  }

  /** Its connection is closed. Without a last word it may come back: see `sum`. */
  gone({ parting }: ControlledWorker): void {
    if (parting === undefined) return
    const stats = parting as WorkerStats
    this.#last.delete(keyOf(stats))
    this.#add(stats)
  }

  /** The sum, as of a worker that has no connections; nothing while none has left. `connected` are those that answer for themselves. */
  sum(connected: readonly ControlledWorker[]): readonly WorkerStats[] {
    const present = new Set(connected.map(({ hello }) => keyOf(hello)))
    for (const [key, stats] of this.#last) {
      if (present.has(key) || isAlive(stats.pid)) continue
      this.#last.delete(key)
      this.#add(stats)
    }
    return this.#sum === undefined ? [] : [this.#sum]
  }

  #add(stats: WorkerStats): void {
    const before = this.#sum
    this.#sum = {
      ...NO_WORKER,
      departed: true,
      draining: false,
      loopDelay: { p50Ms: 0, p99Ms: 0, maxMs: 0 },
      upstreams: [],
      listeners: {},
      open: 0,
      opening: 0,
      accepted: stats.accepted + (before?.accepted ?? 0),
      ended: stats.ended + (before?.ended ?? 0),
      shadowAllowed: stats.shadowAllowed + (before?.shadowAllowed ?? 0),
      shadowDenied: stats.shadowDenied + (before?.shadowDenied ?? 0),
      logLinesDropped: stats.logLinesDropped + (before?.logLinesDropped ?? 0),
      spans: addSpans(before?.spans ?? null, stats.spans),
      traffic: addTraffic([...(before?.traffic ?? []), ...stats.traffic]),
      listenerCounters: addListeners([...(before?.listenerCounters ?? []), ...stats.listenerCounters]),
      handshake: addHistogram(before?.handshake, stats.handshake),
      connect: addHistogram(before?.connect, stats.connect),
      duration: addHistogram(before?.duration, stats.duration),
    }
    this.#save()
  }

  /** Losing it costs a jump in a graph, so it stops nothing. */
  #save(): void {
    if (this.#path === undefined) return
    const temporary = `${this.#path}.new`
    try {
      writeFileSync(temporary, JSON.stringify(this.#sum), { mode: 0o600 })
      renameSync(temporary, this.#path)
    } catch {
      rmSync(temporary, { force: true })
    }
  }
}

function read(path: string): WorkerStats | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as WorkerStats
  } catch {
    return undefined
  }
}

function addSpans(a: WorkerStats['spans'], b: WorkerStats['spans']): WorkerStats['spans'] {
  if (a === null || b === null) return a ?? b
  return { sent: a.sent + b.sent, dropped: a.dropped + b.dropped }
}

const keyOf = ({ pid, generation }: { pid: number; generation: number }): string => `${pid} ${generation}`

/** kill(2) with signal 0. */
function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

function addTraffic(cells: readonly TrafficCounters[]): TrafficCounters[] {
  const groups = Map.groupBy(cells, ({ service, peerTrustDomain }) =>
    JSON.stringify([service, peerTrustDomain]),
  )
  return [...groups.values()].map((group) => {
    const ended: Record<string, number> = {}
    for (const cell of group)
      for (const [flag, count] of Object.entries(cell.ended)) ended[flag] = (ended[flag] ?? 0) + count
    const { service, peerTrustDomain } = group[0] as TrafficCounters
    const sum = (pick: (cell: TrafficCounters) => number) => group.reduce((all, cell) => all + pick(cell), 0)
    return {
      service,
      peerTrustDomain,
      ended,
      bytesIn: sum(({ bytesIn }) => bytesIn),
      bytesOut: sum(({ bytesOut }) => bytesOut),
      open: 0,
    }
  })
}

function addListeners(all: readonly ListenerCounters[]): ListenerCounters[] {
  return [...Map.groupBy(all, ({ listener }) => listener)].map(([listener, group]) => {
    const sum = (pick: (one: ListenerCounters) => number) =>
      group.reduce((total, one) => total + pick(one), 0)
    return {
      listener,
      accepted: sum(({ accepted }) => accepted),
      active: 0,
      handshakes: sum(({ handshakes }) => handshakes),
      handshakeFailures: sum(({ handshakeFailures }) => handshakeFailures),
      certificatesRefused: sum(({ certificatesRefused }) => certificatesRefused),
      noFilterChain: sum(({ noFilterChain }) => noFilterChain),
      rbacAllowed: sum(({ rbacAllowed }) => rbacAllowed),
      rbacDenied: sum(({ rbacDenied }) => rbacDenied),
    }
  })
}

function addHistogram(before: Histogram | undefined, more: Histogram): Histogram {
  return before === undefined
    ? more
    : {
        boundsMs: more.boundsMs,
        counts: more.counts.map((count, index) => count + (before.counts[index] ?? 0)),
        sumMs: before.sumMs + more.sumMs,
      }
}
