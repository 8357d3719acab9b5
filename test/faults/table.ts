import type { Outcome } from './fault.ts'

const COLUMNS = [
  'runtime',
  'opened',
  'lost',
  'open ones',
  'wrong bytes',
  'recovery ms',
  'result',
  'fault',
] as const
const WIDTHS = [7, 6, 5, 9, 11, 11, 6, 0] as const

export const HEADING = [line(COLUMNS), line(WIDTHS.map((width) => '-'.repeat(width || 40)))].join('\n')

/** One row; what failed and what was noted stands below it. */
export function rowOf(outcome: Outcome): string {
  const { runtime, fault, opened, lost, established, wrongBytes, recoveryMs, failures, notes } = outcome
  const result = failures.length === 0 ? 'ok' : 'FAILED'
  const cells = [
    runtime,
    opened,
    lost,
    established,
    wrongBytes,
    recoveryMs < 0 ? '-' : recoveryMs,
    result,
    fault,
  ]
  const below = [...notes, ...failures.map((failure) => `FAILED: ${failure}`)]
  return [line(cells), ...below.map((words) => `        ${words}`)].join('\n')
}

export function skipRow(runtime: string, fault: string, why: string): string {
  return `${line([runtime, '-', '-', '-', '-', '-', 'skip', fault])}\n        ${why}`
}

function line(cells: readonly (string | number)[]): string {
  return cells
    .map((cell, i) =>
      i === 0 || i > 5 ? String(cell).padEnd(WIDTHS[i] ?? 0) : String(cell).padStart(WIDTHS[i] ?? 0),
    )
    .join('  ')
}
