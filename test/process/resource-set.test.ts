import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { ResourceSet } from '../../src/proxy/process/resource-set.ts'
import { encodeNameTable } from '../../src/resources/name-table.ts'
import { TYPE } from '../../src/xds/types.ts'
import { credentialSecret, endpoints, gatewayListener, SNI, trustSecret, upstream } from '../proxy/support.ts'

const names = (set: ResourceSet, typeUrl: string) => [...(set.snapshot().get(typeUrl)?.keys() ?? [])]

t.test('it is complete once everything that is referred to is there, and says what is missing', async (t) => {
  const ca = await createCa({ trustDomain: 'cluster-1.example' })
  const set = new ResourceSet({ nameTable: true })
  t.same(set.missing(), ['Cluster', 'Listener', 'NameTable'])
  set.update(TYPE.cluster, [upstream(SNI)], [])
  set.update(TYPE.listener, [gatewayListener()], [])
  set.update(TYPE.nameTable, [], [])
  t.same(set.wanted(), { endpoints: [SNI], secrets: ['ROOTCA'] }, 'our own credential is not asked for')
  t.same(set.missing(), [SNI, 'ROOTCA'])
  set.update(TYPE.endpoints, [endpoints(SNI, [])], [])
  set.update(TYPE.secret, [trustSecret([ca])], [])
  t.same(set.missing(), [])
})

t.test('what nothing refers to any more is dropped, and asked for no more', async (t) => {
  const set = new ResourceSet({ nameTable: false })
  set.update(TYPE.cluster, [upstream('a'), upstream('b')], [])
  set.update(TYPE.endpoints, [endpoints('a', []), endpoints('b', [])], [])
  const { generation } = set
  set.update(TYPE.cluster, [], ['a'])
  t.not(set.generation, generation)
  t.same(set.wanted().endpoints, ['b'])
  t.same(names(set, TYPE.endpoints), ['b'])
  const before = set.snapshot()
  set.update(TYPE.endpoints, [endpoints('b', [{ port: 1 }])], [])
  t.equal(set.snapshot().get(TYPE.cluster), before.get(TYPE.cluster), 'an unchanged type is the same map')
  t.not(set.snapshot().get(TYPE.endpoints), before.get(TYPE.endpoints))
})

t.test('a bad resource is refused alone, and its last good form stays', async (t) => {
  const set = new ResourceSet({ nameTable: true })
  const good = upstream('a')
  set.update(TYPE.cluster, [good], [])
  const broken = { ...good, body: Buffer.from([255]), version: 'x' }
  const problems = set.update(TYPE.cluster, [broken, upstream('b')], [])
  t.equal(problems.length, 1)
  t.match(problems[0]?.object, 'a')
  t.equal(set.snapshot().get(TYPE.cluster)?.get('a'), good)
  t.same(names(set, TYPE.cluster), ['a', 'b'])
  t.equal(set.update(TYPE.nameTable, [{ ...encodeNameTable({}), body: Buffer.from([255]) }], []).length, 1)
  t.equal(set.update('type.googleapis.com/x.Y', [good], []).length, 1)
})

t.test('what is never good holds up neither the rest nor the snapshot', async (t) => {
  const set = new ResourceSet({ nameTable: false })
  set.update(TYPE.cluster, [upstream('a'), upstream('b'), upstream('c')], [])
  set.update(TYPE.listener, [], [])
  t.same(set.missing(), ['a', 'b', 'c'])
  const broken = { ...endpoints('b', []), body: Buffer.from([255]) }
  set.update(TYPE.endpoints, [endpoints('a', []), broken], ['c'])
  t.same(set.missing(), [], 'one is refused, one does not exist')
  const restored = new ResourceSet({ nameTable: false })
  restored.restore(set.snapshot())
  t.same(restored.missing(), [], 'nor does it hold up a start without discovery')
  set.update(TYPE.cluster, [], ['b'])
  set.update(TYPE.cluster, [upstream('b')], [])
  t.same(set.missing(), ['b'], 'asked for anew, it is waited for anew')
  set.update(TYPE.endpoints, [endpoints('b', [])], [])
  t.same(set.missing(), [])
})

t.test('a private key is not taken from discovery', async (t) => {
  const ca = await createCa({ trustDomain: 'cluster-1.example' })
  const issued = await ca.issue({ namespace: 'a', serviceAccount: 'b' })
  const set = new ResourceSet({ nameTable: false })
  set.update(TYPE.listener, [gatewayListener()], [])
  t.match(set.update(TYPE.secret, [credentialSecret(issued, 'ROOTCA')], []), [{ field: 'tls_certificate' }])
  t.same(names(set, TYPE.secret), [])
})

t.test('what was saved is restored whole, whatever the order of its types', async (t) => {
  const set = new ResourceSet({ nameTable: false })
  set.update(TYPE.endpoints, [], [])
  set.update(TYPE.cluster, [upstream('a')], [])
  set.update(TYPE.endpoints, [endpoints('a', [])], [])
  set.update(TYPE.listener, [], [])
  const restored = new ResourceSet({ nameTable: false })
  t.same(restored.restore(set.snapshot()), [])
  t.same(restored.missing(), [])
  t.same(names(restored, TYPE.endpoints), ['a'])
})
