// The tables of the document, in Markdown.
import { short } from './bar-chart.ts'
import { COLUMN } from './cases.ts'
import { type Judged, judge, LATENCY_COLUMN } from './goals.ts'
import { LATENCY_LOAD } from './latency.ts'
import { loadColumns } from './measure.ts'
import type { Others } from './others.ts'
import { SHARES } from './profile.ts'
import type { Figures } from './report.ts'
import type { Results } from './results.ts'
import type { Interval } from './statistics.ts'
import { PEERS } from './targets.ts'

const CPU = [COLUMN.handshake, COLUMN.request, COLUMN.down, COLUMN.up]
const MEMORY = [COLUMN.idle, COLUMN.stalledDown, COLUMN.stalledUp]
const LATENCY = [LATENCY_COLUMN.p50, LATENCY_COLUMN.p99, LATENCY_COLUMN.p999]
const NOTHING = '*Not measured in this run.*'

export function sections(results: Results, others: Others): Record<string, string> {
  const { rounds } = results
  return {
    run: run(results),
    goals: goals(judge(rounds)),
    missed: missed(judge(rounds)),
    cpu: medians(rounds, CPU),
    'cpu-ratios': ratios(rounds, CPU),
    core: core(rounds),
    memory: medians(rounds, MEMORY),
    'memory-ratios': ratios(rounds, MEMORY),
    latency: latency(results),
    'latency-ratios': ratios(rounds, LATENCY),
    storm: others.storm === undefined ? NOTHING : said(others.storm),
    busy: busy(results),
    profile: profiles(results),
    scale: others.scale === undefined ? NOTHING : byTarget(others.scale.rounds),
    idle: others.scale === undefined ? NOTHING : byTarget(others.scale.idle),
    discovery: others.discovery === undefined ? NOTHING : said(others.discovery),
  }
}

function run(results: Results): string {
  const { machine, steadiness, plan, libraries, programs, negotiated } = results
  const { median: usual, least, most } = steadiness.calibration
  const per = (value: number): string =>
    `${value >= 1 ? '+' : '−'}${(Math.abs(value - 1) * 100).toFixed(1)} %`
  const lines = [
    [
      'date',
      `${results.date.slice(0, 10)}, ${Math.ceil(results.took / 60)} minutes, commit ${results.commit || 'unknown'}`,
    ],
    [
      'machine',
      `${machine.cpus} CPUs (${machine.cpu}${machine.virtual ? ', virtual' : ''}), ${(machine.memory / 2 ** 30).toFixed(0)} GB, ${machine.system}, Linux ${machine.kernel}, ${machine.descriptors} descriptors, load average before ${machine.loadBefore.toFixed(1)}`,
    ],
    ['who ran where', results.placement],
    ...Object.keys(programs).map((name) => [
      name,
      `${programs[name]}, ${libraries[name]}; ${negotiated[name] ?? ''}`,
    ]),
    [
      'rounds',
      `${plan.rounds} of each case, ${plan.seconds} s of load for each target in a round; memory ${plan.memoryRounds}; latency ${plan.latencyRounds} of ${plan.latencySeconds} s`,
    ],
    [
      'steadiness',
      `the fixed work cost ${(usual / 1_000).toFixed(1)} ms, ${per(least / usual)} to ${per(most / usual)}; ${steadiness.discarded} rounds thrown away because of that or because others used the machine, ${steadiness.rounds} kept` +
        (steadiness.unsteady > 0 ? `, ${steadiness.unsteady} of them although they were off` : ''),
    ],
    ...(results.offered === undefined ? [] : [['half capacity', results.offered.said]]),
  ]
  return table(['', ''], lines as string[][], true)
}

function goals(judged: readonly Judged[]): string {
  return table(
    ['target', 'what', 'beside', 'at most', 'measured', '95 %', ''],
    judged.map(({ target, column, beside, most, measured, interval, verdict, close }) => [
      target,
      column,
      beside ?? '',
      `${most}${beside === undefined ? '' : '×'}`,
      short(measured),
      between(interval),
      verdict === 'missed'
        ? `**missed**${close ? ', closely' : ''}`
        : verdict + (close && verdict === 'met' ? ', closely' : ''),
    ]),
    true,
  )
}

function missed(judged: readonly Judged[]): string {
  const lines = judged
    .filter(({ verdict }) => verdict === 'missed')
    .map(
      ({ target, column, beside, most, measured, interval }) =>
        `- ${target}, ${column}${beside === undefined ? '' : ` beside ${beside}`}: ${short(measured)} (${between(interval)}), wanted ${most}`,
    )
  return lines.length === 0 ? 'None.' : lines.join('\n')
}

/** Medians with their intervals, a line for each target. */
function medians(figures: Figures, columns: readonly string[]): string {
  const measured = columns.filter((column) =>
    figures.targets.some((target) => figures.of(target, column).length > 0),
  )
  if (measured.length === 0) return NOTHING
  return table(
    ['', ...measured],
    figures.targets.map((target) => [
      target,
      ...measured.map((column) =>
        withInterval(figures.median(target, column), figures.interval(target, column)),
      ),
    ]),
  )
}

