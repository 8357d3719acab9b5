// What targets pay: CPU for units of work, in rounds that all of them share, and memory for connections that are held.
import { CPU_CASES, type CpuCase, compare, memoryCases } from './cases.ts'
import type { Harness } from './harness.ts'
import type { Plan } from './options.ts'
import { cpuMicroseconds, settledResidentBytes } from './process-stats.ts'
import { type Profile, perfUnavailable, profile } from './profile.ts'
import type { Figures } from './report.ts'
import { inTurn, type Steadiness } from './steadiness.ts'
import { startTarget, type Target, type TargetKind } from './targets.ts'

export interface Recorder {
  /** By target and column, a value for each round. */
  readonly figures: Figures
  /** How the load went, likewise: units a second, and how much of its time the target was busy. */
  readonly load: Figures
  /** TLS version, cipher and key exchange of each target. */
  readonly negotiated: Map<string, string>
  /** Why the figures do not hold. */
  readonly problems: string[]
}

interface Measured {
  readonly target: string
  readonly cpu: number
  /** Units a second. */
  readonly rate: number
  /** 0 to 1, of one core. */
  readonly busy: number
  /** The same, of the process that makes the load. */
  readonly clientBusy: number
}

/** Rounds that may be done again, as a share of all. */
export const REPEATS = 0.34

/** Columns of `Recorder.load` for a case. */
export const loadColumns = (name: string) =>
  ({ rate: `${name}: units a second`, busy: `${name}: target busy`, client: `${name}: client busy` }) as const

/** A round is one case, each target once: targets of a round ran within seconds. */
export async function measureCpu(
  harness: Harness,
  targets: readonly Target[],
  plan: Plan,
  steadiness: Steadiness,
  recorder: Recorder,
): Promise<void> {
  const { figures, load, problems } = recorder
  const cases = CPU_CASES.filter(({ name }) => name.includes(plan.cases))
  const measure = (target: Target, each: CpuCase) => measureOne(harness, target, each, plan.seconds, recorder)
  // Just-in-time compilers want to have seen it all before they are judged.
  for (const target of targets) for (const each of cases) await measure(target, each)
  const rounds = Array.from({ length: plan.rounds }, (_, round) =>
    inTurn(cases, round).map((each) => ({ each, round })),
  )
  const steadied = await steadiness.measure(
    rounds.flat().map(({ each, round }) => ({
      name: each.name,
      async measure() {
        const values: Measured[] = []
        for (const target of inTurn(targets, round)) values.push(await measure(target, each))
        return { each, values }
      },
    })),
    Math.ceil(rounds.flat().length * REPEATS),
  )
  for (const { each, values } of steadied.kept.toSorted(
    (a, b) => cases.indexOf(a.each) - cases.indexOf(b.each),
  )) {
    const columns = loadColumns(each.name)
    // In the order of the targets, whichever way the round went.
    for (const { target, cpu, rate, busy, clientBusy } of inOrder(targets, values)) {
      figures.add(target, each.name, cpu)
      load.add(target, columns.rate, rate)
      load.add(target, columns.busy, busy)
      load.add(target, columns.client, clientBusy)
    }
  }
  if (new Set(recorder.negotiated.values()).size > 1) {
    const all = [...recorder.negotiated].map(([target, what]) => `${target} ${what}`)
    problems.push(`targets do not do the same work: ${all.join(', ')}`)
  }
}

/** What was measured of targets, in their order. */
export function inOrder<T extends { readonly target: string }>(
  targets: readonly Target[],
  values: readonly T[],
): T[] {
  const place = ({ target }: T): number => targets.findIndex(({ kind }) => kind.name === target)
  return values.toSorted((a, b) => place(a) - place(b))
}

async function measureOne(
  harness: Harness,
  target: Target,
  each: CpuCase,
  seconds: number,
  { problems, negotiated }: Recorder,
): Promise<Measured> {
  const name = target.kind.name
  const before = await harness.counters()
  let cpu = 0
  const result = await harness.drive(target, { ...each.load, seconds }, (mark) => {
    cpu = cpuMicroseconds(target.pid) - (mark === 'ended' ? cpu : 0)
  })
  problems.push(...compare(`${name}, ${each.name}`, before, await harness.counters(), result))
  negotiated.set(name, result.negotiated)
  const units = each.count(result)
  const microseconds = result.seconds * 1e6
  return {
    target: name,
    cpu: cpu / units,
    rate: units / result.seconds,
    busy: cpu / microseconds,
    clientBusy: result.cpuMicroseconds / microseconds,
  }
}

/** Where the CPU of each target goes, with each load; nothing, and a line that says why, where perf cannot tell. */
export async function measureProfiles(
  harness: Harness,
  targets: readonly Target[],
  plan: Plan,
): Promise<Profile[]> {
  const why = perfUnavailable()
  if (why !== undefined) console.log(`nothing is profiled: ${why}`)
  if (why !== undefined) return []
  const profiles: Profile[] = []
  for (const each of CPU_CASES.filter(({ name }) => name.includes(plan.cases))) {
    for (const target of targets) {
      let taken: ReturnType<typeof profile> | undefined
      await harness.drive(target, { ...each.load, seconds: plan.profileSeconds + 1 }, (mark) => {
        if (mark === 'started')
          taken = profile(target.pid, plan.profileSeconds, harness.folderOf(target.kind.name))
      })
      const found = await taken
      if (found !== undefined) profiles.push({ target: target.kind.name, load: each.name, ...found })
    }
  }
  return profiles
}

/**
 * What one more connection weighs: new processes hold some connections of the kind already, so that pools, heaps and compiled code
 * are there, before the others come.
 */
export async function measureMemory(
  harness: Harness,
  kinds: readonly TargetKind[],
  plan: Plan,
  prefix: readonly string[],
  { figures, problems }: Recorder,
): Promise<void> {
  const cases = memoryCases(plan.idle, plan.stalled).filter(({ name }) => name.includes(plan.cases))
  const weigh = async (target: Target, { name, load }: (typeof cases)[number]): Promise<number> => {
    const first = Math.ceil(load.connections / 2)
    const before = await harness.counters()
    const held = await harness.drive(target, { ...load, connections: first, seconds: 0 })
    const half = await settledResidentBytes(target.pid, plan.settleMs)
    const more = await harness.drive(target, { ...load, seconds: 0 })
    const full = await settledResidentBytes(target.pid, plan.settleMs)
    for (const key of ['connections', 'requests', 'errors'] as const) more[key] += held[key]
    problems.push(...compare(`${target.kind.name}, ${name}`, before, await harness.counters(), more, true))
    return (full - half) / load.connections / 1024
  }
  for (let round = 0; round < plan.memoryRounds; round++) {
    for (const each of cases) {
      for (const kind of inTurn(kinds, round)) {
        const target = await startTarget(kind, harness.job, harness.folderOf(`${kind.name} memory`), prefix)
        try {
          figures.add(kind.name, each.name, await weigh(target, each))
        } finally {
          await harness.release()
          await target.stop()
        }
      }
    }
  }
}
