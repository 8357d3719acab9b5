// What the other benchmarks of this repository wrote with --json, for the document.
import { readFileSync } from 'node:fs'
import { LATENCY_COLUMN, SCALE_COLUMN } from './goals.ts'
import { Figures } from './report.ts'
import { quantile } from './statistics.ts'

export interface Others {
  readonly scale?: { readonly rounds: Figures; readonly idle: Figures }
  readonly discovery?: { readonly rounds: Figures; readonly said: string }
  readonly storm?: { readonly rounds: Figures; readonly said: string }
}

/** What a round of `npm run bench:storm` says of a target, as far as it matters here. */
type StormRound = Readonly<Record<'quiet' | 'during', { readonly latenciesUs: readonly number[] }>>

/** Told apart by their plans; throws where a file is of neither. */
export function readOthers(files: readonly string[]): Others {
  let others: Others = {}
  for (const file of files) {
    const { plan, rounds, idle } = JSON.parse(readFileSync(file, 'utf8'))
    if (plan?.stormRate !== undefined) {
      const said = `${plan.quietRate} small requests a second on ${plan.quietConnections} connections, ${plan.seconds} s without and with ${plan.stormRate} new connections a second.`
      others = { ...others, storm: { rounds: stormFigures(rounds), said } }
    } else if (idle !== undefined) {
      others = { ...others, scale: { rounds: Figures.from(rounds), idle: Figures.from(idle) } }
    } else if (plan?.clients !== undefined) {
      const said = `${plan.clients} Delta sidecars, ${plan.services} services of 10 endpoints; medians of ${plan.rounds} rounds.`
      others = { ...others, discovery: { rounds: Figures.from(rounds), said } }
    } else
      throw new Error(
        `${file} is not what npm run bench:scale, bench:storm or bench:discovery writes with --json`,
      )
  }
  return others
}

function stormFigures(rounds: Readonly<Record<string, readonly StormRound[]>>): Figures {
  const figures = new Figures()
  for (const [target, all] of Object.entries(rounds)) {
    for (const { quiet, during } of all) {
      const ms = (values: readonly number[], q: number): number => quantile(values, q) / 1_000
      figures.add(target, 'p50 in quiet, ms', ms(quiet.latenciesUs, 0.5))
      figures.add(target, 'p50 in the storm, ms', ms(during.latenciesUs, 0.5))
      figures.add(target, 'p99 in quiet, ms', ms(quiet.latenciesUs, 0.99))
      figures.add(target, 'p99 in the storm, ms', ms(during.latenciesUs, 0.99))
      figures.add(target, LATENCY_COLUMN.storm, ms(during.latenciesUs, 0.99) / ms(quiet.latenciesUs, 0.99))
    }
  }
  return figures
}

/** Those figures of theirs that something is wanted of. */
export function addOthers(figures: Figures, { scale, storm }: Others): void {
  for (const target of figures.targets)
    for (const value of storm?.rounds.of(target, LATENCY_COLUMN.storm) ?? [])
      figures.add(target, LATENCY_COLUMN.storm, value)
  if (scale === undefined) return
  for (const [theirs, ours] of Object.entries(SCALE_COLUMN)) {
    for (const target of figures.targets)
      for (const value of scale.rounds.of(target, theirs)) figures.add(target, ours, value)
  }
}
