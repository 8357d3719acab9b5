// npm run bench:discovery: what a thousand Delta sidecars cost the discovery server, and how long the last of them waits; beside
// go-control-plane with the same resources and the same clients, where Go is there. Servers take turns; medians, and ratios of rounds.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { Figures, report } from '../report.ts'
import { type Credential, Fleet } from './fleet.ts'
import { measure, measureChurn, measureLoad, type Plan } from './measure.ts'
import { buildPeer, startOurs, startPeer, type Target } from './target.ts'

const USAGE = `npm run bench:discovery [-- options]
  --quick          few clients, one round, no peer: shows that everything works, its figures say little
  --clients N      default 1,000
  --services N     default 1,000, of ten endpoints each
  --changes N      default 50 for each round
  --rounds N       default 3
  --large N        services of the second cluster, default 10,000
  --no-peer        leaves go-control-plane out
  --json FILE      write the figures of every round`

const FULL: Plan = { clients: 1_000, services: 1_000, changes: 50, rounds: 3, large: 10_000, churnSeconds: 5 }
const QUICK: Plan = { clients: 100, services: 200, changes: 20, rounds: 1, large: 2_000, churnSeconds: 1 }

const TRUST_DOMAIN = 'bench.local'

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    clients: { type: 'string' },
    services: { type: 'string' },
    changes: { type: 'string' },
    rounds: { type: 'string' },
    large: { type: 'string' },
    'no-peer': { type: 'boolean', default: false },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log(USAGE)
  process.exit(0)
}
const base = flags.quick ? QUICK : FULL
const plan: Plan = {
  ...base,
  clients: Number(flags.clients ?? base.clients),
  services: Number(flags.services ?? base.services),
  changes: Number(flags.changes ?? base.changes),
  rounds: Number(flags.rounds ?? base.rounds),
  large: Number(flags.large ?? base.large),
}

const LONGEST_MS = 20 * 60_000
setTimeout(
  () => {
    console.error('the benchmark stands still: a client waits for what never comes')
    process.exit(1)
  },
  flags.quick ? LONGEST_MS / 10 : LONGEST_MS,
).unref()

const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-discovery-'))
const figures = new Figures()
try {
  const credential = await credentials()
  const resources = join(folder, 'resources.jsonl')
  const peer = flags.quick || flags['no-peer'] ? undefined : buildPeer(folder)
  if (peer === undefined) console.log('go-control-plane is not measured')
  await dumpResources(resources)
  for (let round = 0; round < plan.rounds; round++) {
    const inTurn = [
      () => run('ours', () => startOurs(plan.services, folder), undefined),
      () => run('ours, mTLS', () => startOurs(plan.services, folder), credential),
      ...(peer === undefined
        ? []
        : [() => run('go-control-plane', () => startPeer(peer, resources), undefined)]),
    ]
    for (const each of round % 2 === 0 ? inTurn : inTurn.reverse()) await each()
  }
  console.log(
    `${plan.clients} Delta sidecars, ${plan.services} services of 10 endpoints, Node ${process.version}`,
  )
  console.log(report(figures, peer === undefined ? [] : [['ours', 'go-control-plane']]))
  await large(credential)
  const unseen = figures.of('ours', 'bytes unseen')
  if (unseen.some((bytes) => bytes !== 0)) {
    console.error(`clients were sent something although they could see no change: ${unseen.join(', ')} bytes`)
    process.exitCode = 1
  }
  if (flags.json !== undefined)
    writeFileSync(flags.json, JSON.stringify({ plan, rounds: figures }, undefined, 2))
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit()

/** One server from its start to its end. */
async function run(
  name: string,
  start: () => Promise<Target>,
  credential: Credential | undefined,
): Promise<void> {
  const target = await start()
  try {
    const fleet = new Fleet({
      port: credential === undefined ? target.ports.plain : target.ports.tls,
      credential,
      userAgent: 'envoy',
      namespace: 'bench',
    })
    await measure(plan, target, fleet, (column, value) => figures.add(name, column, value))
    if (name === 'ours')
      await measureChurn(plan, target, fleet, (column, value) => figures.add(name, column, value))
    fleet.close()
  } finally {
    await target.stop()
  }
}

async function large(credential: Credential): Promise<void> {
  const target = await startOurs(plan.large, folder)
  const fleet = new Fleet({ port: target.ports.tls, credential, userAgent: 'envoy', namespace: 'bench' })
  const lines = await measureLoad(plan, target, fleet)
  console.log(`\n${plan.large} services, ${10 * plan.large} endpoints\n${lines.join('\n')}`)
  fleet.close()
  await target.stop()
}

/** Those of the very view that our clients are served. */
async function dumpResources(file: string): Promise<void> {
  const target = await startOurs(plan.services, folder)
  const fleet = new Fleet({ port: target.ports.plain, userAgent: 'envoy', namespace: 'bench' })
  await fleet.connect(1)
  await fleet.subscribe(plan.services)
  await target.command('dump', file)
  fleet.close()
  await target.stop()
}

/** Discovery's certificate in the folder, and one for the clients. */
async function credentials(): Promise<Credential> {
  mkdirSync(folder, { recursive: true })
  const ca = await createCa({ trustDomain: TRUST_DOMAIN })
  const lifetimeMs = 3_600_000
  const own = await ca.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', lifetimeMs })
  await writeCredential(folder, { ...own, bundlePem: ca.bundlePem })
  const client = await ca.issue({ namespace: 'bench', serviceAccount: 'sidecar', lifetimeMs })
  return { cert: client.certificatePem, key: client.privateKeyPem, ca: ca.bundlePem }
}
