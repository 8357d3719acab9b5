// Some of the generated inputs at every run; `npm run test:attacks` takes thousands.
import t from 'tap'
import { EngineTarget } from '../targets/engine-target.ts'
import { unavailable } from '../targets/target.ts'
import { TRUST_DOMAIN } from './certificates.ts'
import { setScene } from './context.ts'
import { GENERATED, runGenerated } from './generated.ts'
import { measureRefusals } from './timing.ts'

const INPUTS = 500
const SEED = 20_261
const scene = await setScene()
t.teardown(() => scene.canary.close())

for (const kind of ['node', 'bun'] as const) {
  t.test(
    `generated inputs on ${kind}: none reaches the backend`,
    { skip: unavailable(kind) ?? false },
    async (t) => {
      const target = new EngineTarget(kind)
      t.teardown(() => target.stop())
      await target.update(scene.resources)
      const { inputs, failures } = await runGenerated(target, scene, INPUTS, SEED)
      t.same(failures, [])
      t.ok(inputs >= INPUTS)
      const { answers } = await measureRefusals(target, scene, 200)
      t.same([...answers], ['15030300020270'], 'one answer to every name that leads nowhere')
    },
  )
}

t.test('control: bad certificates are found where none is checked, and shrink to one fault', async (t) => {
  const target = new EngineTarget('node', { unchecked: `spiffe://${TRUST_DOMAIN}/ns/any/sa/body` })
  t.teardown(() => target.stop())
  await target.update(scene.resources)
  const { failures } = await runGenerated(target, scene, INPUTS, SEED)
  t.equal(failures.length, 1, 'the other kinds need no certificate')
  t.match(failures[0], /^certificates: .*where it is bad/)
  t.equal(GENERATED.length, 4)
})
