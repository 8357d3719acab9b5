// Two CAs of one name, of which TLS libraries cannot tell who signed what: when such a pair comes and goes, nobody is locked out and
// nobody gets in.
import t from 'tap'
import { mintLeaf, mintRoot } from '../identity/mint.ts'
import { trustSecret } from '../proxy/support.ts'
import { EngineTarget } from '../targets/engine-target.ts'
import { type Resources, unavailable } from '../targets/target.ts'
import { TRUST_DOMAIN } from './certificates.ts'
import { AttackContext, outcomeOf, setScene } from './context.ts'

const scene = await setScene()
t.teardown(() => scene.canary.close())
const { pool, resources } = scene
const ID = `spiffe://${TRUST_DOMAIN}/ns/bookinfo/sa/sleep`
const twin = mintRoot('cluster-8 root')
const twins: Resources = {
  ...resources,
  secrets: [
    ...resources.secrets.filter(({ name }) => name !== 'ROOTCA'),
    trustSecret([...pool.roots, { trustDomain: 'cluster-7.example', bundlePem: twin.pem }]),
  ],
}
const strangers = {
  'an id of the other twin': mintLeaf(twin, ID),
  'a stranger': mintLeaf(mintRoot('nobody'), ID),
  'a caller whom no policy lets in': mintLeaf(twin, 'spiffe://cluster-7.example/ns/a/sa/b'),
  nobody: undefined,
}

for (const kind of ['node', 'bun'] as const) {
  t.test(
    `a second CA of one name comes and goes, on ${kind}`,
    { skip: unavailable(kind) ?? false },
    async (t) => {
      const target = new EngineTarget(kind)
      t.teardown(() => target.stop())
      for (const [step, served] of [resources, twins, resources, twins].entries()) {
        await target.update(served)
        for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
          const context = new AttackContext(target, scene)
          t.equal(
            outcomeOf(await context.call({ maxVersion })),
            'routed',
            `step ${step}: a good one, ${maxVersion}`,
          )
          const { connects } = scene.canary
          for (const [who, leaf] of Object.entries(strangers)) {
            const seen = await context.call({ cert: leaf?.pem, key: leaf?.keyPem, maxVersion })
            t.equal(seen.data.length, 0, `step ${step}: ${who}, ${maxVersion}`)
          }
          t.equal(scene.canary.connects, connects)
          context.end()
        }
      }
    },
  )
}
