// `npm run test:attacks`: the catalogue against every data plane there is, as a table; the control; generated inputs; timing. The last
// line is the total.
import { EngineTarget } from '../targets/engine-target.ts'
import { EnvoyTarget } from '../targets/envoy-target.ts'
import { type Target, type TargetKind, unavailable } from '../targets/target.ts'
import { catalogue } from './catalogue.ts'
import { TRUST_DOMAIN } from './certificates.ts'
import { setScene } from './context.ts'
import { ELSEWHERE } from './elsewhere.ts'
import { runGenerated } from './generated.ts'
import { table } from './report.ts'
import { type AttackResult, runCatalogue } from './run.ts'
import { measureRefusals, sameClass, secretsKept } from './timing.ts'

const scene = await setScene()
const attacks = catalogue(scene.pool)
let passed = 0
let failed = 0
const count = (what: string, ok: boolean): void => {
  if (ok) passed += 1
  else failed += 1
  console.log(`${ok ? 'ok' : 'NOT OK'}: ${what}`)
}

const targets: Target[] = []
for (const kind of ['node', 'bun', 'envoy'] as const satisfies readonly TargetKind[]) {
  const missing = unavailable(kind)
  if (missing !== undefined) console.log(`without ${kind}: ${missing}`)
  else targets.push(kind === 'envoy' ? await EnvoyTarget.start(scene.resources) : new EngineTarget(kind))
}

const columns = new Map<string, readonly AttackResult[]>()
for (const target of targets) {
  await target.update(scene.resources)
  columns.set(target.kind, await runCatalogue(target, scene, attacks))
}
console.log(
  'Outcome, backend connects, backend bytes; two tries where a row is a certificate (TLS 1.3 and 1.2).',
)
for (const line of table(columns)) console.log(line)
console.log('Rows that are tested elsewhere, or cannot apply:')
for (const { rows, title, tests, why = '' } of ELSEWHERE)
  console.log(`${rows.padStart(6)} ${title}: ${tests.join(', ') || why}`)
for (const [kind, results] of columns) {
  const wrong = results.filter((result) => !result.passed)
  passed += results.length - wrong.length
  failed += wrong.length
  console.log(`${kind}: ${results.length - wrong.length} of ${results.length} as expected`)
}

const control = new EngineTarget('node', { unchecked: `spiffe://${TRUST_DOMAIN}/ns/any/sa/body` })
await control.update(scene.resources)
const refusing = attacks.filter(({ row, ours }) => row >= 25 && row <= 38 && ours !== 'routed')
const leaked = (await runCatalogue(control, scene, refusing)).filter(({ bytes }) => bytes > 0)
count(
  `control: without the check of certificates ${leaked.length} of ${refusing.length} rows leak`,
  leaked.length === refusing.length,
)
await control.stop()

const seed = Number(process.env['ATTACK_SEED'] ?? 20_261)
for (const target of targets.filter(({ kind }) => kind !== 'envoy')) {
  const { inputs, failures } = await runGenerated(target, scene, 5_000, seed)
  for (const failure of failures) console.log(failure)
  count(
    `${target.kind}: ${inputs} generated inputs (seed ${seed}), none reaches the backend`,
    failures.length === 0,
  )
  const { answers, timings } = await measureRefusals(target, scene, 12_000)
  for (const { reason, trials, medianUs, t } of timings)
    console.log(
      `  ${reason.padEnd(14)} ${medianUs.toFixed(1)} µs, ${trials} trials, t = ${t.toFixed(2)} against unknown`,
    )
  count(`${target.kind}: one answer to every name that leads nowhere`, answers.size === 1)
  count(`${target.kind}: the clock does not tell unknown names from hidden ones`, secretsKept(timings))
  count(`${target.kind}: the other refusals take as long`, sameClass(timings))
}

for (const target of targets) await target.stop()
await scene.canary.close()
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
