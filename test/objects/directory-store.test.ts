// biome-ignore-all lint/suspicious/noTemplateCurlyInString: placeholders of manifests are what is tested
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type ObjectRef, refOf } from '../../src/objects/types.ts'
import { keysOf, makeFolder, makeStore, problemLines, recordChanges, service } from './folder.ts'

const serviceRef = (name: string): ObjectRef => ({
  kind: 'Service',
  namespace: 'shop',
  organization: '',
  tenant: '',
  workspace: '',
  name,
})
const serviceManifest = (name: string, port: number) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: { ports: [{ port }] },
})

t.test('reads YAML and JSON of subfolders, and nothing hidden', async (t) => {
  const folder = makeFolder(t)
  folder.write('b.yaml', service('b'))
  folder.write('sub/deep/a.yml', service('a'))
  folder.write('c.json', JSON.stringify(serviceManifest('c', 1)))
  folder.write('.hidden.yaml', service('no'))
  folder.write('.git/x.yaml', service('no'))
  folder.write('note.txt', service('no'))
  const store = makeStore(t, folder)
  t.strictSame(store.list('Service'), [])
  await store.load()
  t.strictSame(keysOf(store.list('Service')), ['Service/shop/a', 'Service/shop/b', 'Service/shop/c'])
  t.strictSame(
    store.list('Service').map(({ source }) => source),
    ['sub/deep/a.yml#1', 'b.yaml#1', 'c.json#1'],
  )
  t.strictSame(problemLines(store), [])
})

t.test('a folder that is not there is a problem, not a crash', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder, { directories: [join(folder.path, 'none')] })
  await store.start()
  t.match(problemLines(store), [/none: cannot be read \(ENOENT\)/])
  const applied = await store.apply(serviceManifest('a', 1))
  t.match(applied, { ok: false, error: { message: /cannot be written \(ENOENT\)/ } })
  t.notOk(existsSync(join(folder.path, 'none')), 'nor is it made: it would come back empty')
})

t.test('apply writes a generated file, replaces by identity, and knows what is unchanged', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  await store.load()
  const changes = recordChanges(store)
  t.strictSame(await store.apply(serviceManifest('a', 1)), { ok: true, value: 'created' })
  t.equal(store.list('Service')[0]?.spec.ports[0]?.port, 1, 'in force before apply resolves')
  t.strictSame(await store.apply(serviceManifest('a', 1)), { ok: true, value: 'unchanged' })
  t.strictSame(await store.apply(serviceManifest('a', 2)), { ok: true, value: 'configured' })
  t.equal(store.list('Service')[0]?.spec.ports[0]?.port, 2)
  t.strictSame(changes, [['added Service/shop/a'], ['modified Service/shop/a']])
  const generated = join(folder.path, '.isthmus/generated')
  t.strictSame(readdirSync(generated), ['service.shop.a.yaml'], 'no lock and no temporary file is left')

  const other = makeStore(t, folder)
  await other.load()
  t.strictSame(keysOf(other.list('Service')), ['Service/shop/a'], 'another store over the folder sees it')
  t.ok(await store.delete(serviceRef('a')))
  t.notOk(await store.delete(serviceRef('a')))
  t.strictSame(readdirSync(generated), [])
})

t.test('apply and delete leave the other documents of the file as they are', async (t) => {
  const folder = makeFolder(t)
  const [a, b, c] = ['a', 'b', 'c'].map((name) => `# about ${name}\n${service(name)}# after ${name}\n`)
  folder.write('all.yaml', [a, b, c].join('---\n'))
  const store = makeStore(t, folder)
  await store.load()
  const text = () => readFileSync(join(folder.path, 'all.yaml'), 'utf8')
  t.strictSame(await store.apply(serviceManifest('b', 8080)), { ok: true, value: 'configured' })
  t.equal(text(), [a, b?.replace('80', '8080'), c].join('---\n'))
  t.ok(await store.delete(serviceRef('b')))
  t.equal(text(), [a, c].join('---\n'))
  await store.delete(serviceRef('c'))
  t.ok(await store.delete(serviceRef('a')))
  t.notOk(existsSync(join(folder.path, 'all.yaml')), 'the file goes with its last document')
  t.strictSame(store.list('Service'), [])
})

t.test('a placeholder that already says the same stays', async (t) => {
  const folder = makeFolder(t)
  const workspace = (org: string, name: string) =>
    `apiVersion: api.tsb.tetrate.io/v2\nkind: Workspace\nmetadata:\n  organization: ${org}\n  tenant: \${TEN}\n  name: w\nspec:\n  namespaceSelector:\n    names:\n    - "${name}"\n`
  folder.write('w.yaml', workspace('${ORG}', '*/a'))
  const store = makeStore(t, folder)
  await store.load()
  const [found] = store.list('Workspace')
  const spec = { namespaceSelector: { names: ['*/b'] } }
  t.strictSame(await store.apply({ ...found?.raw, spec }), { ok: true, value: 'configured' })
  t.equal(readFileSync(join(folder.path, 'w.yaml'), 'utf8'), workspace('${ORG}', '*/b'))
})

