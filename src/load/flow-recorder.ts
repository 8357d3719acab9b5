import { type EncodedHistogram, Histogram } from './histogram.ts'
import { type ErrorCount, ErrorCounts, type LoadError } from './load-error.ts'
import type { PhasePlan } from './plan.ts'

/** Sums that the two ends of a load are compared by. */
export interface Counts {
  /** Established: TLS done, the server verified. */
  connections: number
  /** Answered. */
  requests: number
  /** Of bodies. */
  bytesReceived: number
  /** Of bodies, of requests that were answered. */
  bytesSent: number
  errors: number
}

/** What a flow did in one phase, or before the first (`prepare`). */
export interface PhaseCounts extends Counts {
  readonly phase: string
  /** From the schedule (open loop), or the sending (closed loop), to the last byte of the answer. Microseconds, as all of these. */
  readonly latency: EncodedHistogram
  /** From the dial to the established connection. */
  readonly handshake: EncodedHistogram
  /** Open loop: by how much the generator itself was late, with a connection free to send on. */
  readonly lateness: EncodedHistogram
  /** Begun, by the schedule at least, and not answered when the load was over. In `latency` with the time that they had waited by then. */
  readonly unfinished: number
  readonly errorKinds: readonly ErrorCount[]
}

/** What a flow did in one interval, by when it ended. */
export interface Sample extends Counts {
  readonly flow: string
  /** Intervals since the begin. */
  readonly index: number
  readonly latency: EncodedHistogram
}

const noCounts = (): Counts => ({ connections: 0, requests: 0, bytesReceived: 0, bytesSent: 0, errors: 0 })

class PhaseRecorder {
  readonly counts = noCounts()
  readonly latency = new Histogram()
  readonly handshake = new Histogram()
  readonly lateness = new Histogram()
  readonly errors = new ErrorCounts()
  unfinished = 0
}

/** Counts what one flow does, by phase and by interval. Times are of `performance.now()`, milliseconds. */
export class FlowRecorder {
  readonly flow: string
  readonly #phases: readonly PhasePlan[]
  readonly #recorders: readonly PhaseRecorder[]
  readonly #intervalMs: number
  readonly #emit: (sample: Sample) => void
  /** When each phase ends; the first of them is the time before the begin. */
  #ends: readonly number[]
  #interval = noCounts()
  readonly #intervalLatency = new Histogram()
  #index = 0
  #nextIntervalMs = Number.POSITIVE_INFINITY

  constructor(
    flow: string,
    phases: readonly PhasePlan[],
    intervalMs: number,
    emit: (sample: Sample) => void,
  ) {
    this.flow = flow
    this.#phases = phases
    this.#intervalMs = intervalMs
    this.#emit = emit
    this.#recorders = [new PhaseRecorder(), ...phases.map(() => new PhaseRecorder())]
    this.#ends = [Number.POSITIVE_INFINITY]
  }

  begin(startMs: number): void {
    const ends = [startMs]
    for (const { seconds } of this.#phases) ends.push((ends.at(-1) ?? 0) + seconds * 1_000)
    this.#ends = ends
    this.#nextIntervalMs = startMs + this.#intervalMs
    this.#interval = noCounts()
    this.#intervalLatency.clear()
  }

  connected(dialledMs: number, nowMs: number): void {
    const phase = this.#at(dialledMs)
    phase.counts.connections++
    phase.handshake.record((nowMs - dialledMs) * 1_000)
    this.roll(nowMs)
    this.#interval.connections++
  }

  received(bytes: number, nowMs: number): void {
    this.#at(nowMs).counts.bytesReceived += bytes
    this.roll(nowMs)
    this.#interval.bytesReceived += bytes
  }

  answered(intendedMs: number, nowMs: number, bytesSent: number): void {
    const phase = this.#at(intendedMs)
    const microseconds = (nowMs - intendedMs) * 1_000
    phase.counts.requests++
    phase.counts.bytesSent += bytesSent
    phase.latency.record(microseconds)
    this.roll(nowMs)
    this.#interval.requests++
    this.#interval.bytesSent += bytesSent
    this.#intervalLatency.record(microseconds)
  }

  /** `freeMs`: since when it could have been sent. */
  sent(intendedMs: number, freeMs: number, nowMs: number): void {
    this.#at(intendedMs).lateness.record((nowMs - Math.max(intendedMs, freeMs)) * 1_000)
  }

  unfinished(intendedMs: number, nowMs: number): void {
    const phase = this.#at(intendedMs)
    phase.unfinished++
    phase.latency.record((nowMs - intendedMs) * 1_000)
  }

  failed(error: LoadError, nowMs: number): void {
    const phase = this.#at(nowMs)
    phase.counts.errors++
    phase.errors.add(error)
    this.roll(nowMs)
    this.#interval.errors++
  }

  /** Ends the intervals that are over. */
  roll(nowMs: number): void {
    while (nowMs >= this.#nextIntervalMs) {
      this.#emit({
        ...this.#interval,
        flow: this.flow,
        index: this.#index++,
        latency: this.#intervalLatency.encode(),
      })
      this.#interval = noCounts()
      this.#intervalLatency.clear()
      this.#nextIntervalMs += this.#intervalMs
    }
  }

  /** All phases, `prepare` first. */
  result(): PhaseCounts[] {
    return this.#recorders.map(({ counts, latency, handshake, lateness, errors, unfinished }, index) => ({
      phase: index === 0 ? 'prepare' : (this.#phases[index - 1]?.name ?? ''),
      ...counts,
      latency: latency.encode(),
      handshake: handshake.encode(),
      lateness: lateness.encode(),
      unfinished,
      errorKinds: errors.list(),
    }))
  }

  /** What comes after the last phase belongs to it. */
  #at(ms: number): PhaseRecorder {
    let index = 0
    while (index < this.#recorders.length - 1 && ms >= (this.#ends[index] as number)) index++
    return this.#recorders[index] as PhaseRecorder
  }
}