function ratios(figures: Figures, columns: readonly string[]): string {
  const ours = figures.targets.filter((name) => name.startsWith('ours'))
  const pairs = ours.flatMap((name) =>
    PEERS.filter((peer) => figures.targets.includes(peer)).map((peer) => [name, peer] as const),
  )
  const measured = columns.filter((column) => pairs.some(([name]) => figures.of(name, column).length > 0))
  if (measured.length === 0) return NOTHING
  return table(
    ['', ...measured.map((column) => column.replace(/^(µs|KB) per /, ''))],
    pairs.map(([name, peer]) => [
      `${name} / ${peer}`,
      ...measured.map((column) =>
        withInterval(figures.ratio(name, peer, column), figures.ratioInterval(name, peer, column)),
      ),
    ]),
  )
}

/** What one core does, if it does nothing else. */
function core(figures: Figures): string {
  const perSecond = (target: string, column: string): number => 1e6 / figures.median(target, column)
  const gigabits = (target: string, column: string): string => short((perSecond(target, column) * 8) / 1_000)
  if (figures.columns.every((column) => !CPU.includes(column as never))) return NOTHING
  return table(
    [
      '',
      'handshakes a second',
      'requests of 1 KB a second',
      'Gbit/s down',
      'Gbit/s up',
      'idle connections a GB',
    ],
    figures.targets.map((target) => [
      target,
      short(perSecond(target, COLUMN.handshake)),
      short(perSecond(target, COLUMN.request)),
      gigabits(target, COLUMN.down),
      gigabits(target, COLUMN.up),
      short(2 ** 20 / figures.median(target, COLUMN.idle)),
    ]),
  )
}

function latency({ rounds, load }: Results): string {
  const measured = rounds.targets.filter((target) => rounds.of(target, LATENCY_COLUMN.p99).length > 0)
  if (measured.length === 0) return NOTHING
  return table(
    [
      '',
      ...LATENCY.map((column) => column.replace(' at half capacity', '')),
      'target busy',
      'load late by (p99), ms',
    ],
    measured.map((target) => [
      target,
      ...LATENCY.map((column) =>
        withInterval(rounds.median(target, column), rounds.interval(target, column)),
      ),
      percent(load.median(target, LATENCY_LOAD.busy)),
      short(load.median(target, LATENCY_LOAD.late)),
    ]),
  )
}

/** How busy the target and the client were in the closed loop, and the rate that came of it. */
function busy({ load }: Results): string {
  const cases = CPU.filter((name) =>
    load.targets.some((target) => load.of(target, loadColumns(name).rate).length > 0),
  )
  if (cases.length === 0) return NOTHING
  return table(
    ['', ...cases.map((name) => name.replace(/^µs per /, ''))],
    load.targets.map((target) => [
      target,
      ...cases.map((name) => {
        const { rate, busy: share, client } = loadColumns(name)
        return `${short(load.median(target, rate))}/s, target ${percent(load.median(target, share))}, client ${percent(load.median(target, client))}`
      }),
    ]),
  )
}

function profiles({ profiles: all }: Results): string {
  if (all.length === 0) return NOTHING
  return table(
    ['', 'load', ...SHARES, 'samples', 'most in'],
    all.map(({ target, load, shares, stripped, samples, top }) => [
      target,
      load,
      ...SHARES.map((share) => (stripped && share === 'crypto' ? 'in the rest' : percent(shares[share]))),
      String(samples),
      top
        .filter(([symbol]) => !/0x[0-9a-f]+$/.test(symbol))
        .slice(0, 3)
        .map(([symbol, share]) => `\`${symbol.slice(0, 40)}\` ${percent(share)}`)
        .join(', '),
    ]),
  )
}

/** A line for each figure, a column for each target. */
function byTarget(figures: Figures): string {
  return table(
    ['', ...figures.targets],
    figures.columns.map((column) => [
      column,
      ...figures.targets.map((target) => short(figures.median(target, column))),
    ]),
  )
}

function said({ rounds, said: first }: { readonly rounds: Figures; readonly said: string }): string {
  return `${first}\n\n${byTarget(rounds)}`
}

const percent = (share: number): string => (Number.isFinite(share) ? `${Math.round(share * 100)} %` : '-')

/** With how much it covers, where that is under 95 %. */
const between = ({ low, high, coverage }: Interval): string => {
  if (!Number.isFinite(low)) return '-'
  return `${short(low)}–${short(high)}${coverage < 0.95 ? `, ${percent(coverage)}` : ''}`
}

const withInterval = (value: number, interval: Interval): string =>
  Number.isFinite(value) ? `${short(value)} (${between(interval)})` : '-'

/** Figures to the right, unless `left`. */
function table(head: readonly string[], rows: readonly (readonly string[])[], left = false): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  const rule = head.map((_, index) => (index === 0 || left ? '---' : '---:'))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}
