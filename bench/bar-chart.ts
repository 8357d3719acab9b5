// Plots of the document: panels of horizontal bars with their intervals, as plain SVG that reads on light and on dark pages.

export interface Bar {
  readonly name: string
  readonly value: number
  /** Interval, drawn as a whisker. */
  readonly low: number
  readonly high: number
  /** Ours stand out. */
  readonly ours: boolean
}

export interface Panel {
  readonly title: string
  readonly bars: readonly Bar[]
}

const WIDTH = 420
const NAME_WIDTH = 84
const VALUE_WIDTH = 64
const ROW = 18
const TITLE = 26
const GAP = 14
const PER_LINE = 2

const COLOURS = {
  ours: '#2563eb',
  others: '#94a3b8',
  whisker: '#0f172a',
  text: '#0f172a',
  ground: '#ffffff',
} as const

/** Two panels a line, each with a scale of its own that begins at zero; intervals that are twice as long as the longest bar are cut. */
export function barChart(panels: readonly Panel[]): string {
  const lines = Array.from({ length: Math.ceil(panels.length / PER_LINE) }, (_, line) =>
    panels.slice(line * PER_LINE, (line + 1) * PER_LINE),
  )
  let top = GAP
  const parts: string[] = []
  for (const line of lines) {
    for (const [column, panel] of line.entries())
      parts.push(`<g transform="translate(${GAP + column * (WIDTH + GAP)} ${top})">${drawn(panel)}</g>`)
    top += TITLE + Math.max(...line.map(({ bars }) => bars.length)) * ROW + GAP
  }
  const width = GAP + Math.min(PER_LINE, Math.max(panels.length, 1)) * (WIDTH + GAP)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" width="${width}" height="${top}" font-family="system-ui, sans-serif" font-size="12" fill="${COLOURS.text}">`,
    `<rect width="${width}" height="${top}" fill="${COLOURS.ground}"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n')
}

function drawn({ title, bars }: Panel): string {
  const shown = bars.filter(({ value }) => Number.isFinite(value))
  const longest = Math.max(...shown.map(({ value }) => value), 0)
  const most = Math.min(
    Math.max(...shown.map(({ high }) => high).filter(Number.isFinite), longest),
    2 * longest,
  )
  const scale = (value: number): string =>
    (
      NAME_WIDTH +
      (most === 0 ? 0 : (Math.min(Math.max(value, 0), most) / most) * (WIDTH - NAME_WIDTH - VALUE_WIDTH))
    ).toFixed(1)
  const rows = shown.map(({ name, value, low, high, ours }, index) => {
    const y = TITLE + index * ROW
    const middle = y + ROW / 2 - 2
    const whisker =
      Number.isFinite(low) && Number.isFinite(high)
        ? `<path d="M${scale(low)} ${middle}H${scale(high)}M${scale(low)} ${middle - 4}v8M${scale(high)} ${middle - 4}v8" stroke="${COLOURS.whisker}" fill="none"/>`
        : ''
    return [
      `<text x="${NAME_WIDTH - 6}" y="${middle + 4}" text-anchor="end">${escaped(name)}</text>`,
      `<rect x="${NAME_WIDTH}" y="${y}" width="${(Number(scale(value)) - NAME_WIDTH).toFixed(1)}" height="${ROW - 4}" fill="${ours ? COLOURS.ours : COLOURS.others}"/>`,
      whisker,
      `<text x="${WIDTH}" y="${middle + 4}" text-anchor="end">${short(value)}</text>`,
    ].join('')
  })
  return `<text y="12" font-weight="600">${escaped(title)}</text>${rows.join('\n')}`
}

/** Three digits are what such a figure is worth. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return '-'
  const magnitude = Math.abs(value)
  if (magnitude >= 1_000) return Math.round(Number(value.toPrecision(3))).toLocaleString('en')
  return value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2)
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
