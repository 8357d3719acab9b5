import t from 'tap'
import { StatusWriter } from '../../src/controllers/status-writer.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { computeModel } from '../../src/model/compute.ts'
import { CONDITION_TYPES } from '../../src/model/types.ts'
import { refKey, refOf } from '../../src/objects/types.ts'
import { gateway, service, setting, workspace } from '../resources/world.ts'
import { counted, ref, storeWith } from './store.ts'

const story = service({ name: 'productpage', pods: ['10.0.1.1:80'] }) + gateway() + workspace + setting()

t.test('conditions and addresses are in the objects, written only when they change', async (t) => {
  const real = await storeWith(t, story)
  const { store, writes } = counted(real)
  const writer = new StatusWriter({ store, logger: silentLogger })
  t.teardown(() => writer.stop())
  const model = () =>
    computeModel({ cluster: 'cluster-1', trustDomain: 'cluster-1.local', list: (kind) => real.list(kind) })
  // As discovery does it: every change of objects is a new model, whose conditions are written.
  const end = real.watch(() => writer.set(model()))
  t.teardown(end)
  writer.set(model())
  await writer.idle()
  const condition = (type: string) =>
    real.list('IngressGateway')[0]?.conditions.find((each) => each.type === type)
  t.match(condition('Programmed'), { status: 'False', reason: 'AwaitingAddress' })
  const before = writes.length
  writer.set(model())
  await writer.idle()
  t.equal(writes.length, before, 'writing a status does not lead to writing it again')

  await real.updateStatus(ref('Service', 'bookinfo', 'eastwest-gateway'), {
    loadBalancer: { ingress: [{ ip: '203.0.113.1' }] },
  })
  writer.set(model())
  await writer.idle()
  t.match(condition('Programmed'), { status: 'True' })
  const status = real.list('IngressGateway')[0]?.raw['status'] as { addresses?: unknown }
  t.strictSame(status.addresses, [{ value: '203.0.113.1', port: 15443 }])
})

t.test('after a restart what is written already is not written again', async (t) => {
  const real = await storeWith(t, workspace + setting() + service({ name: 'a' }))
  const model = () =>
    computeModel({ cluster: 'cluster-1', trustDomain: 'cluster-1.local', list: (kind) => real.list(kind) })
  const first = new StatusWriter({ store: real, logger: silentLogger })
  first.set(model())
  await first.idle()
  await first.stop()
  const { store, writes } = counted(real)
  const second = new StatusWriter({ store, logger: silentLogger })
  t.teardown(() => second.stop())
  second.set(model())
  await second.idle()
  t.strictSame(writes, [])
})

t.test('a condition of ours is there once, whatever its type and however often it changes', async (t) => {
  const real = await storeWith(t, workspace)
  const { store, writes } = counted(real)
  const writer = new StatusWriter({ store, logger: silentLogger })
  t.teardown(() => writer.stop())
  const object = real.list('Workspace')[0]
  if (object === undefined) throw new Error('no Workspace')
  const foreign = { type: 'Theirs', status: 'True' as const, reason: 'Theirs', message: '' }
  await real.updateStatus(refOf(object), { conditions: [foreign] })
  for (const message of ['first', 'second', 'second']) {
    writer.set({
      gateways: [],
      conditions: CONDITION_TYPES.map((type) => ({
        object: refKey(refOf(object)),
        type,
        status: true,
        reason: 'Because',
        message,
      })),
    })
    await writer.idle()
    const written = real.list('Workspace')[0]?.conditions ?? []
    t.strictSame(written.map(({ type }) => type).sort(), ['Theirs', ...CONDITION_TYPES].sort())
    t.ok(written.every((each) => each.type === 'Theirs' || each.message === message))
  }
  t.equal(writes.length, 2, 'what did not change is not written')
})
