// What we want, held against what was measured: a goal that is missed is listed as missed.
import { COLUMN } from './cases.ts'
import type { Figures } from './report.ts'
import { type Interval, median, medianInterval } from './statistics.ts'

export interface Goal {
  readonly target: string
  readonly column: string
  /** Measured as a ratio to this target in the same round; undefined: as it is. */
  readonly beside?: string
  /** At most. */
  readonly most: number
}

/** Latency and storms, whose figures come from the open loop. */
export const LATENCY_COLUMN = {
  p50: 'p50 at half capacity, ms',
  p99: 'p99 at half capacity, ms',
  p999: 'p99.9 at half capacity, ms',
  storm: 'p99 in a handshake storm / p99 in quiet',
} as const

/** What `npm run bench:scale` calls its figures, and what they are here. */
export const SCALE_COLUMN = {
  'add: worker CPU ms': '10,000 services come: worker CPU, ms',
  'add: longest turn ms': '10,000 services come: longest worker block, ms',
  'add: supervisor CPU ms': '10,000 services come: supervisor CPU, ms',
  failed: '10,000 services come and go: failed requests',
} as const

const bun = (column: string, beside: string, most: number): Goal => ({
  target: 'ours-bun',
  column,
  beside,
  most,
})
const node = (column: string, beside: string, most: number): Goal => ({
  target: 'ours-node',
  column,
  beside,
  most,
})
const both = (column: string, most: number): Goal[] =>
  ['ours-bun', 'ours-node'].map((target) => ({ target, column, most }))

export const GOALS: readonly Goal[] = [
  bun(COLUMN.handshake, 'haproxy', 0.75),
  bun(COLUMN.handshake, 'nginx', 0.75),
  bun(COLUMN.handshake, 'envoy', 1.4),
  bun(COLUMN.request, 'envoy', 1),
  bun(COLUMN.down, 'envoy', 1),
  bun(COLUMN.up, 'envoy', 1),
  bun(LATENCY_COLUMN.p99, 'envoy', 1),
  { target: 'ours-bun', column: COLUMN.idle, most: 22 },
  { target: 'ours-bun', column: COLUMN.stalledDown, most: 96 },
  { target: 'ours-bun', column: COLUMN.stalledUp, most: 96 },
  node(COLUMN.handshake, 'haproxy', 1.25),
  node(COLUMN.request, 'envoy', 1.15),
  node(COLUMN.down, 'haproxy', 1),
  node(COLUMN.up, 'haproxy', 1),
  { target: 'ours-node', column: COLUMN.idle, most: 48 },
  ...both(LATENCY_COLUMN.storm, 1.3),
  ...both(SCALE_COLUMN['add: worker CPU ms'], 20),
  ...both(SCALE_COLUMN['add: longest turn ms'], 2),
  ...both(SCALE_COLUMN['add: supervisor CPU ms'], 600),
  ...both(SCALE_COLUMN.failed, 0),
]

export type Verdict = 'met' | 'missed' | 'not measured'

export interface Judged extends Goal {
  readonly measured: number
  readonly interval: Interval
  readonly verdict: Verdict
  /** The interval reaches over to the other side: another run may say otherwise. */
  readonly close: boolean
}

/** The median decides; how sure that is, says the interval. */
export function judge(figures: Figures, goals: readonly Goal[] = GOALS): Judged[] {
  return goals.map((goal) => {
    const values =
      goal.beside === undefined
        ? figures.of(goal.target, goal.column)
        : figures.ratios(goal.target, goal.beside, goal.column)
    const measured = median(values)
    const interval = medianInterval(values)
    const met = measured <= goal.most
    return {
      ...goal,
      measured,
      interval,
      verdict: Number.isNaN(measured) ? 'not measured' : met ? 'met' : 'missed',
      close: met ? interval.high > goal.most : interval.low <= goal.most,
    }
  })
}
