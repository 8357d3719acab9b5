// Line plots as SVG, for a page that has nothing but itself: colours are the page's CSS variables, so that it reads in dark and light.

export interface Series {
  readonly name: string
  /** In order of x. A y that is no number, or not over 0 on a logarithmic axis, is a gap. */
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface Tick {
  readonly at: number
  readonly label: string
}

export interface Plot {
  readonly title: string
  readonly series: readonly Series[]
  readonly xLabel: string
  readonly xTicks: readonly Tick[]
  /** Values of y as text. */
  readonly yLabel: (value: number) => string
  readonly logarithmic?: boolean
  /** Vertical lines with a word each: where a phase begins. */
  readonly marks?: readonly Tick[]
}

const WIDTH = 760
const HEIGHT = 300
const LEFT = 76
const RIGHT = 16
const TOP = 28
const BOTTOM = 44
/** Colours that the page has; lines differ by dashes too, for those who cannot tell colours. */
export const SERIES_COLOURS = 6
const DASHES = ['none', '7 3', '2 3', '9 3 2 3', '12 4', '4 4']

export function svgPlot(plot: Plot): string {
  const xs = plot.xTicks.map(({ at }) => at)
  const x = scale(Math.min(...xs), Math.max(...xs), LEFT, WIDTH - RIGHT)
  const ticks = yTicks(plot)
  const transform = plot.logarithmic === true ? Math.log10 : (value: number) => value
  const first = transform(ticks[0] ?? 0)
  const last = transform(ticks.at(-1) ?? 1)
  const linear = scale(first, last, HEIGHT - BOTTOM, TOP)
  const y = (value: number) => linear(transform(value))
  const visible = (value: number) => Number.isFinite(value) && (plot.logarithmic !== true || value > 0)
  return [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeText(plot.title)}" xmlns="http://www.w3.org/2000/svg">`,
    ...ticks.flatMap((at) => [
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${fixed(y(at))}" y2="${fixed(y(at))}"/>`,
      label(LEFT - 6, y(at) + 4, plot.yLabel(at), 'end'),
    ]),
    ...plot.xTicks.map(({ at, label: text }) => label(x(at), HEIGHT - BOTTOM + 16, text, 'middle')),
    ...(plot.marks ?? []).flatMap(({ at, label: text }) => [
      `<line class="mark" x1="${fixed(x(at))}" x2="${fixed(x(at))}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>`,
      label(x(at) + 4, TOP - 6, text, 'start'),
    ]),
    label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, plot.xLabel, 'middle'),
    ...plot.series.map(({ points }, index) => {
      const style = `class="line c${index % SERIES_COLOURS}" stroke-dasharray="${DASHES[index % DASHES.length]}"`
      return `<path ${style} d="${pathOf(points, x, y, visible)}"/>`
    }),
    '</svg>',
  ].join('\n')
}

/** Text that may stand in an element or in a quoted attribute, of HTML and of XML. */
export function escapeText(text: string): string {
  const named: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  }
  // Control characters are no XML at all; a message of a peer may have some.
  return text
    .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '\ufffd')
    .replaceAll(/[&<>"']/g, (one) => named[one] ?? one)
}

/** Where a path stands still it has its points left out: a flat line of a thousand points is two. */
function pathOf(
  points: Series['points'],
  x: (value: number) => number,
  y: (value: number) => number,
  visible: (value: number) => boolean,
): string {
  let path = ''
  let drawing = false
  for (const [at, value] of points) {
    if (!visible(value)) {
      drawing = false
      continue
    }
    path += `${drawing ? 'L' : 'M'}${fixed(x(at))} ${fixed(y(value))}`
    drawing = true
  }
  return path
}

/** Values on the axis: 1, 2 and 5 of each decade where it is logarithmic and short, else some four round ones from 0. */
function yTicks({ series, logarithmic }: Plot): number[] {
  const values = series
    .flatMap(({ points }) => points.map(([, value]) => value))
    .filter((value) => value > 0 && Number.isFinite(value))
  const most = Math.max(1e-9, ...values)
  if (logarithmic === true) {
    const low = Math.floor(Math.log10(Math.min(most, ...values)))
    const high = Math.ceil(Math.log10(most) + 1e-9)
    const steps = high - low > 3 ? [1] : [1, 2, 5]
    const ticks: number[] = []
    for (let decade = low; decade <= high; decade++) for (const step of steps) ticks.push(step * 10 ** decade)
    // From the last below everything to the first above everything.
    const from = ticks.findLastIndex((tick) => tick <= Math.min(most, ...values))
    const to = ticks.findIndex((tick) => tick >= most)
    return ticks.slice(Math.max(0, from), to + 1)
  }
  const rough = most / 4
  const unit = 10 ** Math.floor(Math.log10(rough))
  const step = unit * ([1, 2, 2.5, 5, 10].find((factor) => factor * unit >= rough) ?? 10)
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => index * step)
}

function scale(from: number, to: number, low: number, high: number): (value: number) => number {
  return (value) => low + ((value - from) / (to - from || 1)) * (high - low)
}

function label(x: number, y: number, text: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${fixed(x)}" y="${fixed(y)}" text-anchor="${anchor}">${escapeText(text)}</text>`
}

const fixed = (value: number): string => value.toFixed(1)
