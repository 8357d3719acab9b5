import t from 'tap'
import { ServiceEntryWriter } from '../../src/controllers/service-entry-writer.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { EntryConfig } from '../../src/resources/service-entry.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { gateway, modelOf, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { counted, ref, storeWith } from './store.ts'

const NAME = 'global-gwinternal-productpage-bookinfo-svc-cluster-local'
const own = (name: string) =>
  yamlOf({
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'ServiceEntry',
    metadata: { name, namespace: 'xcp-multicluster' },
    spec: {
      hosts: ['example.com'],
      location: 'MESH_EXTERNAL',
      resolution: 'NONE',
      ports: [{ number: 80, name: 'http' }],
    },
  })

function entries(...names: string[]): EntryConfig[] {
  const yaml = names.map((name) => service({ name, pods: ['10.0.1.1:80'] })).join('')
  const model = modelOf(yaml + gateway('203.0.113.10') + workspace + setting())
  return exportEntries([...model.exposures.values()], model.gateways, model.self)
}

t.test('the store follows what is desired, and nothing is written twice', async (t) => {
  const real = await storeWith(t, own('my-own'))
  const { store, writes } = counted(real)
  const writer = new ServiceEntryWriter({ store, logger: silentLogger })
  t.teardown(() => writer.stop())
  const names = () => real.list('ServiceEntry').map(({ metadata }) => metadata.name)
  writer.set(entries('productpage', 'details'))
  await writer.idle()
  t.strictSame(names(), [NAME.replace('productpage', 'details'), NAME, 'my-own'])
  writer.set(entries('productpage', 'details'))
  await writer.idle()
  t.strictSame(writes, ['apply', 'apply'])
  writer.set(entries('productpage'))
  await writer.idle()
  t.strictSame(names(), [NAME, 'my-own'])
  await real.delete(ref('ServiceEntry', 'xcp-multicluster', NAME))
  await writer.idle()
  t.strictSame(names(), [NAME, 'my-own'], 'what somebody removes is made again')
  writer.set([])
  await writer.idle()
  t.strictSame(names(), ['my-own'])
})

t.test("a user's own entry of the same name stays as it is", async (t) => {
  const store = await storeWith(t, own(NAME))
  const writer = new ServiceEntryWriter({ store, logger: silentLogger })
  t.teardown(() => writer.stop())
  writer.set(entries('productpage'))
  await writer.idle()
  t.strictSame(store.list('ServiceEntry')[0]?.spec.hosts, ['example.com'])
  t.match(writer.problems(), [{ object: /ServiceEntry\/xcp-multicluster/, message: /left alone/ }])
  writer.set([])
  await writer.idle()
  t.equal(store.list('ServiceEntry').length, 1)
})

t.test('nothing is deleted before anything is known', async (t) => {
  const store = await storeWith(t, '')
  const first = new ServiceEntryWriter({ store, logger: silentLogger })
  first.set(entries('productpage'))
  await first.idle()
  await first.stop()
  const second = new ServiceEntryWriter({ store, logger: silentLogger })
  t.teardown(() => second.stop())
  await second.idle()
  t.equal(store.list('ServiceEntry').length, 1)
})
