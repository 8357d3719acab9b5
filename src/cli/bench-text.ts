// What `isthmus bench` says: a line for each second on the way, and tables at the end.
import type { FlowResult, LoadResult, SampleResult } from '../load/load-result.ts'
import type { LoadPlan } from '../load/plan.ts'
import { flowNotes, flowRows, isHeld, RESULT_HEAD } from '../load/report/result-rows.ts'
import { formatMicroseconds, formatNumber, megabytes } from '../load/report/units.ts'
import { verdictOf } from '../load/verdict.ts'

/** Of one interval of all processes. */
export function progressLine(sample: SampleResult, flow: string): string {
  const { endSeconds, seconds, requests, connections, bytesReceived, bytesSent, errors, latency } = sample
  const bytes = bytesReceived + bytesSent
  return [
    `${endSeconds.toFixed(1).padStart(6)} s`,
    flow,
    `${formatNumber(requests / seconds)} requests/s`,
    ...(connections > 0 ? [`${formatNumber(connections / seconds)} connections/s`] : []),
    ...(bytes > 0 ? [`${megabytes(bytes / seconds)} MB/s`] : []),
    ...[0.5, 0.99].flatMap((q) =>
      latency.count > 0 ? [`p${q * 100} ${formatMicroseconds(latency.quantile(q))}`] : [],
    ),
    ...(errors > 0 ? [`${formatNumber(errors)} errors`] : []),
  ].join('  ')
}

/** The whole result. */
export function resultText(plan: LoadPlan, result: LoadResult): string {
  const { words } = verdictOf(result)
  const flows = result.flows.flatMap((flow) => [...flowText(plan, flow), ''])
  return `${[...flows, ...words.map((one) => `${one[0]?.toUpperCase()}${one.slice(1)}.`)].join('\n')}\n`
}

function flowText(plan: LoadPlan, flow: FlowResult): string[] {
  const notes = flowNotes(plan, flow)
  if (isHeld(flow)) return notes
  return [...table([RESULT_HEAD, ...flowRows(plan, flow)]), ...notes.map((note) => `  ${note}`)]
}

/** The first column to the left, numbers to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = RESULT_HEAD.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const padded = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)
  return rows.map((row) => row.map(padded).join('  ').trimEnd())
}
