import { closeSync, openSync, writeFileSync } from 'node:fs'
import type { Command } from 'commander'
import type { Sample } from '../load/flow-recorder.ts'
import { type LoadResult, sampleResult } from '../load/load-result.ts'
import { DEFAULT_INTERVAL_MS, type LoadPlan, type LoadTarget, shareOf } from '../load/plan.ts'
import { htmlReport } from '../load/report/html-report.ts'
import { resultJson } from '../load/report/result-json.ts'
import { formatNumber } from '../load/report/units.ts'
import { LoadGenerator } from '../load/run.ts'
import { scenarioPlan } from '../load/scenarios.ts'
import { formatAuthority } from '../proxy/names/authority.ts'
import { backendCommand } from './bench-backend.ts'
import { startOwnGateway } from './bench-gateway.ts'
import {
  type BenchFlags,
  type BenchSettings,
  benchCommand,
  readSettings,
  readTarget,
} from './bench-options.ts'
import { progressLine, resultText } from './bench-text.ts'
import { EXIT_USAGE } from './object-command.ts'
import { findRuntime, type Runtime } from './runtime.ts'

/** Of Ctrl-C, as shells have it. */
const EXIT_INTERRUPTED = 130

/** `isthmus bench` and `isthmus bench backend`. Exit codes: 0, 1 where the load failed, 64 bad usage. */
export function command(): Command {
  return (
    benchCommand()
      // Both have a --size.
      .enablePositionalOptions()
      .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
      .addCommand(backendCommand())
      .action(async (scenario: string, flags: BenchFlags) => {
        process.exitCode = await bench(scenario, flags)
      })
  )
}

async function bench(scenario: string, flags: BenchFlags): Promise<number> {
  const settings = readSettings(scenario, flags)
  if (!settings.ok) return usage(settings.error)
  const target = await readTarget(flags)
  if (!target.ok) return usage(target.error)
  const runtime = findRuntime(flags.runtime)
  if (!runtime.ok) return usage(`--runtime: ${runtime.error}`)
  for (const option of ['json', 'report'] as const) {
    const problem = writeProblem(flags[option])
    if (problem !== '') return usage(`--${option}: ${problem}`)
  }
  const cleanUp: (() => Promise<void>)[] = []
  const leave = async (): Promise<void> => {
    for (const undo of cleanUp.splice(0).reverse()) await undo()
  }
  let interrupted = false
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      interrupted = true
      void leave().finally(() => process.exit(EXIT_INTERRUPTED))
    })
  }
  try {
    const at = target.value ?? (await ownTarget(flags, cleanUp))
    return await load(settings.value, at, runtime.value, flags, cleanUp)
  } catch (error) {
    // The processes that an interruption ended are no news.
    if (!interrupted) process.stderr.write(`isthmus bench: ${(error as Error).message}\n`)
    return interrupted ? EXIT_INTERRUPTED : 1
  } finally {
    await leave()
  }
}

/** Why a file cannot be written, before the load and not after it; empty where it can, or nobody wants it. */
function writeProblem(file: string | undefined): string {
  if (file === undefined) return ''
  try {
    closeSync(openSync(file, 'a'))
    return ''
  } catch (error) {
    return `${file} cannot be written (${(error as NodeJS.ErrnoException).code})`
  }
}

function usage(message: string): number {
  process.stderr.write(`isthmus bench: ${message}\n`)
  return EXIT_USAGE
}

async function ownTarget(flags: BenchFlags, cleanUp: (() => Promise<void>)[]): Promise<LoadTarget> {
  if (flags.quiet !== true)
    process.stderr.write(
      `no --target: starting a gateway of our own (${flags.gatewayRuntime}, one worker) and a service\n`,
    )
  return startOwnGateway(flags.gatewayRuntime, (undo) => cleanUp.push(undo))
}

