// What a result says in a table, for the terminal and for the page.
import type { FlowResult, PhaseResult } from '../load-result.ts'
import type { LoadPlan } from '../plan.ts'
import { formatMicroseconds, formatNumber, megabytes } from './units.ts'

const QUANTILES = [0.5, 0.9, 0.99, 0.999] as const

/** The first column is text, the others are numbers. */
export const RESULT_HEAD: readonly string[] = [
  '',
  'requests',
  'requests/s',
  'MB/s',
  ...QUANTILES.map((q) => `p${q * 100}`),
  'max',
  'errors',
]

/** The phases of a flow that count. */
export function measuredPhases(plan: LoadPlan, flow: FlowResult): readonly PhaseResult[] {
  const warmUps = plan.phases.filter(({ warmUp }) => warmUp === true).map(({ name }) => name)
  return flow.phases.filter(({ name }) => !warmUps.includes(name))
}

export function isHeld({ kind }: Pick<FlowResult, 'kind'>): boolean {
  return kind === 'idle' || kind.startsWith('stalled')
}

/** Of a flow that asks: a row for each phase, and one for TCP and TLS alone where the load itself opened connections. */
export function flowRows(plan: LoadPlan, flow: FlowResult): (readonly string[])[] {
  const phases = measuredPhases(plan, flow)
  const rows = phases.map((phase) =>
    phaseRow(phases.length > 1 ? `${flow.name}, ${phase.name}` : flow.name, phase),
  )
  return flow.measured.connections > 0 ? [...rows, handshakeRow(flow)] : rows
}

function phaseRow(name: string, phase: PhaseResult): string[] {
  const { requests, seconds, bytesReceived, bytesSent, latency, errors } = phase
  return [
    name,
    formatNumber(requests),
    formatNumber(requests / seconds),
    megabytes((bytesReceived + bytesSent) / seconds),
    ...QUANTILES.map((q) => formatMicroseconds(latency.quantile(q))),
    formatMicroseconds(latency.max),
    formatNumber(errors),
  ]
}

function handshakeRow({ measured: { connections, seconds, handshake } }: FlowResult): string[] {
  return [
    '  handshakes',
    formatNumber(connections),
    formatNumber(connections / seconds),
    '',
    ...QUANTILES.map((q) => formatMicroseconds(handshake.quantile(q))),
    formatMicroseconds(handshake.max),
    '',
  ]
}

/** Sentences about a flow that no row has: held connections, the storm, errors with the first message of each. */
export function flowNotes(plan: LoadPlan, flow: FlowResult): string[] {
  return [...heldNotes(flow), ...stormNotes(plan, flow), ...errorNotes(flow)]
}

function heldNotes(flow: FlowResult): string[] {
  if (!isHeld(flow)) return []
  const { connections, handshake } = flow.total
  const { seconds, errors } = flow.measured
  return [
    `${flow.name}: ${formatNumber(connections)} connections, held for ${formatNumber(seconds)} s, ${formatNumber(errors)} lost`,
    `handshake p50 ${formatMicroseconds(handshake.quantile(0.5))}, p99 ${formatMicroseconds(handshake.quantile(0.99))}`,
  ]
}

/** How much slower a flow was in the storm than before it. */
function stormNotes(plan: LoadPlan, flow: FlowResult): string[] {
  const [before, storm] = ['before', 'storm'].map((name) =>
    measuredPhases(plan, flow).find((phase) => phase.name === name),
  )
  if (before === undefined || storm === undefined || before.latency.count === 0) return []
  const ratio = storm.latency.quantile(0.99) / Math.max(1, before.latency.quantile(0.99))
  return [`p99 of ${flow.name} in the storm: ${formatNumber(ratio)} times that before it`]
}

function errorNotes({ total }: FlowResult): string[] {
  return total.errorKinds.map(({ kind, count, first }) => `${formatNumber(count)} × ${kind}: ${first}`)
}
