// What a process of the load and the one that started it tell each other: a line of JSON each.
import type { PhaseCounts, Sample } from './flow-recorder.ts'
import type { LoadPlan } from './plan.ts'
import type { ProcessLoad } from './process-load.ts'

export type ToGenerator =
  /** Open the connections that the plan wants to be there from the begin. */
  | { readonly prepare: LoadPlan; readonly index: number }
  /** Milliseconds since the epoch: when all processes begin. */
  | { readonly begin: number }
  /** End all connections. */
  | { readonly release: true }

export interface GeneratorFlow {
  readonly name: string
  /** All phases, `prepare` first. */
  readonly phases: readonly PhaseCounts[]
}

export interface GeneratorResult {
  readonly flows: readonly GeneratorFlow[]
  readonly load: ProcessLoad
}

export type FromGenerator =
  | { readonly ready: true }
  /** Why there is no load; one sentence. */
  | { readonly refused: string }
  | { readonly prepared: readonly GeneratorFlow[] }
  | { readonly sample: Sample }
  | { readonly result: GeneratorResult }
  | { readonly released: true }
