// A result as one HTML page that needs nothing else: tables, and plots as inline SVG. It is well-formed XML too.
import type { Histogram } from '../histogram.ts'
import type { FlowResult, LoadResult, SampleResult } from '../load-result.ts'
import { type LoadPlan, planMs } from '../plan.ts'
import { verdictOf } from '../verdict.ts'
import { flowNotes, flowRows, isHeld, measuredPhases, RESULT_HEAD } from './result-rows.ts'
import { escapeText, type Plot, SERIES_COLOURS, type Series, svgPlot, type Tick } from './svg-plot.ts'
import { formatMicroseconds, formatNumber } from './units.ts'

/** Most of the points of a latency curve lie where it is steep: x is the number of nines. */
const NINES = [0, 1, 2, 3, 4, 5]
const STEPS_PER_NINE = 20

export interface ReportFacts {
  readonly title: string
  /** What was done, line by line. */
  readonly lines: readonly string[]
  /** When it began. */
  readonly at: Date
}

export function htmlReport(plan: LoadPlan, result: LoadResult, { title, lines, at }: ReportFacts): string {
  const { words, limited } = verdictOf(result)
  const asking = result.flows.filter((flow) => !isHeld(flow))
  const plots =
    asking.length === 0
      ? []
      : [latencyPlot(plan, asking), throughputPlot(plan, asking), latencyOverTime(plan, asking)]
  const body = [
    `<h1>${escapeText(title)}</h1>`,
    `<p>${[...lines, at.toISOString()].map(escapeText).join('<br/>')}</p>`,
    `<p class="${limited ? 'limited' : 'fine'}">${words.map((one) => escapeText(`${one}.`)).join('<br/>')}</p>`,
    ...(asking.length === 0
      ? []
      : [
          tableOf(
            RESULT_HEAD,
            asking.flatMap((flow) => flowRows(plan, flow)),
          ),
        ]),
    ...result.flows.flatMap((flow) => flowNotes(plan, flow)).map((note) => `<p>${escapeText(note)}</p>`),
    ...plots.map(figure),
    '<h2>The load generator</h2>',
    tableOf(
      ['process', 'of a core', 'waited for a core', 'CPU seconds'],
      result.processes.map(({ cpu, waited, cpuSeconds }, index) => [
        `${index + 1}`,
        `${Math.round(cpu * 100)} %`,
        `${Math.round(waited * 100)} %`,
        formatNumber(cpuSeconds),
      ]),
    ),
  ]
  return `<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>${escapeText(title)}</title>
<style>
${STYLE}
</style>
</head>
<body>
${body.join('\n')}
</body>
</html>
`
}

function figure(plot: Plot): string {
  const names = plot.series.map(
    ({ name }, index) => `<span class="key c${index % SERIES_COLOURS}">${escapeText(name)}</span>`,
  )
  return `<figure>\n<figcaption>${escapeText(plot.title)} ${names.join(' ')}</figcaption>\n${svgPlot(plot)}\n</figure>`
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeText(cell)}</${tag}>`).join('')}</tr>`
  return `<table>\n<thead>${row(head, 'th')}</thead>\n<tbody>\n${rows.map((cells) => row(cells, 'td')).join('\n')}\n</tbody>\n</table>`
}

/** A curve for each phase: which part of the requests was answered within which time. */
function latencyPlot(plan: LoadPlan, flows: readonly FlowResult[]): Plot {
  const series = flows.flatMap((flow) =>
    measuredPhases(plan, flow).map((phase, _index, all) => ({
      name: all.length > 1 ? `${flow.name}, ${phase.name}` : flow.name,
      points: quantileCurve(phase.latency),
    })),
  )
  return {
    title: 'Latency by part of the requests',
    series,
    xLabel: 'part of the requests that were answered within the time',
    xTicks: NINES.map((nines) => ({
      at: nines,
      label: nines === 0 ? '0' : `${(100 * (1 - 10 ** -nines)).toFixed(Math.max(0, nines - 2))} %`,
    })),
    yLabel: formatMicroseconds,
    logarithmic: true,
  }
}

