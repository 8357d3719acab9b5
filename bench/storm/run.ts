// npm run bench:storm: what a storm of handshakes does to small requests on connections that are open. The target has a core of its own;
// the quiet client and the service behind share the other with the storm, which waits for them (`nice`).
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Harness } from '../harness.ts'
import { place } from '../placement.ts'
import { median, quantile } from '../statistics.ts'
import { startTarget, TARGETS, type Target, targetCalled } from '../targets.ts'
import { StormHarness, type StormPlan, type StormRound } from './measure.ts'

const USAGE = `npm run bench:storm [-- options]   (Linux; two cores or more; as root it stands before all else on the machine)
  --quick            one short round: shows that everything works, its figures say little
  --rounds N         default 5; targets take turns, forwards and backwards
  --seconds N        of each half of a round, without and with the storm (default 3)
  --quiet-rate N     small requests a second on 16 connections that stay (default 400)
  --storm-rate N     new connections a second (default 1,000)
  --targets a,b      of ${TARGETS.map(({ name }) => name).join(', ')} (default: ours-node,ours-bun,envoy), as for npm run bench
  --json FILE        write every latency of every round`

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    'quiet-rate': { type: 'string', default: '400' },
    'storm-rate': { type: 'string' },
    targets: { type: 'string', default: 'ours-node,ours-bun,envoy' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})

const plan: StormPlan = {
  seconds: Number(flags.seconds ?? (flags.quick ? 0.2 : 3)),
  ...{ quietRate: Number(flags['quiet-rate']), quietConnections: 16 },
  ...{ stormRate: Number(flags['storm-rate'] ?? (flags.quick ? 100 : 1_000)), stormConnections: 256 },
}

/** What a target's rounds come to, column by column; latencies over all rounds in microseconds. */
function columns(rounds: readonly StormRound[]): [string, string][] {
  const at = (flow: 'quiet' | 'during' | 'direct' | 'storm', q: number): string =>
    quantile(
      rounds.flatMap((round) => round[flow].latenciesUs),
      q,
    ).toFixed(0)
  const middle = (of: (round: StormRound) => number, digits = 0): string =>
    median(rounds.map(of)).toFixed(digits)
  const p99 = (values: readonly number[]): number => quantile(values, 0.99)
  const late = rounds.flatMap(({ quiet, during }) => [...quiet.latenessUs, ...during.latenessUs])
  return [
    ['alone p50', at('quiet', 0.5)],
    ['p99', at('quiet', 0.99)],
    ['storm p50', at('during', 0.5)],
    ['p90', at('during', 0.9)],
    ['p99', at('during', 0.99)],
    ['p99.9', at('during', 0.999)],
    ['p99 / p99', middle(({ quiet, during }) => p99(during.latenciesUs) / p99(quiet.latenciesUs), 2)],
    // The same storm, past the target: what of it is the machine's.
    ['direct p99', at('direct', 0.99)],
    ['hs/s', middle(({ storm }) => storm.done / (2 * plan.seconds + 1))],
    ['not begun', `${rounds.reduce((sum, { storm }) => sum + storm.skipped, 0)}`],
    ['CPU %', middle(({ target }) => 100 * target.busy)],
    ['CPU/hs', middle(({ target }) => target.cpuUs)],
    ['hs p50', at('storm', 0.5)],
    ['hs p99', at('storm', 0.99)],
    ['late p99', p99(late).toFixed(0)],
  ]
}

function table(rounds: ReadonlyMap<string, readonly StormRound[]>): string {
  const found = [...rounds].map(([name, results]) => ({ name, cells: columns(results) }))
  const headings = (found[0]?.cells ?? []).map(([heading]) => heading)
  const width = Math.max(...found.map(({ name }) => name.length))
  const line = (name: string, cells: readonly string[]): string =>
    `${name.padEnd(width)}  ${cells.map((cell, i) => cell.padStart(Math.max(6, headings[i]?.length ?? 0))).join('  ')}`
  const rows = found.map(({ name, cells }) =>
    line(
      name,
      cells.map(([, value]) => value),
    ),
  )
  return [line('', headings), ...rows].join('\n')
}

async function main(): Promise<void> {
  if (flags.help) return void console.log(USAGE)
  const { prefix, said } = place()
  const harness = await Harness.start()
  const storm = new StormHarness(harness.caller)
  const targets: Target[] = []
  const rounds = new Map<string, StormRound[]>()
  const count = Number(flags.rounds ?? (flags.quick ? 1 : 5))
  try {
    for (const name of flags.targets.split(',')) {
      const kind = targetCalled(name)
      if (kind === undefined) throw new Error(`no target is called ${name}\n${USAGE}`)
      targets.push(await startTarget(kind, harness.job, harness.folderOf(name), prefix))
    }
    // Just-in-time compilers want to have seen it all before they are judged.
    for (const target of targets)
      await storm.round(target, harness.job.backendPort, { ...plan, seconds: Math.min(plan.seconds, 2) })
    storm.arrange(targets, harness.backendPid)
    for (let round = 0; round < count; round++)
      for (const target of round % 2 === 0 ? targets : [...targets].reverse()) {
        const { name } = target.kind
        rounds.set(name, [
          ...(rounds.get(name) ?? []),
          await storm.round(target, harness.job.backendPort, plan),
        ])
      }
  } finally {
    await Promise.all(targets.map((target) => target.stop()))
    storm.stop()
    harness.stop()
  }
  console.log(
    `${said}\n${plan.quietRate} requests/s on ${plan.quietConnections} connections, alone and beside ${plan.stormRate} new connections/s; µs\n\n${table(rounds)}`,
  )
  if (flags.json !== undefined)
    writeFileSync(flags.json, `${JSON.stringify({ plan, rounds: Object.fromEntries(rounds) })}\n`)
  const errors = [...rounds].flatMap(([name, results]) =>
    results.flatMap(({ quiet, during, storm: visits }) =>
      [quiet, during, visits].flatMap(({ errors, error }) =>
        errors > 0 ? [`${name}: ${errors} errors: ${error}`] : [],
      ),
    ),
  )
  if (errors.length === 0) return
  console.error([...new Set(errors)].join('\n'))
  process.exitCode = 1
}

await main()