t.test('what looks like a placeholder in an applied object is text', async (t) => {
  const store = makeStore(t, makeFolder(t))
  const annotations = { note: '${HOME} and $${HOME}' }
  t.match(await store.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a', annotations } }), {
    ok: true,
  })
  t.strictSame(store.list('Namespace')[0]?.metadata.annotations, annotations)
})

t.test('a Secret keeps its values through apply, and its file from others', async (t) => {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, stringData: { a: 'hush' } }
  await store.apply(secret)
  const raw = store.list('Secret')[0]?.raw ?? {}
  t.strictSame(await store.apply(raw), { ok: true, value: 'unchanged' })
  t.strictSame(await store.apply({ ...raw, type: 'Other' }), { ok: true, value: 'configured' })
  t.equal(store.list('Secret')[0]?.spec.data['a'], 'hush')
  const { mode } = statSync(join(folder.path, '.isthmus/generated/secret.default.s.yaml'))
  t.equal(mode & 0o777, 0o600)
})

t.test('apply refuses what is wrong, with every reason, and what is not ours', async (t) => {
  const store = makeStore(t, makeFolder(t))
  const wrong = await store.apply({ ...serviceManifest('a', 0), spec: { type: 'X', ports: [{ port: 0 }] } })
  t.match(wrong, { ok: false, error: { object: /Service\/a/, field: 'spec.type' } })
  t.ok(!wrong.ok && wrong.error.message.includes('; spec.ports[0].port: expected a number 1-65535, found 0'))
  t.match(await store.apply({ apiVersion: 'v1', kind: 'ConfigMap' }), { ok: false, error: { field: 'kind' } })
})

t.test('apply mends a broken document in place', async (t) => {
  const folder = makeFolder(t)
  folder.write('a.yaml', service('a').replace('80', 'x'))
  const store = makeStore(t, folder)
  await store.load()
  t.match(problemLines(store), [
    /^a\.yaml#1 Service\/a: spec\.ports\[0\]\.port: expected a number 1-65535, found "x"$/,
  ])
  t.strictSame(await store.apply(serviceManifest('a', 1)), { ok: true, value: 'configured' })
  t.strictSame(problemLines(store), [])
  t.match(store.list('Service'), [{ source: 'a.yaml#1' }])
})

t.test('a file that does not parse is not edited', async (t) => {
  const folder = makeFolder(t)
  folder.write('a.yaml', service('a'))
  const store = makeStore(t, folder)
  await store.load()
  folder.write('a.yaml', '{')
  const applied = await store.apply(serviceManifest('a', 1))
  t.match(applied, {
    ok: false,
    error: { object: 'a.yaml', message: /does not parse as YAML: .*; mend the file first/ },
  })
  t.equal(readFileSync(join(folder.path, 'a.yaml'), 'utf8'), '{')
  await t.rejects(store.delete(serviceRef('a')), /a\.yaml: does not parse/)
})

t.test('two files that define one object: both named, the first in force, the second after it', async (t) => {
  const folder = makeFolder(t)
  folder.write('b.yaml', service('a', 2))
  folder.write('a.yaml', `${service('other')}---\n${service('a', 1)}`)
  folder.write('c.yaml', `${service('c', 1)}---\n${service('c', 2)}`)
  const store = makeStore(t, folder)
  await store.load()
  t.strictSame(problemLines(store), [
    'c.yaml#2 Service/shop/c: metadata: is defined already in c.yaml#1, which stays in force; remove one of the two',
    'b.yaml#1 Service/shop/a: metadata: is defined already in a.yaml#2, which stays in force; remove one of the two',
  ])
  t.strictSame(
    store.list('Service').map(({ spec }) => spec.ports[0]?.port),
    [1, 1, 80],
  )
  t.ok(await store.delete(serviceRef('a')), 'delete takes every definition')
  t.strictSame(keysOf(store.list('Service')), ['Service/shop/c', 'Service/shop/other'])
})

t.test('what the user wrote comes before what was generated, wherever that is', async (t) => {
  const folder = makeFolder(t)
  folder.write('.isthmus/generated/service.shop.a.yaml', service('a', 1))
  folder.write('z.yaml', service('a', 2))
  const store = makeStore(t, folder)
  await store.load()
  t.equal(store.list('Service')[0]?.spec.ports[0]?.port, 2)
})

