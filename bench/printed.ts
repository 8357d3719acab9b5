// A run in plain text, for the terminal.
import { judge } from './goals.ts'
import { format, report, table } from './report.ts'
import type { Results } from './results.ts'
import { PEERS, targetCalled } from './targets.ts'

export function printed(results: Results): string {
  const { rounds: figures, programs, libraries, steadiness } = results
  const named = Object.entries(programs).map(([name, version]) => `${name} ${version} (${libraries[name]})`)
  const { median, least, most } = steadiness.calibration
  const parts = [
    `One worker or thread each: ${named.join(', ')}.`,
    `${results.placement}; ${Object.values(results.negotiated)[0] ?? 'nothing negotiated'}.`,
    report(figures, pairsOf(Object.keys(programs))),
  ]
  if (steadiness.rounds > 0)
    parts.push(
      `${steadiness.rounds} rounds; ${steadiness.discarded} more were thrown away because the fixed work cost over ${steadiness.tolerance * 100} % more or less than usual` +
        ` (median ${(median / 1000).toFixed(1)} ms, ${(least / 1000).toFixed(1)} to ${(most / 1000).toFixed(1)}), or because others used over ${steadiness.foreignShare * 100} % of a core` +
        (steadiness.unsteady > 0
          ? `; ${steadiness.unsteady} of those kept were no better: the machine is not quiet`
          : ''),
    )
  if (results.offered !== undefined) parts.push(`At half capacity: ${results.offered.said}.`)
  if (results.plan.peers) parts.push(goals(results))
  return parts.join('\n\n')
}

function goals({ rounds }: Results): string {
  const rows = judge(rounds).map(({ target, column, beside, most, measured, interval, verdict, close }) => [
    `${target}: ${column}${beside === undefined ? '' : ` / ${beside}`}`,
    `≤ ${most}`,
    format(measured, 2),
    `${format(interval.low, 2)} to ${format(interval.high, 2)}`,
    verdict + (close && verdict !== 'not measured' ? ', closely' : ''),
  ])
  return table(['what we want', 'at most', 'measured', '95 %', ''], rows)
}

/** Each of ours with its floor, with each peer, and with what else is the same target. */
function pairsOf(names: readonly string[]): (readonly [string, string])[] {
  const base = (name: string): string => name.split(/[@:]/)[0] ?? ''
  return names.flatMap((ours, index) =>
    names.flatMap((other, at): [string, string][] => {
      const floor = targetCalled(ours)?.floor
      const beside = base(other) === floor || PEERS.includes(other)
      const same = other === base(ours) && at < index
      return floor !== undefined && (beside || same) ? [[ours, other]] : []
    }),
  )
}
