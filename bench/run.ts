// npm run bench: what our worker pays for its traffic, on Node and on Bun, beside the prototype of the same runtime, Envoy and
// HAProxy, which do the same job in the same rounds. Fails when the backend's own counters do not equal the client's.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { CPU_CASES, compare, memoryCases } from './cases.ts'
import { Harness } from './harness.ts'
import { cpuMicroseconds, settledResidentBytes } from './process-stats.ts'
import { Figures, report } from './report.ts'
import { PEERS, startTarget, TARGETS, type Target, type TargetKind, targetCalled } from './targets.ts'

const USAGE = `npm run bench [-- options]
  --quick            few and short rounds: shows that everything works, its figures say little
  --seconds N        of load for each case and target in a round (default 1)
  --rounds N         default 7; targets take turns, forwards and backwards
  --memory-rounds N  default 3, each with new processes
  --targets a,b      of ${TARGETS.map(({ name }) => name).join(', ')} (default: all that can be run);
                     ours-node@DIR is that of another checkout, ours-node:--cpu-prof:--FLAG has flags for its runtime
  --cases TEXT       only those whose name has the text
  --json FILE        write the figures of every round`

interface Plan {
  /** What the name of a case must have in it. */
  readonly cases: string
  readonly seconds: number
  readonly rounds: number
  readonly memoryRounds: number
  readonly idle: number
  readonly stalled: number
  /** Longest wait for resident memory to settle. */
  readonly settleMs: number
}

const FULL: Plan = {
  cases: '',
  seconds: 1,
  rounds: 7,
  memoryRounds: 3,
  idle: 1_000,
  stalled: 200,
  settleMs: 4_000,
}
const QUICK: Plan = {
  ...FULL,
  seconds: 0.2,
  rounds: 2,
  memoryRounds: 1,
  idle: 50,
  stalled: 10,
  settleMs: 300,
}

/** Programs that are there, with their versions. One that is missing is said, and is an error where CI is set. */
function runnable(kinds: readonly TargetKind[], problems: string[]): Map<TargetKind, string> {
  const found = new Map<TargetKind, string>()
  for (const kind of kinds) {
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

const inTurn = <T>(items: readonly T[], round: number): readonly T[] =>
  round % 2 === 0 ? items : [...items].reverse()

async function measureCpu(
  harness: Harness,
  targets: readonly Target[],
  plan: Plan,
  figures: Figures,
): Promise<string[]> {
  const problems: string[] = []
  const measure = async (
    target: Target,
    each: (typeof CPU_CASES)[number],
    seconds: number,
  ): Promise<number> => {
    const before = await harness.counters()
    const cpu = cpuMicroseconds(target.pid)
    const result = await harness.drive(target, { ...each.load, seconds })
    const spent = cpuMicroseconds(target.pid) - cpu
    problems.push(...compare(`${target.kind.name}, ${each.name}`, before, await harness.counters(), result))
    return spent / each.count(result)
  }
  // Just-in-time compilers want to have seen it all before they are judged.
  const cases = CPU_CASES.filter(({ name }) => name.includes(plan.cases))
  for (const target of targets) for (const each of cases) await measure(target, each, plan.seconds)
  for (let round = 0; round < plan.rounds; round++) {
    for (const each of inTurn(cases, round)) {
      for (const target of inTurn(targets, round))
        figures.add(target.kind.name, each.name, await measure(target, each, plan.seconds))
    }
  }
  return problems
}

/**
 * What one more connection weighs: new processes hold some connections of the kind already, so that pools, heaps and compiled code
 * are there, before the others come.
 */
async function measureMemory(
  harness: Harness,
  kinds: readonly TargetKind[],
  plan: Plan,
  figures: Figures,
): Promise<string[]> {
  const problems: string[] = []
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
        const target = await startTarget(kind, harness.job, harness.folderOf(`${kind.name} memory`))
        try {
          figures.add(kind.name, each.name, await weigh(target, each))
        } finally {
          await harness.release()
          await target.stop()
        }
      }
    }
  }
  return problems
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      'memory-rounds': { type: 'string' },
      targets: { type: 'string' },
      cases: { type: 'string', default: '' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return void console.log(USAGE)
  const base = values.quick ? QUICK : FULL
  const plan: Plan = {
    ...base,
    cases: values.cases,
    seconds: Number(values.seconds ?? base.seconds),
    rounds: Number(values.rounds ?? base.rounds),
    memoryRounds: Number(values['memory-rounds'] ?? base.memoryRounds),
  }
  const asked = values.targets?.split(',') ?? TARGETS.map(({ name }) => name)
  const unknown = asked.find((name) => targetCalled(name) === undefined)
  if (unknown !== undefined) throw new Error(`no target is called ${unknown}\n${USAGE}`)
  const problems: string[] = []
  const versions = runnable(
    asked.flatMap((name) => targetCalled(name) ?? []),
    problems,
  )
  const kinds = [...versions.keys()]
  const figures = new Figures()
  const harness = await Harness.start()
  const targets: Target[] = []
  try {
    if (plan.rounds > 0) {
      for (const kind of kinds)
        targets.push(await startTarget(kind, harness.job, harness.folderOf(kind.name)))
      problems.push(...(await measureCpu(harness, targets, plan, figures)))
    }
    await Promise.all(targets.splice(0).map((target) => target.stop()))
    problems.push(...(await measureMemory(harness, kinds, plan, figures)))
  } finally {
    await Promise.all(targets.map((target) => target.stop()))
    harness.stop()
  }
  const named = [...versions].map(([{ name }, version]) => `${name} ${version}`).join(', ')
  console.log(`One worker or thread each: ${named}.\n\n${report(figures, pairsOf(kinds))}`)
  if (values.json !== undefined) {
    const programs = Object.fromEntries([...versions].map(([{ name }, version]) => [name, version]))
    writeFileSync(values.json, `${JSON.stringify({ plan, programs, rounds: figures }, null, 2)}\n`)
  }
  if (problems.length === 0) return void console.log('\nThe backend counted what the client counted.')
  console.error(`\nThe figures do not hold:\n${[...new Set(problems)].map((line) => `  ${line}`).join('\n')}`)
  process.exitCode = 1
}

/** Each of ours with its floor, with each peer, and with what else is the same target. */
function pairsOf(kinds: readonly TargetKind[]): (readonly [string, string])[] {
  const base = (name: string) => name.split(/[@:]/)[0]
  return kinds.flatMap((ours, index) =>
    kinds.flatMap((other, at): [string, string][] => {
      const beside = base(other.name) === ours.floor || PEERS.includes(other.name)
      const same = other.name === base(ours.name) && at < index
      return ours.floor !== undefined && (beside || same) ? [[ours.name, other.name]] : []
    }),
  )
}

await main()
