// The whole catalogue against our engine on Node and on Bun, and against Envoy, and against an engine that checks nothing.
import { existsSync } from 'node:fs'
import t from 'tap'
import { settledSockets, socketsOf } from '../targets/descriptors.ts'
import { EngineTarget } from '../targets/engine-target.ts'
import { EnvoyTarget } from '../targets/envoy-target.ts'
import { type Target, type TargetKind, unavailable } from '../targets/target.ts'
import { catalogue } from './catalogue.ts'
import { TRUST_DOMAIN } from './certificates.ts'
import { setScene } from './context.ts'
import { ELSEWHERE } from './elsewhere.ts'
import { type AttackResult, runCatalogue } from './run.ts'

const scene = await setScene()
const attacks = catalogue(scene.pool)
t.teardown(() => scene.canary.close())

async function start(kind: TargetKind): Promise<Target> {
  if (kind === 'envoy') return EnvoyTarget.start(scene.resources)
  const target = new EngineTarget(kind)
  await target.update(scene.resources)
  return target
}

const told = ({ attack, outcome, expected, connects, bytes }: AttackResult) =>
  `${attack.row} ${attack.title}: ${outcome}, expected ${expected}; ${connects} connects, ${bytes} bytes`

for (const kind of ['node', 'bun', 'envoy'] as const) {
  t.test(
    `every attack ends on ${kind} as the catalogue says`,
    { skip: unavailable(kind) ?? false },
    async (t) => {
      const target = await start(kind)
      t.teardown(() => target.stop())
      const before = socketsOf(target.pid)
      const results = await runCatalogue(target, scene, attacks)
      t.same(results.filter(({ passed }) => !passed).map(told), [])
      t.equal(results.length, attacks.length)
      const after = await settledSockets(target.pid, before)
      if (kind !== 'envoy') t.equal(after, before, 'and leaves no descriptor behind')
    },
  )
}

t.test('control: an engine that checks no certificate leaks in every row that refuses one', async (t) => {
  const target = new EngineTarget('node', { unchecked: `spiffe://${TRUST_DOMAIN}/ns/any/sa/body` })
  t.teardown(() => target.stop())
  await target.update(scene.resources)
  const refusing = attacks.filter(({ row, ours }) => row >= 25 && row <= 38 && ours !== 'routed')
  const kept = (await runCatalogue(target, scene, refusing)).filter(({ bytes }) => bytes === 0)
  t.same(kept.map(told), [])
  t.ok(refusing.length > 50)
})

t.test('every row of the catalogue is here, or elsewhere, or cannot apply for a reason', async (t) => {
  const here = new Set(attacks.map(({ row }) => row))
  for (const { rows, tests, why } of ELSEWHERE) {
    const [first = 0, last = first] = rows.split('-').map(Number)
    for (let row = first; row <= last; row += 1) here.add(row)
    t.ok(tests.length > 0 || why !== undefined, rows)
    for (const file of tests) t.ok(existsSync(new URL(`../../${file}`, import.meta.url)), file)
  }
  const missing = Array.from({ length: 48 }, (_, index) => index + 1).filter((row) => !here.has(row))
  t.same(missing, [])
})
