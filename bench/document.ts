// docs/PERFORMANCE.md: its prose is written, its tables come from a run. A table stands between `<!-- figures: NAME -->` and
// `<!-- /figures -->`, and is replaced; plots are drawn beside the document.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Bar, barChart, type Panel } from './bar-chart.ts'
import { COLUMN } from './cases.ts'
import { LATENCY_COLUMN } from './goals.ts'
import type { Others } from './others.ts'
import type { Figures } from './report.ts'
import type { Results } from './results.ts'
import { sections } from './sections.ts'

const FIGURES = /(<!-- figures: ([\w-]+) -->\n)[\s\S]*?(<!-- \/figures -->)/g

/** The document with its tables filled; throws where it asks for one that there is not. */
export function filled(document: string, tables: Readonly<Record<string, string>>): string {
  return document.replace(FIGURES, (_, begin: string, name: string, end: string) => {
    const table = tables[name]
    if (table === undefined)
      throw new Error(`the document asks for figures "${name}"; there are ${Object.keys(tables).join(', ')}`)
    return `${begin}${table}\n${end}`
  })
}

/** A document with nothing but the tables, where there is none yet. */
function bare(tables: Readonly<Record<string, string>>): string {
  const parts = Object.keys(tables).map(
    (name) => `## ${name}\n<!-- figures: ${name} -->\n<!-- /figures -->\n`,
  )
  return `# Performance\n\n${parts.join('\n')}`
}

/** Writes tables and plots. */
export function writeDocument(file: string, results: Results, others: Others): void {
  const tables = sections(results, others)
  writeFileSync(file, filled(existsSync(file) ? readFileSync(file, 'utf8') : bare(tables), tables))
  const folder = join(dirname(file), 'performance')
  mkdirSync(folder, { recursive: true })
  for (const [name, columns] of Object.entries(PLOTS)) {
    const panels = panelsOf(results.rounds, columns)
    if (panels.length > 0) writeFileSync(join(folder, `${name}.svg`), barChart(panels))
  }
}

const PLOTS: Readonly<Record<string, readonly string[]>> = {
  cpu: [COLUMN.handshake, COLUMN.request, COLUMN.down, COLUMN.up],
  memory: [COLUMN.idle, COLUMN.stalledDown, COLUMN.stalledUp],
  latency: [LATENCY_COLUMN.p50, LATENCY_COLUMN.p99, LATENCY_COLUMN.p999, LATENCY_COLUMN.storm],
}

function panelsOf(figures: Figures, columns: readonly string[]): Panel[] {
  return columns
    .map((title) => ({
      title,
      bars: figures.targets.map((name): Bar => {
        const { low, high } = figures.interval(name, title)
        return { name, value: figures.median(name, title), low, high, ours: name.startsWith('ours') }
      }),
    }))
    .filter(({ bars }) => bars.some(({ value }) => Number.isFinite(value)))
}