t.test('status: merged, kept apart from the object, gone with it', async (t) => {
  const folder = makeFolder(t)
  folder.write('a.yaml', service('a'))
  const store = makeStore(t, folder)
  await store.load()
  const changes = recordChanges(store)
  const conditions = [{ type: 'Accepted', status: 'True', reason: 'Ok', message: '' }] as const
  await store.updateStatus(serviceRef('a'), { conditions })
  t.strictSame(store.list('Service')[0]?.conditions, conditions)
  t.strictSame(changes, [], 'conditions alone are no event')

  const ingress = [{ ip: '192.0.2.1' }]
  await store.updateStatus(serviceRef('a'), { loadBalancer: { ingress } })
  t.strictSame(changes, [['modified Service/shop/a']])
  t.match(store.list('Service')[0], {
    loadBalancer: ingress,
    conditions,
    raw: { status: { loadBalancer: { ingress } } },
  })
  t.equal(readFileSync(join(folder.path, 'a.yaml'), 'utf8'), service('a'), "the user's file is untouched")

  t.strictSame(await store.apply(serviceManifest('a', 1)), { ok: true, value: 'configured' })
  t.match(store.list('Service')[0], { loadBalancer: ingress }, 'a new spec keeps the status')

  const other = makeStore(t, folder)
  await other.load()
  t.match(other.list('Service')[0], { loadBalancer: ingress, conditions })
  await other.delete(serviceRef('a'))
  t.strictSame(readdirSync(join(folder.path, '.isthmus/status')), [])
  await other.updateStatus(serviceRef('a'), { conditions })
  t.strictSame(readdirSync(join(folder.path, '.isthmus/status')), [], 'what is not there has no status')
})

t.test("a pod's readiness is an event", async (t) => {
  const store = makeStore(t, makeFolder(t))
  await store.apply({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: { containers: [{ name: 'c' }] },
  })
  const changes = recordChanges(store)
  const [pod] = store.list('Pod')
  const ready = [{ type: 'Ready', status: 'True', reason: '', message: '' }] as const
  await store.updateStatus(refOf(pod!), {
    podIPs: [{ ip: '10.0.0.1' }],
    hostIP: '192.0.2.1',
    conditions: ready,
  })
  t.match(store.list('Pod'), [{ podIPs: ['10.0.0.1'], hostIP: '192.0.2.1', ready: true }])
  await store.updateStatus(refOf(pod!), { conditions: [{ ...ready[0], status: 'False' }] })
  t.match(store.list('Pod'), [{ ready: false }])
  t.strictSame(changes, [['modified Pod/default/p'], ['modified Pod/default/p']])
})

t.test('a status that does not fit is left out and named', async (t) => {
  const store = makeStore(t, makeFolder(t))
  await store.apply(serviceManifest('a', 1))
  await store.updateStatus(serviceRef('a'), { loadBalancer: { ingress: [{ ip: 'nonsense' }] } })
  t.strictSame(store.list('Service')[0]?.loadBalancer, [])
  t.match(problemLines(store), [
    /status\.loadBalancer\.ingress\[0\]\.ip: expected an IP address, found "nonsense"/,
  ])
})

t.test('two stores that write the same file at once lose nothing', async (t) => {
  const folder = makeFolder(t)
  folder.write('all.yaml', [1, 2, 3, 4, 5, 6, 7, 8].map((n) => service(`s${n}`)).join('---\n'))
  const stores = [makeStore(t, folder), makeStore(t, folder)]
  for (const store of stores) await store.load()
  const writes = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((n) => [
    stores[n % 2]!.apply(serviceManifest(`s${n}`, 1000 + n)),
    stores[0]!.updateStatus(serviceRef(`s${n}`), { a: n }),
    stores[1]!.updateStatus(serviceRef(`s${n}`), { b: n }),
  ])
  await Promise.all(writes)
  const fresh = makeStore(t, folder)
  await fresh.load()
  for (const { metadata, spec, raw } of fresh.list('Service')) {
    const n = Number(metadata.name.slice(1))
    t.equal(spec.ports[0]?.port, 1000 + n)
    t.strictSame(raw['status'], { a: n, b: n })
  }
})

t.test(
  'a folder that cannot be written is named',
  { skip: process.getuid?.() !== 0 && 'needs root to become another' },
  async (t) => {
    const folder = makeFolder(t)
    folder.write('a.yaml', service('a'))
    const { chmodSync } = await import('node:fs')
    chmodSync(folder.path, 0o555)
    const store = makeStore(t, folder)
    await store.load()
    process.seteuid?.(65_534)
    try {
      const applied = await store.apply(serviceManifest('a', 1))
      t.match(applied, {
        ok: false,
        error: {
          object: 'a.yaml Service/shop/a',
          message: 'cannot be written (EACCES, it is read-only for us)',
        },
      })
      await t.rejects(store.delete(serviceRef('a')), /a\.yaml Service\/shop\/a: cannot be written \(EACCES/)
      await store.updateStatus(serviceRef('a'), { x: 1 })
      await store.updateStatus(serviceRef('a'), { y: 2 })
      t.strictSame(store.list('Service')[0]?.raw['status'], { x: 1, y: 2 }, 'a status is kept in memory')
    } finally {
      process.seteuid?.(0)
    }
  },
)