/** As far as there are values enough to speak of. */
function quantileCurve(latency: Histogram): (readonly [number, number])[] {
  if (latency.count === 0) return []
  const most = Math.min(NINES.length - 1, Math.log10(latency.count))
  const steps = Math.max(1, Math.floor(most * STEPS_PER_NINE))
  return Array.from({ length: steps + 1 }, (_, step) => {
    const nines = step / STEPS_PER_NINE
    return [nines, Math.max(1, latency.quantile(1 - 10 ** -nines))] as const
  })
}

function throughputPlot(plan: LoadPlan, flows: readonly FlowResult[]): Plot {
  return {
    ...overTime(plan),
    title: 'Requests per second over time',
    series: flows.map(({ name, samples }) => ({
      name,
      points: withinPlan(plan, samples).map(
        ({ endSeconds, seconds, requests }) => [endSeconds, requests / seconds] as const,
      ),
    })),
    yLabel: formatNumber,
  }
}

function latencyOverTime(plan: LoadPlan, flows: readonly FlowResult[]): Plot {
  const series = flows.flatMap(({ name, samples }): Series[] =>
    [0.5, 0.99].map((q) => ({
      name: `${name}, p${q * 100}`,
      points: withinPlan(plan, samples).map(
        ({ endSeconds, latency }) =>
          [endSeconds, latency.count > 0 ? latency.quantile(q) : Number.NaN] as const,
      ),
    })),
  )
  return {
    ...overTime(plan),
    title: 'Latency over time',
    series,
    yLabel: formatMicroseconds,
    logarithmic: true,
  }
}

/** What was under way at the end is answered after it. */
function withinPlan(plan: LoadPlan, samples: readonly SampleResult[]): readonly SampleResult[] {
  return samples.filter(({ endSeconds }) => endSeconds * 1_000 <= planMs(plan))
}

/** The axis of time, with the begin of each phase. */
function overTime(plan: LoadPlan): Pick<Plot, 'xLabel' | 'xTicks' | 'marks'> {
  const seconds = planMs(plan) / 1_000
  const step = [0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1_800].find((each) => seconds / each <= 10) ?? 3_600
  const xTicks = Array.from({ length: Math.ceil(seconds / step) + 1 }, (_, index) => ({
    at: index * step,
    label: formatNumber(index * step),
  }))
  let at = 0
  const marks: Tick[] = plan.phases.map(({ name, seconds }) => {
    const mark = { at, label: name }
    at += seconds
    return mark
  })
  return { xLabel: 'seconds since the begin', xTicks, marks: plan.phases.length > 1 ? marks : [] }
}

const STYLE = `:root { --text: #1b1f24; --page: #ffffff; --soft: #d5d9de; --c0: #0b63c4; --c1: #c2410c; --c2: #15803d; --c3: #7e22ce; --c4: #a16207; --c5: #be185d; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ed; --page: #15181c; --soft: #3a4048; --c0: #6cb0ff; --c1: #ff9d66; --c2: #6fd08c; --c3: #c79bff; --c4: #e6c15c; --c5: #ff8cc0; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--soft); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; } .key { font-weight: 400; margin-left: .8rem; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--text); }
.grid { stroke: var(--soft); } .mark { stroke: var(--text); stroke-dasharray: 3 3; opacity: .6; }
.line { fill: none; stroke-width: 2; }
${Array.from({ length: SERIES_COLOURS }, (_, index) => `.line.c${index} { stroke: var(--c${index}); } .key.c${index} { color: var(--c${index}); }`).join('\n')}
.limited { border-left: 4px solid var(--c1); padding-left: .8rem; } .fine { border-left: 4px solid var(--c2); padding-left: .8rem; }`
