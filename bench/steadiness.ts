// Rounds that can be compared: targets take turns forwards and backwards (ABBA), and a fixed piece of work before and after each
// round says whether the machine was as fast as in the others. A round in which it was not is thrown away and done again.
import { median } from './statistics.ts'

/** Odd rounds go backwards: what drifts during two rounds, drifts for everybody. */
export function inTurn<T>(items: readonly T[], round: number): readonly T[] {
  return round % 2 === 0 ? items : [...items].reverse()
}

/** One round: every target once. What it measured is handed over, so that it counts only once it is known to be good. */
export interface Round<T> {
  /** What is measured: of each, enough rounds must be left. */
  readonly name: string
  readonly measure: () => Promise<T>
}

export interface Steadied<T> {
  /** In the order of the rounds that were asked for; what was thrown away and not done again is not there. */
  readonly kept: readonly T[]
  /** Thrown away because the machine was faster or slower than usual. */
  readonly discarded: number
  /** Kept although the machine had moved: otherwise too few would be left. */
  readonly unsteady: number
}

export interface SteadinessOptions {
  /** Fixed work; answers what it cost, in any unit. */
  readonly calibrate: () => Promise<number>
  /** Of the median over all calibrations; default 0.05. */
  readonly tolerance?: number
}

interface Done<T> {
  readonly name: string
  readonly value: T
  /** Mean of the calibrations before and after. */
  readonly calibration: number
}

/** At least this share of the rounds of one name is kept, the steadiest of them. */
const LEAST_SHARE = 0.5

export class Steadiness {
  readonly tolerance: number
  /** Of every calibration of this run. */
  readonly calibrations: number[] = []
  rounds = 0
  discarded = 0
  unsteady = 0
  readonly #calibrate: () => Promise<number>

  constructor({ calibrate, tolerance = 0.05 }: SteadinessOptions) {
    this.#calibrate = calibrate
    this.tolerance = tolerance
  }

  /**
   * Does all rounds, then again those that deviate, in the same direction, until none does or `repeats` are spent. Deviation is that
   * of the mean of the calibrations before and after a round from the median of all.
   */
  async measure<T>(rounds: readonly Round<T>[], repeats: number): Promise<Steadied<T>> {
    const done: Done<T>[] = []
    let discarded = 0
    let last = await this.#sample()
    const doRound = async (index: number, round: Round<T>): Promise<void> => {
      const before = last
      const value = await round.measure()
      last = await this.#sample()
      done[index] = { name: round.name, value, calibration: (before + last) / 2 }
    }
    for (const [index, round] of rounds.entries()) await doRound(index, round)
    for (let left = repeats; left > 0; left--) {
      const index = this.#worst(done)
      if (index === undefined) break
      discarded++
      last = await this.#sample()
      await doRound(index, rounds[index] as Round<T>)
    }
    const { kept, unsteady } = this.#keep(done)
    discarded += done.length - kept.length
    this.rounds += kept.length
    this.discarded += discarded
    this.unsteady += unsteady
    return { kept, discarded, unsteady }
  }

  /** By how much a calibration differs from what is usual. */
  deviation(calibration: number): number {
    return Math.abs(calibration / median(this.calibrations) - 1)
  }

  async #sample(): Promise<number> {
    const value = await this.#calibrate()
    this.calibrations.push(value)
    return value
  }

  #worst(done: readonly Done<unknown>[]): number | undefined {
    const deviations = done.map(({ calibration }) => this.deviation(calibration))
    const worst = Math.max(...deviations)
    return worst > this.tolerance ? deviations.indexOf(worst) : undefined
  }

  #keep<T>(done: readonly Done<T>[]): { readonly kept: T[]; readonly unsteady: number } {
    const chosen = new Set<Done<T>>()
    let unsteady = 0
    for (const same of Map.groupBy(done, ({ name }) => name).values()) {
      const byDeviation = [...same].sort(
        (a, b) => this.deviation(a.calibration) - this.deviation(b.calibration),
      )
      const steady = same.filter(({ calibration }) => this.deviation(calibration) <= this.tolerance).length
      const count = Math.max(steady, Math.ceil(same.length * LEAST_SHARE))
      for (const each of byDeviation.slice(0, count)) chosen.add(each)
      unsteady += count - steady
    }
    return { kept: done.filter((each) => chosen.has(each)).map(({ value }) => value), unsteady }
  }
}
