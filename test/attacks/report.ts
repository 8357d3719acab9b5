// The catalogue as a table that a person reads.
import type { AttackResult } from './run.ts'

const WIDTH = { title: 52, outcome: 22 }

/** One line per attack: its group, what it was, and for each target what happened, connects and bytes. */
export function table(columns: ReadonlyMap<string, readonly AttackResult[]>): string[] {
  const [first = []] = columns.values()
  const head = [
    'row',
    'input'.padEnd(WIDTH.title),
    ...[...columns.keys()].map((kind) => kind.padEnd(WIDTH.outcome + 8)),
  ]
  return [
    head.join(' '),
    ...first.map(({ attack }, index) =>
      [
        String(attack.row).padStart(3),
        attack.title.slice(0, WIDTH.title).padEnd(WIDTH.title),
        ...[...columns.values()].map((results) => cell(results[index])),
      ]
        .join(' ')
        .trimEnd(),
    ),
  ]
}

function cell(result: AttackResult | undefined): string {
  if (result === undefined) return ''
  const { outcome, connects, bytes, passed, expected } = result
  const told = passed ? outcome : `${outcome}, NOT ${expected}`
  return `${told.padEnd(WIDTH.outcome)} ${String(connects).padStart(2)} ${String(bytes).padStart(3)} `
}
