import { StepFailed } from './stage.ts'

/** The message of what was thrown; the stack too where it is nothing that was expected to happen. */
export function formatProblemOrError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof StepFailed) return error.message
  return 'code' in error || error.stack === undefined ? error.message : error.stack
}
