// npm run bench:scale: what thousands of services cost a gateway that is running, of ours on Node and on Bun, and an Envoy, each fed by
// our discovery server; and what idle connections weigh in each, as they become more.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { findRuntime } from '../../src/cli/runtime.ts'
import { freePort } from '../../src/lib/loopback-port.ts'
import { Figures } from '../report.ts'
import { type Gateway, type GatewayOptions, startEnvoy, startOurs } from './gateways.ts'
import { weighIdle } from './idle.ts'
import { measure, type Plan } from './measure.ts'
import { World } from './world.ts'

const USAGE = `npm run bench:scale [-- options]
  --quick             2,000 services, few connections, one round: shows that everything works, its figures say little
  --services N        that come and go, default 10,000; half of them of mesh workloads, two endpoints each
  --rounds N          default 3
  --targets A,B,…     of ours-node, ours-bun, envoy; ours-node@DIR runs another checkout. Default all that are there
  --connections A,B,… idle ones to be weighed, default 1000,3000,9000; 0: none
  --json FILE         write the figures of every round`

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    services: { type: 'string' },
    rounds: { type: 'string' },
    targets: { type: 'string' },
    connections: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log(USAGE)
  process.exit(0)
}
const plan: Plan = {
  base: 20,
  services: Number(flags.services ?? (flags.quick ? 2_000 : 10_000)),
  warmMs: flags.quick ? 400 : 1_000,
}
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 3))
const connections = (flags.connections ?? (flags.quick ? '200' : '1000,3000,9000')).split(',').map(Number)
const names = flags.targets?.split(',') ?? present()
const figures = new Figures()
const weights = new Figures()
const failures: string[] = []
const world = await World.start()
try {
  for (let round = 0; round < rounds; round++)
    for (const name of round % 2 === 0 ? names : names.toReversed()) await run(name, round)
  console.log(`${plan.services} services on a running gateway, medians of ${rounds} rounds`)
  console.log(table(figures))
  if (connections.some((count) => count > 0)) {
    await weighIdle(
      connections.filter((count) => count > 0),
      flags.quick,
      weights,
    )
    console.log('\nIdle proxied connections, KB of resident memory for each')
    console.log(table(weights))
  }
  for (const failure of failures) console.error(failure)
  if (failures.length > 0) process.exitCode = 1
  if (flags.json !== undefined)
    writeFileSync(flags.json, JSON.stringify({ plan, rounds: figures, idle: weights }, undefined, 2))
} finally {
  world.stop()
}
process.exit()

/** One gateway from its start to its end, with a discovery server of its own. */
async function run(name: string, round: number): Promise<void> {
  const server = await world.discovery(plan.base)
  let gateway: Gateway | undefined
  try {
    gateway = await start(name, {
      folder: join(world.folder, `${name.replaceAll(/\W+/g, '-')}-${round}`),
      port: await freePort(),
      discovery: server.ports.tls,
      certs: world.certs,
    })
    failures.push(
      ...(await measure(world, server, gateway, plan, (column, value) => figures.add(name, column, value))),
    )
  } catch (error) {
    // The others are measured all the same.
    failures.push(`${name}: ${(error as Error).message}`)
  } finally {
    await gateway?.stop()
    await server.stop()
  }
}

function start(name: string, options: GatewayOptions): Promise<Gateway> {
  const [target = '', root] = name.split('@')
  if (target === 'envoy') return startEnvoy(process.env['ENVOY_BIN'] ?? 'envoy', options)
  if (target === 'ours-node' || target === 'ours-bun')
    return startOurs(target === 'ours-node' ? 'node' : 'bun', options, root)
  throw new Error(`there is no target ${name}: expected ours-node, ours-bun or envoy`)
}

/** Who can be run here. Where CI is set nobody may be missing. */
function present(): string[] {
  const [bun, envoy, all] = [findRuntime('bun'), process.env['ENVOY_BIN'], process.env['CI'] !== undefined]
  if (all && envoy === undefined) throw new Error('ENVOY_BIN is not set')
  if (all && !bun.ok) throw new Error(bun.error)
  if (envoy === undefined) console.log('envoy is not measured: ENVOY_BIN is not set')
  if (!bun.ok) console.log(`ours-bun is not measured: ${bun.error}`)
  return ['ours-node', ...(bun.ok ? ['ours-bun'] : []), ...(envoy === undefined ? [] : ['envoy'])]
}

/** A line for each figure, a column for each target. */
function table(shown: Figures): string {
  const heads = ['', ...shown.targets]
  const lines = shown.columns.map((column) => [
    column,
    ...shown.targets.map((target) => {
      const value = shown.median(target, column)
      return Number.isNaN(value) ? '-' : value.toFixed(value < 100 ? 1 : 0)
    }),
  ])
  const widths = heads.map((head, i) => Math.max(head.length, ...lines.map((line) => (line[i] ?? '').length)))
  return [heads, ...lines]
    .map((cells) =>
      cells
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join('  '),
    )
    .join('\n')
}
