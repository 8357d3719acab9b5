import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { canonicalJson } from '../../src/lib/canonical.ts'
import { computeModel } from '../../src/model/compute.ts'
import { ModelStages } from '../../src/model/model-stages.ts'
import type { Model } from '../../src/model/types.ts'
import type { Manifest } from '../../src/objects/types.ts'
import { listOf, manifests, objects, pod, service } from './build.ts'
import { histories, slice, World } from './history.ts'

const self = { cluster: 'c1', trustDomain: 'c1.local' }

/** A model as data, its functions by what they answer. */
function told(model: Model): unknown {
  const all = [...model.clusters.values()]
  return JSON.parse(
    canonicalJson({
      ...model,
      calls: all.map((from) => [model.admits(from), all.map((to) => model.mayCall(from, to))]),
    }),
  )
}

t.test(
  'over any history of objects the next model is the one that would be computed from scratch',
  async (t) => {
    let models = 0
    let shared = 0
    fc.assert(
      fc.property(histories, (history) => {
        const world = new World()
        const stages = new ModelStages()
        let last: Model | undefined
        for (const steps of history) {
          world.apply(steps)
          const next = computeModel({ ...self, list: world.list }, stages)
          assert.deepEqual(told(next), told(computeModel({ ...self, list: world.list })))
          models++
          if (last !== undefined && next.services.some((one) => last?.services.includes(one) === true))
            shared++
          last = next
        }
      }),
      { numRuns: 150 },
    )
    t.ok(shared > models / 2, `most models share services with the one before (${shared} of ${models})`)
  },
)

const COUNT = 200

function world(): Manifest[] {
  const names = Array.from({ length: COUNT }, (_, i) => `s${i}`)
  return names.flatMap((name, i) => [
    service(name, 'ns'),
    slice(`${name}-1`, 'ns', name, [{ address: `10.0.0.${i}`, podName: `${name}-pod` }]),
    pod(`${name}-pod`, 'ns', { app: name }),
  ])
}

t.test('what changed of one service is derived for that service alone', async (t) => {
  const before = objects(manifests(...world()))
  const stages = new ModelStages()
  const model = computeModel({ ...self, list: listOf(before) }, stages)
  const cost = (name: string, changed: Manifest): { model: Model; derived: number } => {
    const [object] = objects(manifests(changed))
    const list = listOf(
      before.map((each) => (each.metadata.name === name && object?.kind === each.kind ? object : each)),
    )
    const derived = stages.derived
    return { model: computeModel({ ...self, list }, stages), derived: stages.derived - derived }
  }
  const unchanged = (next: Model): number =>
    next.services.filter((one) => model.services.includes(one)).length

  const moved = cost('s7-1', slice('s7-1', 'ns', 's7', [{ address: '10.9.9.9', podName: 's7-pod' }]))
  t.equal(moved.derived, 3, 'an EndpointSlice: itself, its service, its exposure')
  t.equal(unchanged(moved.model), COUNT - 1)

  computeModel({ ...self, list: listOf(before) }, stages)
  const labelled = cost('s7-pod', pod('s7-pod', 'ns', { app: 's7', version: 'v2' }))
  t.equal(labelled.derived, 2, 'a Pod: the service that selects it, its exposure')

  computeModel({ ...self, list: listOf(before) }, stages)
  const same = cost('s7-1', slice('s7-1', 'ns', 's7', [{ address: '10.0.0.7', podName: 's7-pod' }]))
  t.equal(same.derived, 2, 'what comes out as it was goes no further')
})
