// Rounds that can be compared: targets take turns forwards and backwards (ABBA). A fixed piece of work before and after each round says
// whether the machine was as fast as in the others, and the kernel whether somebody else used it meanwhile. A round in which it was not
// steady is thrown away and done again.
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
  /** Thrown away because the machine was faster or slower than usual, or busy with something else. */
  readonly discarded: number
  /** Kept although the machine was not steady: otherwise too few would be left. */
  readonly unsteady: number
}

export interface SteadinessOptions {
  /** Fixed work; answers what it cost, in any unit. */
  readonly calibrate: () => Promise<number>
  /** By which a calibration may be off the median of all; default 0.05. */
  readonly tolerance?: number
  /** CPU that others than this benchmark have used so far, microseconds; default: nobody does. */
  readonly foreign?: () => number
  /** As much of one core may others use during a round; default 0.1, since the kernel's own threads are others too. */
  readonly foreignShare?: number
}

interface Done<T> {
  readonly name: string
  readonly value: T
  /** Mean of the calibrations before and after. */
  readonly calibration: number
  /** Cores that others used. */
  readonly foreign: number
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
  readonly foreignShare: number
  readonly #calibrate: () => Promise<number>
  readonly #foreign: () => number

  constructor({ calibrate, tolerance = 0.05, foreign = () => 0, foreignShare = 0.1 }: SteadinessOptions) {
    this.#calibrate = calibrate
    this.#foreign = foreign
    this.tolerance = tolerance
    this.foreignShare = foreignShare
  }

  /**
   * Does all rounds, then again those that were not steady, in the same direction, the worst first, until all are or `repeats` are
   * spent.
   */
  async measure<T>(rounds: readonly Round<T>[], repeats: number): Promise<Steadied<T>> {
    const done: Done<T>[] = []
    let discarded = 0
    let last = await this.#sample()
    const doRound = async (index: number, round: Round<T>): Promise<void> => {
      const [before, others, started] = [last, this.#foreign(), performance.now()]
      const value = await round.measure()
      const foreign = (this.#foreign() - others) / ((performance.now() - started) * 1_000)
      last = await this.#sample()
      done[index] = { name: round.name, value, calibration: (before + last) / 2, foreign }
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

  /** 0: as steady as can be; over 1: not steady enough. */
  #unsteadiness({ calibration, foreign }: Done<unknown>): number {
    const deviation = Math.abs(calibration / median(this.calibrations) - 1)
    return Math.max(deviation / this.tolerance, foreign / this.foreignShare)
  }

  async #sample(): Promise<number> {
    const value = await this.#calibrate()
    this.calibrations.push(value)
    return value
  }

  #worst(done: readonly Done<unknown>[]): number | undefined {
    const all = done.map((each) => this.#unsteadiness(each))
    const worst = Math.max(...all)
    return worst > 1 ? all.indexOf(worst) : undefined
  }

  #keep<T>(done: readonly Done<T>[]): { readonly kept: T[]; readonly unsteady: number } {
    const chosen = new Set<Done<T>>()
    let unsteady = 0
    for (const same of Map.groupBy(done, ({ name }) => name).values()) {
      const steadiest = [...same].sort((a, b) => this.#unsteadiness(a) - this.#unsteadiness(b))
      const steady = same.filter((each) => this.#unsteadiness(each) <= 1).length
      const count = Math.max(steady, Math.ceil(same.length * LEAST_SHARE))
      for (const each of steadiest.slice(0, count)) chosen.add(each)
      unsteady += count - steady
    }
    return { kept: done.filter((each) => chosen.has(each)).map(({ value }) => value), unsteady }
  }
}
