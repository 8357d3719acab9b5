import type { DrainReport } from '../engine.ts'

/** The reports of several workers as one. */
export function sumReports(reports: readonly DrainReport[]): DrainReport {
  const cut: Record<string, number> = {}
  for (const report of reports)
    for (const [name, count] of Object.entries(report.cut)) cut[name] = (cut[name] ?? 0) + count
  return { finished: reports.reduce((sum, { finished }) => sum + finished, 0), cut }
}
