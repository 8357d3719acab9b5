import { mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { keysOf, makeFolder, makeStore, problemLines, recordChanges, service, until } from './folder.ts'

const DIRECT = 1_000

t.test('saving a file takes effect within a second', async (t) => {
  const folder = makeFolder(t)
  folder.write('a.yaml', service('a', 1))
  const store = makeStore(t, folder)
  await store.start()
  const port = () => store.list('Service')[0]?.spec.ports[0]?.port
  const changes = recordChanges(store)
  for (const wanted of [2, 3, 4]) {
    const start = performance.now()
    folder.write('a.yaml', service('a', wanted))
    await until(() => port() === wanted, `port ${wanted}`)
    t.ok(performance.now() - start < DIRECT, `${Math.round(performance.now() - start)} ms`)
  }
  t.strictSame(
    changes,
    Array.from({ length: 3 }, () => ['modified Service/shop/a']),
  )
})

t.test('several files are one batch; equal content is no event', async (t) => {
  const folder = makeFolder(t)
  folder.write('a.yaml', service('a'))
  const store = makeStore(t, folder)
  await store.start()
  const changes = recordChanges(store)
  folder.write('a.yaml', `# the same, in other words\n${service('a')}`)
  folder.write('new/b.yaml', service('b'))
  folder.write('new/c.yaml', service('c'))
  await until(() => store.list('Service').length === 3, 'three services')
  t.strictSame(changes.flat(), ['added Service/shop/b', 'added Service/shop/c'])
  t.equal(changes.length, 1)
})

t.test('who no longer watches hears nothing; who throws harms nobody', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  await store.start()
  const stop = store.watch(() => t.fail('called after its end'))
  stop()
  store.watch(() => {
    throw new Error('a bug')
  })
  const changes = recordChanges(store)
  folder.write('a.yaml', service('a'))
  await until(() => changes.length === 1, 'the event')
})

t.test('a file that does not parse, or is half written, keeps its objects and says so', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  folder.write('a.yaml', `${service('a')}---\n${service('b')}`)
  await store.start()
  const changes = recordChanges(store)
  folder.write('a.yaml', `${service('a')}---\n${service('b').slice(0, 40)}: [`)
  await until(() => store.problems().length > 0, 'the problem')
  t.match(problemLines(store), [/^a\.yaml: does not parse as YAML/])
  t.strictSame(keysOf(store.list('Service')), ['Service/shop/a', 'Service/shop/b'])
  folder.write('a.yaml', `${service('a')}---\n${service('b', 81)}`)
  await until(() => store.problems().length === 0, 'the end of the problem')
  t.strictSame(changes, [['modified Service/shop/b']])
})

t.test('a broken document keeps its own object; the others of the file take effect', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  folder.write('a.yaml', [service('a', 1), service('b', 1), service('c', 1)].join('---\n'))
  await store.start()
  folder.write('a.yaml', [service('b', 99_999), service('a', 2)].join('---\n'))
  await until(() => store.problems().length > 0, 'the problem')
  t.strictSame(
    store.list('Service').map(({ metadata, spec }) => `${metadata.name}:${spec.ports[0]?.port}`),
    ['a:2', 'b:1'],
  )
  t.match(problemLines(store), [/^a\.yaml#1 Service\/b: spec\.ports\[0\]\.port/])

  folder.write('a.yaml', [service('a', 3), service('B!', 1)].join('---\n'))
  await until(() => store.list('Service')[0]?.spec.ports[0]?.port === 3, 'the next version')
  t.strictSame(
    keysOf(store.list('Service')),
    ['Service/shop/a', 'Service/shop/b'],
    'who knows which one B! was',
  )
})

t.test('a file cut off inside a document keeps what may still come after it', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  const whole = [service('a', 1), service('b', 1), service('c', 1)].join('---\n')
  folder.write('a.yaml', whole)
  await store.start()
  const changes = recordChanges(store)
  folder.write('a.yaml', whole.slice(0, whole.indexOf('spec', whole.indexOf('---'))))
  await until(() => store.problems().length > 0, 'the problem')
  t.match(problemLines(store), [/^a\.yaml#2 Service\/b: spec/])
  folder.write('a.yaml', whole)
  await until(() => store.problems().length === 0, 'the end of the problem')
  t.strictSame(changes, [])
})

t.test('an empty file and a file that is gone delete, a moment of either does not', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  for (const name of ['a', 'b', 'c', 'd']) folder.write(`${name}.yaml`, service(name))
  await store.start()
  const changes = recordChanges(store)
  // As editors save: in place with a truncation first, or by moving the old file away.
  truncateSync(join(folder.path, 'c.yaml'))
  renameSync(join(folder.path, 'd.yaml'), join(folder.path, 'd.yaml~'))
  folder.write('a.yaml', '')
  folder.remove('b.yaml')
  await new Promise((resolve) => setTimeout(resolve, 60))
  folder.write('c.yaml', service('c', 81))
  folder.write('d.yaml', service('d', 81))
  await until(() => store.list('Service').length === 2, 'two services')
  await until(() => changes.flat().length === 4, 'four changes')
  t.strictSame(changes.flat().sort(), [
    'deleted Service/shop/a',
    'deleted Service/shop/b',
    'modified Service/shop/c',
    'modified Service/shop/d',
  ])
  t.strictSame(problemLines(store), [])
})

t.test('a file moved is no event and no duplicate', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  folder.write('b.yaml', service('a'))
  await store.start()
  const changes = recordChanges(store)
  renameSync(join(folder.path, 'b.yaml'), join(folder.path, 'c.yaml'))
  let worst = 0
  await until(() => {
    worst = Math.max(worst, store.problems().length)
    return store.list('Service')[0]?.source === 'c.yaml#1'
  }, 'the new place')
  t.equal(worst, 0)
  t.strictSame(changes, [])
})

