import type { DifferentialContext, Outcome } from './context.ts'

export interface Case {
  /** `group/what`; what the list of differences refers to. */
  readonly id: string
  run(context: DifferentialContext): Promise<Outcome>
}
