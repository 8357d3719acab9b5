// What the other benchmarks of this repository wrote with --json, for the document.
import { readFileSync } from 'node:fs'
import { SCALE_COLUMN } from './goals.ts'
import { Figures } from './report.ts'

export interface Others {
  readonly scale?: { readonly rounds: Figures; readonly idle: Figures }
  readonly discovery?: { readonly rounds: Figures; readonly said: string }
}

/** Told apart by their plans; throws where a file is of neither. */
export function readOthers(files: readonly string[]): Others {
  let others: Others = {}
  for (const file of files) {
    const { plan, rounds, idle } = JSON.parse(readFileSync(file, 'utf8'))
    if (idle !== undefined) {
      others = { ...others, scale: { rounds: Figures.from(rounds), idle: Figures.from(idle) } }
    } else if (plan?.clients !== undefined) {
      const said = `${plan.clients} Delta sidecars, ${plan.services} services of 10 endpoints; medians of ${plan.rounds} rounds.`
      others = { ...others, discovery: { rounds: Figures.from(rounds), said } }
    } else throw new Error(`${file} is not what npm run bench:scale or bench:discovery writes with --json`)
  }
  return others
}

/** Those figures of theirs that something is wanted of. */
export function addScale(figures: Figures, { scale }: Others): void {
  if (scale === undefined) return
  for (const [theirs, ours] of Object.entries(SCALE_COLUMN)) {
    for (const target of figures.targets)
      for (const value of scale.rounds.of(target, theirs)) figures.add(target, ours, value)
  }
}
