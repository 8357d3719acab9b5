// npm run bench:micro: what the steps of the hot path and of discovery cost by themselves, with what each allocates.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Bench, type Task } from 'tinybench'
import { clientHelloMicros } from './client-hello.ts'
import { allocatedBytes, callsIn, costRatio, timed } from './measure.ts'
import type { Micro } from './micro.ts'
import { resourceEncodeMicros } from './resource-encode.ts'
import { sniLookupMicros } from './sni-lookup.ts'
import { svidVerdictMicros } from './svid-verdict.ts'
import { viewUpdateMicros } from './view-update.ts'

const USAGE = `npm run bench:micro [-- options]
  --small      for a moment each: shows that everything works, its times say little
  --only TEXT  only those whose name has the text, and what they are held against
  --json FILE  write the figures; - is standard output, instead of the table`

export interface MicroFigures {
  readonly name: string
  readonly opsPerSecond: number
  /** Half of the 95 % confidence interval of the mean time, percent of it. */
  readonly marginPercent: number
  /** NaN (null in JSON) where nobody counts. */
  readonly bytesPerOp: number
  /** What it is held against, and how much more one costs. */
  readonly beside?: string
  readonly ratio?: number
  readonly counted?: Readonly<Record<string, number>>
}

interface Plan {
  /** For each. */
  readonly milliseconds: number
  /** Calls that are timed in one piece take about as long: far above what the clock can tell. */
  readonly sliceMs: number
  readonly rounds: number
  readonly services: number
}

const LARGE: Plan = { milliseconds: 1_000, sliceMs: 1, rounds: 41, services: 100 }
const SMALL: Plan = { milliseconds: 20, sliceMs: 0.5, rounds: 21, services: 20 }

async function measure(micros: readonly Micro[], plan: Plan): Promise<MicroFigures[]> {
  const bench = new Bench({ time: plan.milliseconds, warmup: false, iterations: 8 })
  for (const { name, once } of micros) {
    const calls = callsIn(plan.sliceMs, once)
    bench.add(
      name,
      () => {
        const took = timed(once, calls)
        return { overriddenDuration: took / calls, overriddenIterationCost: took }
      },
      { async: false },
    )
  }
  await bench.run()
  const byName = new Map(micros.map((micro) => [micro.name, micro]))
  return micros.map(({ name, once, beside, counted }) => {
    const other = beside === undefined ? undefined : byName.get(beside)
    return {
      ...timesOf(bench.getTask(name)),
      name,
      bytesPerOp: allocatedBytes(once),
      ...(other && { beside: other.name, ratio: costRatio(once, other.once, plan.rounds, plan.sliceMs) }),
      ...(counted && { counted: counted() }),
    }
  })
}

function timesOf(task: Task | undefined): Pick<MicroFigures, 'opsPerSecond' | 'marginPercent'> {
  const { result } = task ?? {}
  if (result === undefined || !('latency' in result))
    throw new Error(`${task?.name}: ${JSON.stringify(result)}`)
  return { opsPerSecond: 1_000 / result.latency.mean, marginPercent: result.latency.rme }
}

function table(figures: readonly MicroFigures[]): string {
  const count = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
  const shown = (value: number, digits: number): string =>
    Number.isFinite(value) ? (digits === 0 ? count.format(value) : value.toFixed(digits)) : '-'
  const rows = [
    ['', 'ops/s', '±', 'bytes/op', 'beside'],
    ...figures.map(({ name, opsPerSecond, marginPercent, bytesPerOp, beside, ratio = Number.NaN }) => [
      name,
      shown(opsPerSecond, 0),
      `${shown(marginPercent, 1)} %`,
      shown(bytesPerOp, 0),
      beside === undefined ? '' : `${shown(ratio, 2)} × ${beside}`,
    ]),
  ]
  const widths = [0, 1, 2, 3, 4].map((at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)))
  const cell = (text: string, at: number): string =>
    at === 0 || at === 4 ? text.padEnd(widths[at] ?? 0) : text.padStart(widths[at] ?? 0)
  return rows.map((row) => row.map(cell).join('  ').trimEnd()).join('\n')
}

/** Those that are asked for, and those beside which they stand, which come before them. */
function selected(micros: readonly Micro[], text: string): Micro[] {
  const asked = micros.filter(({ name }) => name.includes(text))
  const beside = new Set(asked.map((micro) => micro.beside))
  return micros.filter((micro) => asked.includes(micro) || beside.has(micro.name))
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      small: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return void console.log(USAGE)
  const plan = values.small ? SMALL : LARGE
  const all = [
    ...(await clientHelloMicros()),
    ...sniLookupMicros(),
    ...(await svidVerdictMicros()),
    ...resourceEncodeMicros(),
    ...viewUpdateMicros(plan.services),
  ]
  const figures = await measure(selected(all, values.only), plan)
  const json = JSON.stringify(figures, null, 2)
  if (values.json === '-') return void console.log(json)
  console.log(table(figures))
  if (values.json !== undefined) writeFileSync(values.json, `${json}\n`)
}

await main()