async function load(
  settings: BenchSettings,
  target: LoadTarget,
  runtime: Runtime,
  flags: BenchFlags,
  cleanUp: (() => Promise<void>)[],
): Promise<number> {
  const { scenario, processes } = settings
  const plan = scenarioPlan(scenario, target, settings)
  const generator = await LoadGenerator.start({ processes, runtime })
  cleanUp.push(() => generator.stop())
  const facts = {
    title: `isthmus bench ${scenario}`,
    lines: headline(plan, settings, runtime),
    at: new Date(),
  }
  process.stdout.write(`${facts.lines.join('\n')}\n`)
  const result = await generator.run(
    plan,
    flags.quiet === true ? {} : { onSample: progressOf(plan, processes) },
  )
  process.stdout.write(`\n${resultText(plan, result)}`)
  if (flags.json !== undefined)
    writeFileSync(flags.json, `${JSON.stringify(resultJson(plan, result), null, 2)}\n`)
  if (flags.report !== undefined) writeFileSync(flags.report, htmlReport(plan, result, facts))
  return verdict(result, settings.maxErrors)
}

/** What is done, in two lines. */
function headline({ target }: LoadPlan, settings: BenchSettings, runtime: Runtime): string[] {
  const { scenario, connections, rate, durationMs, warmUpMs, processes, path } = settings
  const { address: host, port, tls } = target
  const names = tls === undefined ? 'in clear' : `mutual TLS, SNI ${tls.serverNames.join(', ') || 'none'}`
  const held = scenario === 'churn' ? [] : [`${formatNumber(connections)} connections`]
  const loop = rate === undefined ? [] : [`${formatNumber(rate)} per second whatever the target does`]
  const warmUp = warmUpMs === 0 ? '' : ` after ${warmUpMs / 1_000} s of warm-up`
  const phases = scenario === 'storm' ? '3 × ' : ''
  return [
    `${scenario} at ${formatAuthority({ host, port })} (${names}), ${path}`,
    [
      ...held,
      ...loop,
      `${phases}${durationMs / 1_000} s${warmUp}`,
      `${processes} ${processes === 1 ? 'process' : 'processes'} of ${runtime.name}`,
    ].join(', '),
  ]
}

/** A line for each second and flow, once all processes have said theirs. */
function progressOf(plan: LoadPlan, processes: number): (sample: Sample) => void {
  const seconds = (plan.intervalMs ?? DEFAULT_INTERVAL_MS) / 1_000
  const inOneLine = Math.max(1, Math.round(1 / seconds))
  const shares = Array.from({ length: processes }, (_, index) => shareOf(plan, index, processes))
  const sharers = (name: string) =>
    shares.filter(({ flows }) => flows.some((flow) => flow.name === name)).length
  const waiting = new Map<string, Sample[]>()
  return (sample) => {
    const line = Math.floor(sample.index / inOneLine)
    const key = `${sample.flow} ${line}`
    const parts = [...(waiting.get(key) ?? []), sample]
    waiting.set(key, parts)
    if (parts.length < inOneLine * sharers(sample.flow)) return
    waiting.delete(key)
    const whole = sampleResult((line + 1) * inOneLine * seconds, inOneLine * seconds, parts)
    // One that has not had its turn yet, or has had it, beside another.
    const silent = whole.requests + whole.connections + whole.errors === 0 && plan.flows.length > 1
    if (!silent) process.stderr.write(`${progressLine(whole, sample.flow)}\n`)
  }
}

/** 0 where something succeeded and no more failed than may. */
function verdict({ flows }: LoadResult, maxErrors: number): number {
  const errors = flows.reduce((sum, { total }) => sum + total.errors, 0)
  const done = flows.reduce((sum, { total }) => sum + total.connections, 0)
  const nothing = flows.every(
    ({ kind, total }) => (kind.startsWith('stalled') ? total.connections : total.requests) === 0,
  )
  if (nothing) process.stderr.write(`isthmus bench: nothing succeeded (${done} connections, no answer)\n`)
  else if (errors > maxErrors)
    process.stderr.write(`isthmus bench: ${errors} errors, --max-errors is ${maxErrors}\n`)
  return nothing || errors > maxErrors ? 1 : 0
}
