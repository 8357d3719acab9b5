// One runtime's world under every fault in turn; each outcome is one JSON line on standard output. Run by run.ts, inside
// namespaces.
import { setTimeout as sleep } from 'node:timers/promises'
import { chaos } from './chaos.ts'
import { type Fault, type Outcome, suffer } from './fault.ts'
import { CONFIG_FAULTS } from './faults-config.ts'
import { LIMIT_FAULTS } from './faults-limits.ts'
import { NETWORK_FAULTS } from './faults-network.ts'
import { PROCESS_FAULTS } from './faults-processes.ts'
import { randomFrom } from './random.ts'
import { type Runtime, World } from './world.ts'

const FLOWS_PER_WAY = 3
const [runtime = 'node', only = '', seconds = '0', seed = '1'] = process.argv.slice(2)
const say = (outcome: Outcome): void => {
  process.stdout.write(`${JSON.stringify(outcome)}\n`)
}

const faults: readonly Fault[] = [...PROCESS_FAULTS, ...NETWORK_FAULTS, ...LIMIT_FAULTS, ...CONFIG_FAULTS]
const random = randomFrom(Number(seed))
const world = await World.create(runtime as Runtime, random)
world.load.start(FLOWS_PER_WAY)
await world.load.whole(Date.now(), 20_000)
for (const fault of faults) {
  if (!fault.name.includes(only) || (fault.nodeOnly && runtime === 'bun')) continue
  say(await suffer(world, fault))
  await sleep(50)
}
if (Number(seconds) > 0)
  say(
    await chaos(
      world,
      faults.filter((fault) => fault.chaos),
      { seconds: Number(seconds), random, seed },
    ),
  )
await world.close()
process.exit(0)
