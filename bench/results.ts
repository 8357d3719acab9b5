// All that a run has to say: what --json writes, and what reports and documents are made from.
import type { Offered } from './latency.ts'
import type { Machine } from './machine.ts'
import type { Plan } from './options.ts'
import type { Profile } from './profile.ts'
import { Figures } from './report.ts'

export interface Results {
  /** ISO 8601. */
  readonly date: string
  readonly commit: string
  readonly machine: Machine
  /** Who ran on which CPU. */
  readonly placement: string
  readonly plan: Plan
  /** Seconds that the run took. */
  readonly took: number
  /** Versions, by target. */
  readonly programs: Readonly<Record<string, string>>
  /** TLS libraries, by target. */
  readonly libraries: Readonly<Record<string, string>>
  /** What the load and a target agreed on. */
  readonly negotiated: Readonly<Record<string, string>>
  readonly rounds: Figures
  /** How the load went in those rounds. */
  readonly load: Figures
  readonly steadiness: {
    readonly tolerance: number
    readonly foreignShare: number
    /** CPU of the fixed work, microseconds: median, least and most over the run. */
    readonly calibration: { readonly median: number; readonly least: number; readonly most: number }
    readonly rounds: number
    readonly discarded: number
    readonly unsteady: number
  }
  /** Requests a second that everybody was offered, and how that came about. */
  readonly offered?: Offered
  readonly profiles: readonly Profile[]
  readonly problems: readonly string[]
}

export function parseResults(text: string): Results {
  const json = JSON.parse(text)
  return { ...json, rounds: Figures.from(json.rounds), load: Figures.from(json.load ?? {}) }
}
