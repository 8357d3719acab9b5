// What was measured, as tables in plain text.
import { type Interval, median, medianInterval } from './statistics.ts'

/** Every round's figures, by target and by column. Rounds of one column belong together: their targets ran one after the other. */
export class Figures {
  readonly #values = new Map<string, Map<string, number[]>>()

  add(target: string, column: string, value: number): void {
    const columns = this.#values.get(target) ?? new Map<string, number[]>()
    columns.set(column, [...(columns.get(column) ?? []), value])
    this.#values.set(target, columns)
  }

  get targets(): string[] {
    return [...this.#values.keys()]
  }

  get columns(): string[] {
    return [...new Set([...this.#values.values()].flatMap((columns) => [...columns.keys()]))]
  }

  of(target: string, column: string): readonly number[] {
    return this.#values.get(target)?.get(column) ?? []
  }

  /** Median over all rounds; NaN where there is none. */
  median(target: string, column: string): number {
    return median(this.of(target, column))
  }

  /** Ratios of each round: what changed between rounds, changed for both. */
  ratios(target: string, other: string, column: string): number[] {
    const divisors = this.of(other, column)
    return this.of(target, column).map((value, round) => value / (divisors[round] ?? Number.NaN))
  }

  /** Median of the ratios of each round. */
  ratio(target: string, other: string, column: string): number {
    return median(this.ratios(target, other, column))
  }

  /** In which the median lies with 95 %. */
  interval(target: string, column: string): Interval {
    return medianInterval(this.of(target, column))
  }

  ratioInterval(target: string, other: string, column: string): Interval {
    return medianInterval(this.ratios(target, other, column))
  }

  toJSON(): Record<string, Record<string, readonly number[]>> {
    return Object.fromEntries(
      [...this.#values].map(([target, columns]) => [target, Object.fromEntries(columns)]),
    )
  }

  static from(json: Readonly<Record<string, Readonly<Record<string, readonly (number | null)[]>>>>): Figures {
    const figures = new Figures()
    for (const [target, columns] of Object.entries(json)) {
      // JSON has no NaN.
      for (const [column, values] of Object.entries(columns))
        for (const value of values) figures.add(target, column, value ?? Number.NaN)
    }
    return figures
  }
}

/** Two tables in plain text: medians by target, and what our targets cost beside others in the same rounds. */
export function report(figures: Figures, pairs: readonly (readonly [ours: string, other: string])[]): string {
  const { columns } = figures
  const medians = figures.targets.map((target) => [
    target,
    ...columns.map((column) =>
      format(figures.median(target, column), figures.median(target, column) < 5 ? 3 : 1),
    ),
  ])
  const ratios = pairs.map(([ours, other]) => [
    `${ours} / ${other}`,
    ...columns.map((column) => format(figures.ratio(ours, other, column), 2)),
  ])
  return `${table(['worker CPU and memory, medians', ...columns], medians)}\n\n${table(['ratios, medians of rounds', ...columns], ratios)}`
}

export const format = (value: number, digits: number): string =>
  Number.isNaN(value) ? '-' : value.toFixed(digits)

/** Headings over several lines, since they are longer than what stands below. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const headings = head.map((title, index) => (index === 0 ? [title] : wrapped(title, 16)))
  const height = Math.max(...headings.map((lines) => lines.length))
  const widths = head.map((_, index) =>
    Math.max(
      ...(headings[index] ?? []).map((line) => line.length),
      ...rows.map((row) => row[index]?.length ?? 0),
    ),
  )
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[index] ?? 0)))
      .join('  ')
  const top = Array.from({ length: height }, (_, at) => line(headings.map((lines) => lines[at] ?? '')))
  return [...top, ...rows.map(line)].join('\n')
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}
