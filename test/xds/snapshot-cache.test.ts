import t from 'tap'
import { mapVersion, setVersion } from '../../src/xds/resource.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { byName, plain } from './fixtures.ts'

t.test('only differences are told, and what did not change stays the same object', async (t) => {
  const cache = new SnapshotCache({ identifier: 'me' })
  const told: Record<string, string[]>[] = []
  const stop = cache.watch((changes) =>
    told.push(Object.fromEntries([...changes].map(([type, names]) => [type, [...names].sort()]))),
  )
  cache.set(
    new Map([
      ['A', byName(plain('a', '1'), plain('b', '1'))],
      ['B', byName(plain('x', '1'))],
    ]),
  )
  const kept = cache.current().get('A')?.get('a')
  const other = cache.current().get('B')
  cache.setType('A', byName(plain('a', '1'), plain('b', '2'), plain('c', '1')))
  t.equal(cache.current().get('A')?.get('a'), kept)
  t.equal(cache.current().get('B'), other)
  cache.setType('A', byName(plain('a', '1'), plain('b', '2'), plain('c', '1')))
  cache.set(new Map([['A', byName(plain('a', '1'))]]))
  t.same(told, [{ A: ['a', 'b'], B: ['x'] }, { A: ['b', 'c'] }, { A: ['b', 'c'], B: ['x'] }])
  stop()
  cache.set(new Map())
  t.equal(told.length, 3)
  t.equal(cache.identifier(), 'me')
})

t.test('the version of a set depends on its members alone', async (t) => {
  const [a, b] = [plain('a', '1'), plain('b', '1')]
  t.equal(setVersion([a, b]), setVersion([plain('b', '1'), plain('a', '1')]))
  t.not(setVersion([a, b]), setVersion([a]))
  t.not(setVersion([a, b]), setVersion([a, plain('b', '2')]))
  t.equal(mapVersion(byName(a, b)), setVersion([a, b]))
})
