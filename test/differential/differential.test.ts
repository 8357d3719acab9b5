// The same resources and the same inputs through our engine on Node and on Bun and through a real Envoy: the same outcomes, but for the
// differences that are listed.
import t from 'tap'
import { mintPool } from '../attacks/certificates.ts'
import { settledSockets, socketsOf } from '../targets/descriptors.ts'
import { EngineTarget } from '../targets/engine-target.ts'
import { EnvoyTarget } from '../targets/envoy-target.ts'
import { type Target, type TargetKind, unavailable } from '../targets/target.ts'
import { CALLERS } from './callers.ts'
import type { Case } from './case.ts'
import { DifferentialContext, type Outcome } from './context.ts'
import { DIFFERENCES } from './differences.ts'
import { readDocument, withSection } from './document.ts'
import { ENDS } from './ends.ts'
import { LIMITS } from './limits.ts'
import { TRANSFERS } from './transfers.ts'
import { UPSTREAMS } from './upstreams.ts'
import { createWorld, type World } from './world.ts'

/** Far longer than any case takes; what hangs fails by name. */
const PATIENCE_MS = 20_000

const CASES: readonly Case[] = [...ENDS, ...UPSTREAMS, ...TRANSFERS, ...LIMITS, ...CALLERS]
const pool = mintPool()

interface Side {
  readonly target: Target
  /** Sockets before the first case. */
  readonly sockets: number
  readonly world: World
}

async function start(kind: TargetKind): Promise<Side> {
  const world = await createWorld(pool)
  const { resources } = world
  const target = kind === 'envoy' ? await EnvoyTarget.start(resources) : new EngineTarget(kind)
  await target.update(resources)
  t.teardown(() => Promise.all([target.stop(), world.stop()]))
  return { target, world, sockets: socketsOf(target.pid) }
}

const kinds = (['node', 'bun', 'envoy'] as const).filter((kind) => {
  const missing = unavailable(kind)
  if (missing !== undefined) t.comment(`without ${kind}: ${missing}`)
  return missing === undefined
})
const sides = await Promise.all(kinds.map(start))

const told = ({ client, backend, ending }: Outcome): string => `${client} | ${backend} | ${ending}`

async function outcomeOn({ target, world }: Side, { run }: Case): Promise<string> {
  const context = new DifferentialContext(target, world)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS, 'nothing happens')
  })
  const outcome = await Promise.race([run(context).then(told), late])
  clearTimeout(timer)
  context.end()
  return outcome
}

/** One case after the other. */
async function outcomesOn(side: Side): Promise<string[]> {
  const outcomes: string[] = []
  for (const each of CASES) outcomes.push(await outcomeOn(side, each))
  return outcomes
}

t.test('every difference belongs to a case', async (t) => {
  const ids = CASES.map(({ id }) => id)
  t.equal(new Set(ids).size, ids.length)
  t.same(
    DIFFERENCES.map(({ id }) => id).filter((id) => !ids.includes(id)),
    [],
  )
})

t.test('the document lists these differences and no others', async (t) => {
  const document = readDocument()
  t.equal(document, withSection(document), 'node test/differential/document.ts writes it')
})

t.test('the same inputs have the same outcomes', async (t) => {
  const [node = [], ...others] = await Promise.all(sides.map(outcomesOn))
  for (const [number, { id }] of CASES.entries()) {
    const ours = node[number] ?? ''
    const difference = DIFFERENCES.find((each) => each.id === id)
    for (const [index, outcomes] of others.entries()) {
      const kind = kinds[index + 1]
      const outcome = outcomes[number] ?? ''
      if (kind !== 'envoy' || difference === undefined) t.equal(outcome, ours, `${id}: ${kind} as Node`)
      else t.ok(difference.envoy.includes(outcome), `${id}: ${kind} as listed`, { outcome, difference })
    }
    if (difference === undefined) continue
    t.equal(ours, difference.ours, `${id}: ours as listed`)
    t.ok(
      difference.envoy.some((outcome) => outcome !== ours),
      `${id}: it is a difference`,
    )
  }
})

t.test('nothing of it leaves a descriptor behind', async (t) => {
  for (const { target, sockets } of sides.filter((side) => side.target.kind !== 'envoy'))
    t.equal(await settledSockets(target.pid, sockets), sockets, target.kind)
})