t.test('a directory that vanishes keeps its objects; when it is back, it counts', async (t) => {
  const folder = makeFolder(t)
  folder.write('in/a.yaml', service('a'))
  const inner = join(folder.path, 'in')
  const store = makeStore(t, folder, { directories: [inner] })
  await store.start()
  const changes = recordChanges(store)
  renameSync(inner, join(folder.path, 'away'))
  await until(() => store.problems().length > 0, 'the problem')
  t.match(problemLines(store), [/cannot be read \(ENOENT\); what it defined before stays in force/])
  t.equal(store.list('Service').length, 1)
  folder.write('in/b.yaml', service('b'))
  await until(() => store.list('Service')[0]?.metadata.name === 'b', 'the new content')
  t.strictSame(changes.flat().sort(), ['added Service/shop/b', 'deleted Service/shop/a'])
  t.strictSame(problemLines(store), [])
  folder.write('in/c.yaml', service('c'))
  await until(() => store.list('Service').length === 2, 'a change in the new folder')
})

t.test("a mounted ConfigMap's swap of ..data takes effect as one change", async (t) => {
  const folder = makeFolder(t)
  /** As the kubelet does it: a new hidden folder, `..data` swapped by rename, then the visible links. */
  const publish = (version: string, files: Readonly<Record<string, string>>) => {
    mkdirSync(join(folder.path, `..${version}`))
    for (const [name, text] of Object.entries(files))
      writeFileSync(join(folder.path, `..${version}`, name), text)
    symlinkSync(`..${version}`, join(folder.path, '..data_tmp'))
    renameSync(join(folder.path, '..data_tmp'), join(folder.path, '..data'))
    for (const name of Object.keys(files)) {
      rmSync(join(folder.path, name), { force: true })
      symlinkSync(join('..data', name), join(folder.path, name))
    }
  }
  publish('2024_1', { 'a.yaml': service('a', 1), 'b.yaml': service('b', 1), 'c.yaml': service('c', 1) })
  const store = makeStore(t, folder)
  await store.start()
  t.equal(store.list('Service').length, 3)
  t.strictSame(problemLines(store), [], 'nothing is read twice')
  const changes = recordChanges(store)
  publish('2024_2', { 'a.yaml': service('a', 2), 'b.yaml': service('b', 2) })
  rmSync(join(folder.path, '..2024_1'), { recursive: true })
  rmSync(join(folder.path, 'c.yaml'))
  await until(() => store.list('Service').length === 2, 'the end of c')
  t.strictSame(changes, [['modified Service/shop/a', 'modified Service/shop/b'], ['deleted Service/shop/c']])
})

t.test('what another process applies shows here', async (t) => {
  const folder = makeFolder(t)
  const [here, there] = [makeStore(t, folder), makeStore(t, folder)]
  await here.start()
  const namespace = (labels: Record<string, string>) => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'n', labels },
  })
  await there.apply(namespace({}))
  await until(() => here.list('Namespace').length === 1, 'the object')
  await there.apply(namespace({ a: 'b' }))
  await until(() => here.list('Namespace')[0]?.metadata.labels['a'] === 'b', 'its label')
  const ref = {
    kind: 'Namespace',
    namespace: '',
    organization: '',
    tenant: '',
    workspace: '',
    name: 'n',
  } as const
  await there.updateStatus(ref, { phase: 'Active' })
  await until(() => JSON.stringify(here.list('Namespace')[0]?.raw).includes('Active'), 'its status')
  await there.delete(ref)
  await until(() => here.list('Namespace').length === 0, 'its end')
})

t.test('a link to a parent folder does not go round in circles', async (t) => {
  const folder = makeFolder(t)
  folder.write('a.yaml', service('a'))
  symlinkSync('.', join(folder.path, 'self'))
  const store = makeStore(t, folder)
  await store.start()
  t.strictSame(problemLines(store), [])
  t.equal(store.list('Service').length, 1)
})
