// Real folders and stores for tests, taken down with the test that made them.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import { silentLogger } from '../../src/lib/log.ts'
import { formatProblem } from '../../src/lib/result.ts'
import { DirectoryStore, type DirectoryStoreOptions } from '../../src/objects/directory-store.ts'
import type { ObjectChange } from '../../src/objects/store.ts'
import { type KubeObject, refKey, refOf } from '../../src/objects/types.ts'

/** What must show within a second may take longer on a busy machine; it must not take forever. */
const WAIT_MS = 10_000
const TICK_MS = 5

export interface Folder {
  readonly path: string
  /** Writes a file below the folder, as an editor does that writes in place. */
  write(name: string, text: string): void
  remove(name: string): void
}

export function makeFolder(t: Test): Folder {
  const path = mkdtempSync(join(tmpdir(), 'isthmus-objects-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return {
    path,
    write(name, text) {
      mkdirSync(dirname(join(path, name)), { recursive: true })
      writeFileSync(join(path, name), text)
    },
    remove: (name) => rmSync(join(path, name), { recursive: true }),
  }
}

export function makeStore(
  t: Test,
  folder: Folder,
  options: Partial<DirectoryStoreOptions> = {},
): DirectoryStore {
  const store = new DirectoryStore({
    directories: [folder.path],
    substitutions: { ORG: 'acme', TEN: 'eng' },
    logger: silentLogger,
    ...options,
  })
  t.teardown(() => store.stop())
  return store
}

/** Resolves once the condition holds; it is looked at often, since not everything makes an event. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, TICK_MS))
  }
}

/** Every batch of changes as `added Service/ns/name` lines. */
export function recordChanges(store: DirectoryStore): string[][] {
  const batches: string[][] = []
  store.watch((changes) => batches.push(changes.map(changeLine)))
  return batches
}

const changeLine = ({ type, object }: ObjectChange): string => `${type} ${refKey(refOf(object))}`

export const keysOf = (objects: readonly KubeObject[]): string[] =>
  objects.map((object) => refKey(refOf(object)))

export const problemLines = (store: DirectoryStore): string[] => store.problems().map(formatProblem)

export const service = (name: string, port = 80, namespace = 'shop'): string => `apiVersion: v1
kind: Service
metadata:
  name: ${name}
  namespace: ${namespace}
spec:
  ports:
  - port: ${port}
`
