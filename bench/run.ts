// npm run bench, npm run bench:peers: what our worker pays for its traffic, on Node and on Bun, beside the prototype of the same
// runtime and the peers, which do the same job in the same rounds. Fails when the backend's own counters do not equal the client's.
import { readFileSync, writeFileSync } from 'node:fs'
import { startCalibration } from './calibration.ts'
import { writeDocument } from './document.ts'
import { Harness } from './harness.ts'
import { measureLatency, type Offered } from './latency.ts'
import { commit, readMachine } from './machine.ts'
import { measureCpu, measureMemory, measureProfiles, type Recorder } from './measure.ts'
import { type Options, readOptions, USAGE } from './options.ts'
import { addOthers, readOthers } from './others.ts'
import { place } from './placement.ts'
import { printed } from './printed.ts'
import { foreignMicroseconds } from './process-stats.ts'
import type { Profile } from './profile.ts'
import { Figures } from './report.ts'
import { parseResults, type Results } from './results.ts'
import { median } from './statistics.ts'
import { Steadiness } from './steadiness.ts'
import { startTarget, type Target, type TargetKind, targetCalled } from './targets.ts'

/** Programs that are there, with their versions. One that is missing is said, and is an error where CI is set. */
function runnable(names: readonly string[], problems: string[]): Map<TargetKind, string> {
  const found = new Map<TargetKind, string>()
  for (const name of names) {
    const kind = targetCalled(name)
    if (kind === undefined) throw new Error(`no target is called ${name}\n${USAGE}`)
    try {
      found.set(kind, kind.version())
    } catch (error) {
      const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
      console.log(`${kind.name} is not measured: ${why}`)
      if (process.env['CI']) problems.push(`${kind.name} is missing: ${why}`)
    }
  }
  return found
}

async function measured({ plan, targets: names }: Options): Promise<Results> {
  const started = performance.now()
  const machine = readMachine()
  const { prefix, said } = place()
  const recorder: Recorder = {
    figures: new Figures(),
    load: new Figures(),
    negotiated: new Map(),
    problems: [],
  }
  const versions = runnable(names, recorder.problems)
  const kinds = [...versions.keys()]
  const calibration = startCalibration(prefix)
  const steadiness = new Steadiness({ calibrate: calibration.calibrate, foreign: foreignMicroseconds })
  const harness = await Harness.start()
  const targets: Target[] = []
  let offered: Offered | undefined
  let profiles: readonly Profile[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(targets.splice(0).map((target) => target.stop()))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      harness.stop()
      void stop().finally(() => process.exit(1))
    })
  // A long run tells where it is.
  const now = (what: string): void => {
    if (plan.peers) console.error(`${((performance.now() - started) / 1_000).toFixed(0)} s: ${what}`)
  }
  try {
    if (plan.rounds > 0) {
      for (const kind of kinds)
        targets.push(await startTarget(kind, harness.job, harness.folderOf(kind.name), prefix))
      now('CPU for units of work')
      await measureCpu(harness, targets, plan, steadiness, recorder)
      now('profiles')
      if (plan.profileSeconds > 0) profiles = await measureProfiles(harness, targets, plan)
    }
    await stop()
    now('latency at half capacity')
    if (plan.latencyRounds > 0)
      offered = await measureLatency(harness, kinds, prefix, plan, steadiness, recorder)
    now('memory for each connection')
    await measureMemory(harness, kinds, plan, prefix, recorder)
  } finally {
    await stop()
    harness.stop()
    calibration.stop()
  }
  const named = <T>(what: (kind: TargetKind) => T): Record<string, T> =>
    Object.fromEntries(kinds.map((kind) => [kind.name, what(kind)]))
  const { calibrations, tolerance, foreignShare, rounds, discarded, unsteady } = steadiness
  return {
    date: new Date().toISOString(),
    commit: commit(),
    machine,
    placement: said,
    plan,
    took: (performance.now() - started) / 1_000,
    programs: named((kind) => versions.get(kind) ?? ''),
    libraries: named((kind) => kind.library()),
    negotiated: Object.fromEntries(recorder.negotiated),
    rounds: recorder.figures,
    load: recorder.load,
    steadiness: {
      tolerance,
      foreignShare,
      calibration: {
        median: median(calibrations),
        least: Math.min(...calibrations),
        most: Math.max(...calibrations),
      },
      rounds,
      discarded,
      unsteady,
    },
    ...(offered !== undefined && { offered }),
    profiles,
    problems: [...new Set(recorder.problems)],
  }
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2))
  if (options === undefined) return void console.log(USAGE)
  // Before anything is measured: a file that is not there ends nothing but this.
  const others = readOthers(options.and)
  const results =
    options.from === undefined ? await measured(options) : parseResults(readFileSync(options.from, 'utf8'))
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`)
  addOthers(results.rounds, others)
  console.log(printed(results))
  if (options.markdown !== undefined) writeDocument(options.markdown, results, others)
  if (results.problems.length === 0) return void console.log('\nThe backend counted what the client counted.')
  console.error(`\nThe figures do not hold:\n${results.problems.map((line) => `  ${line}`).join('\n')}`)
  process.exitCode = 1
}

await main()
