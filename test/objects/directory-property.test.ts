// Random histories of a real folder: whatever was done to it, the store ends where a fresh reading of the folder does.
import { renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { DirectoryStore } from '../../src/objects/directory-store.ts'
import { makeFolder, makeStore, recordChanges, service, until } from './folder.ts'

const file = fc.constantFrom('a.yaml', 'b.yaml', 'sub/c.yaml')
const document = fc.record({
  name: fc.constantFrom('p', 'q', 'r', 's'),
  port: fc.integer({ min: 1, max: 9 }),
})
const step = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      file,
      documents: fc.array(document, { maxLength: 2 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), file }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('move' as const), file, to: file }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('removeFolder' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('apply' as const), document }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), document }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 100 }) }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never
type Folder = ReturnType<typeof makeFolder>

async function take(one: Step, folder: Folder, store: DirectoryStore): Promise<void> {
  switch (one.do) {
    case 'write':
      return folder.write(one.file, one.documents.map(({ name, port }) => service(name, port)).join('---\n'))
    case 'remove':
      return rmSync(join(folder.path, one.file), { force: true })
    case 'move':
      folder.write(one.to, '')
      try {
        renameSync(join(folder.path, one.file), join(folder.path, one.to))
      } catch {
        // There is no such file now.
      }
      return
    case 'removeFolder':
      return rmSync(join(folder.path, 'sub'), { recursive: true, force: true })
    case 'apply': {
      const { name, port } = one.document
      const metadata = { name, namespace: 'shop' }
      await store.apply({ apiVersion: 'v1', kind: 'Service', metadata, spec: { ports: [{ port }] } })
      return
    }
    case 'delete': {
      const above = { namespace: 'shop', organization: '', tenant: '', workspace: '' }
      await store.delete({ kind: 'Service', ...above, name: one.document.name })
      return
    }
    case 'wait':
      await new Promise((resolve) => setTimeout(resolve, one.ms))
      return
    default:
      return one satisfies never
  }
}

/** name → port; a name that several documents define may have any of their ports, which the fresh store's problems tell. */
const portsOf = (store: DirectoryStore): Map<string, number | undefined> =>
  new Map(store.list('Service').map(({ metadata, spec }) => [metadata.name, spec.ports[0]?.port]))

async function history(t: Test, steps: readonly Step[]): Promise<boolean> {
  const folder = makeFolder(t)
  const store = makeStore(t, folder)
  await store.start()
  // The events alone, added up, must give what the store lists.
  const followed = new Set<string>()
  store.watch((changes) => {
    for (const { type, object } of changes) {
      if (type === 'deleted') followed.delete(object.metadata.name)
      else followed.add(object.metadata.name)
    }
  })
  const batches = recordChanges(store)
  for (const one of steps) await take(one, folder, store)

  const fresh = makeStore(t, folder)
  await fresh.load()
  const doubled = fresh.problems().map(({ object }) => object.split('/').at(-1) ?? '')
  const comparable = (ports: Map<string, number | undefined>) =>
    JSON.stringify([...ports].map(([name, port]) => [name, doubled.includes(name) ? 'any' : port]))
  const wanted = comparable(portsOf(fresh))
  await until(() => comparable(portsOf(store)) === wanted, `${wanted}, has ${comparable(portsOf(store))}`)
  const same = [...followed].sort().join() === [...portsOf(store).keys()].sort().join()
  await store.stop()
  return same && batches.every((batch) => batch.length > 0)
}

t.test('the store ends where the folder does', async (t) => {
  // Histories wait for file systems, not for the processor: several go at once.
  const histories = fc.array(fc.array(step, { minLength: 8, maxLength: 20, size: 'max' }), {
    minLength: 20,
    maxLength: 20,
  })
  await fc.assert(
    fc.asyncProperty(histories, async (many) => {
      const ends = await Promise.all(many.map((steps) => history(t, steps)))
      return ends.every((same) => same)
    }),
    { seed: 2024, numRuns: 3, endOnFailure: true },
  )
})
