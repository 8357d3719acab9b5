import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { silentLogger } from '../../src/lib/log.ts'
import { DirectoryStore } from '../../src/objects/directory-store.ts'
import type { Kind, Manifest, ObjectRef } from '../../src/objects/types.ts'

/** A store over a folder of its own, gone with the test. */
export async function storeWith(
  test: { teardown(end: () => Promise<void>): void },
  yaml: string,
): Promise<DirectoryStore> {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-controllers-'))
  const store = new DirectoryStore({ directories: [folder], substitutions: {}, logger: silentLogger })
  await store.start()
  test.teardown(async () => {
    await store.stop()
    await rm(folder, { recursive: true, force: true })
  })
  await applyAll(store, yaml)
  return store
}

export async function applyAll(store: DirectoryStore, yaml: string): Promise<void> {
  for (const document of parseAllDocuments(yaml)) {
    const result = await store.apply(document.toJS() as Manifest)
    if (!result.ok) throw new Error(JSON.stringify(result.error))
  }
}

export const ref = (kind: Kind, namespace: string, name: string): ObjectRef => ({
  kind,
  namespace,
  name,
  organization: '',
  tenant: '',
  workspace: '',
})

/** Counts what a controller writes. */
export function counted(store: DirectoryStore): {
  readonly store: DirectoryStore
  readonly writes: string[]
} {
  const writes: string[] = []
  const proxy = new Proxy(store, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (name === 'apply' || name === 'delete' || name === 'updateStatus') writes.push(String(name))
        return (value as (...inner: unknown[]) => unknown).apply(target, args)
      }
    },
  })
  return { store: proxy, writes }
}
