import t from 'tap'
import { overlay } from '../../src/objects/overlay.ts'
import { refKey, refOf } from '../../src/objects/types.ts'
import { listOf, objects, service } from '../model/build.ts'

const there = objects(`apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {selector: {app: web}, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.7}]}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 5432}]}
`)
const store = { list: listOf(there), refused: () => [] }
const names = (list: readonly { metadata: { name: string } }[]) => list.map(({ metadata }) => metadata.name)

t.test(
  'what is applied is as if it were in force, with its status, and the store is as it was',
  async (t) => {
    const web = { ...service('web', 'shop', { port: 81 }) }
    const edited = overlay(store, { apply: [web, service('new', 'shop'), there[1]?.raw], delete: [] })
    t.same(edited.edits, [
      { object: 'Service/shop/web', change: 'configured' },
      { object: 'Service/shop/new', change: 'created' },
      { object: 'Service/shop/db', change: 'unchanged' },
    ])
    t.same(names(edited.list('Service')), ['db', 'new', 'web'])
    const changed = edited.list('Service').find(({ metadata }) => metadata.name === 'web')
    t.match(changed, { spec: { ports: [{ port: 81 }] }, loadBalancer: [{ ip: '203.0.113.7' }] })
    t.same(names(store.list('Service')), ['web', 'db'])
  },
)

t.test('what is deleted is not there; what was not there is said', async (t) => {
  const [web] = there
  if (web === undefined) throw new Error('no object')
  const gone = { ...refOf(web), name: 'ghost' }
  const edited = overlay(store, { apply: [], delete: [refOf(web), gone] })
  t.same(names(edited.list('Service')), ['db'])
  t.same(edited.edits, [
    { object: refKey(refOf(web)), change: 'deleted' },
    { object: 'Service/shop/ghost', change: 'missing' },
  ])
})

t.test('a broken document is named, and the others count', async (t) => {
  const edited = overlay(store, {
    apply: [{ kind: 'Service' }, { apiVersion: 'apps/v1', kind: 'DaemonSet' }, service('new', 'shop')],
    delete: [],
  })
  t.match(edited.problems, [
    { object: /document 1/, field: 'apiVersion' },
    { object: 'document 2', field: 'kind' },
  ])
  t.same(names(edited.list('Service')), ['db', 'new', 'web'].toSorted())
})

t.test('what was refused and is applied now is refused no more', async (t) => {
  const [web] = there
  if (web === undefined) throw new Error('no object')
  const ref = { ...refOf(web), name: 'broken' }
  const refusing = { list: store.list, refused: () => [{ ref, doc: {}, problems: [] }] }
  t.equal(overlay(refusing, { apply: [], delete: [] }).refused('Service').length, 1)
  t.same(overlay(refusing, { apply: [service('broken', 'shop')], delete: [] }).refused('Service'), [])
})
