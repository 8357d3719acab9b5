import t from 'tap'
import { ok } from '../../src/lib/result.ts'
import { parseManifestFile } from '../../src/objects/manifest-file.ts'
import { ObjectTable } from '../../src/objects/object-table.ts'
import { refOf } from '../../src/objects/types.ts'
import { service } from './folder.ts'

const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
const file = (path: string, text: string) => new Map([[path, parseManifestFile(text, path, {})]])
const gone = (path: string) => new Map([[path, undefined]])

t.test('the earlier known definition stays in force; after it the first by path', async (t) => {
  const table = new ObjectTable(byName)
  const sourceNow = () => table.list('Service')[0]?.source
  for (const path of ['d', 'c', 'b', 'a']) table.update(file(path, service('x')))
  t.equal(sourceNow(), 'd#1')
  t.equal(table.problems().length, 3)
  t.strictSame(table.update(gone('c')), [], 'one that is not in force goes: nothing changes')
  t.equal(sourceNow(), 'd#1')
  t.strictSame(table.update(gone('d')), [], 'the next one says the same: no event')
  t.equal(sourceNow(), 'a#1')
  table.update(gone('a'))
  t.match(table.update(gone('b')), [{ type: 'deleted', object: { source: 'b#1' } }])
  t.strictSame(table.problems(), [])
})

t.test('a broken first definition leaves the object to the second', async (t) => {
  const table = new ObjectTable(byName)
  table.update(file('a', service('x', 0)))
  table.update(file('b', service('x', 2)))
  t.equal(table.list('Service')[0]?.source, 'b#1')
  t.strictSame(table.filesOf(refOf(table.list('Service')[0]!)), ['b', 'a'], 'the broken document is known')
})

t.test('what is broken everywhere is refused, until it is good once or gone', async (t) => {
  const table = new ObjectTable(byName)
  const refused = () => table.refused('Service').map(({ ref, problems }) => `${ref.name}: ${problems.length}`)
  table.update(file('a', service('x', 0)))
  t.strictSame(refused(), ['x: 1'])
  t.strictSame(table.refused('Pod'), [])
  table.update(file('a', 'kind: ['))
  t.strictSame(refused(), ['x: 1'], 'who it was is remembered')
  table.update(file('a', service('X', 0)))
  t.strictSame(refused(), ['x: 1'], 'the document without a name may be it')
  table.update(file('b', service('x')))
  t.strictSame(refused(), [], 'another file has it')
  table.update(file('b', service('x', 0)))
  t.strictSame(refused(), [], 'the last good version stays')
  table.update(gone('b'))
  t.strictSame(refused(), ['x: 1'])
  table.update(gone('a'))
  t.strictSame(refused(), [])
})

t.test('moving an object between files in one update is no event', async (t) => {
  const table = new ObjectTable(byName)
  table.update(file('a', service('x')))
  t.strictSame(table.update(new Map([...file('b', service('x')), ...gone('a')])), [])
  t.equal(table.list('Service')[0]?.source, 'b#1')
})

t.test('a status waits for its object, and a broken status file keeps the last one', async (t) => {
  const table = new ObjectTable(byName)
  const ref = {
    kind: 'Service',
    namespace: 'shop',
    organization: '',
    tenant: '',
    workspace: '',
    name: 'x',
  } as const
  const status = { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } }
  t.strictSame(table.update(new Map(), new Map([['s', ok({ ref, status })]])), [])
  table.update(file('a', service('x')))
  t.match(table.list('Service'), [{ loadBalancer: [{ ip: '192.0.2.1' }] }])
  const broken = { ok: false, error: { object: 's', field: '', message: 'is broken' } } as const
  t.strictSame(table.update(new Map(), new Map([['s', broken]])), [])
  t.match(table.list('Service'), [{ loadBalancer: [{ ip: '192.0.2.1' }] }])
  t.match(table.problems(), [{ message: 'is broken' }])
  t.match(table.update(new Map(), gone('s')), [{ type: 'modified', object: { loadBalancer: [] } }])
})
