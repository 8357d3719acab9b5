// What the objects would be if some were applied and some deleted: for looking before leaping.
import { isDeepStrictEqual } from 'node:util'
import { type Problem, problem } from '../lib/result.ts'
import { parseManifest } from './parse.ts'
import type { ObjectStore } from './store.ts'
import { type Kind, type KubeObject, type ObjectOf, type ObjectRef, refKey, refOf } from './types.ts'

export interface ObjectEdit {
  /** Documents, as they would be applied. */
  readonly apply: readonly unknown[]
  readonly delete: readonly ObjectRef[]
}

export interface EditedObject {
  /** `refKey`. */
  readonly object: string
  /** `missing`: was to be deleted, and is not there. */
  readonly change: 'created' | 'configured' | 'unchanged' | 'deleted' | 'missing'
}

export interface EditedStore extends Pick<ObjectStore, 'list' | 'refused'> {
  readonly edits: readonly EditedObject[]
  /** Of documents that cannot be read; they are left out. */
  readonly problems: readonly Problem[]
}

/** The store as it would be after the edit; the store itself is not touched. A status stays with its object, as in `apply`. */
export function overlay(store: Pick<ObjectStore, 'list' | 'refused'>, edit: ObjectEdit): EditedStore {
  const problems: Problem[] = []
  const edits: EditedObject[] = []
  const put = new Map<string, KubeObject>()
  for (const [i, doc] of edit.apply.entries()) {
    const object = parsed(store, doc, `document ${i + 1}`, problems)
    if (object === undefined) continue
    const key = refKey(refOf(object))
    const before = find(store, object.kind, key)
    put.set(key, object)
    edits.push({ object: key, change: changeOf(before, object) })
  }
  const gone = new Set<string>()
  for (const ref of edit.delete) {
    const key = refKey(ref)
    const there = find(store, ref.kind, key) !== undefined
    gone.add(key)
    edits.push({ object: key, change: there ? 'deleted' : 'missing' })
  }
  return {
    edits,
    problems,
    list<K extends Kind>(kind: K): readonly ObjectOf[K][] {
      const kept = store.list(kind).filter((object) => {
        const key = refKey(refOf(object))
        return !put.has(key) && !gone.has(key)
      })
      // The kind is that of the key in the map.
      const added = [...put.values()].filter((object) => object.kind === kind) as ObjectOf[K][]
      return added.length === 0 ? kept : [...kept, ...added].sort(byRef)
    },
    refused: (kind) =>
      store.refused(kind).filter(({ ref }) => !put.has(refKey(ref)) && !gone.has(refKey(ref))),
  }
}

function parsed(
  store: Pick<ObjectStore, 'list'>,
  doc: unknown,
  source: string,
  problems: Problem[],
): KubeObject | undefined {
  const first = parseManifest(doc, source)
  if (!first.ok) {
    problems.push(...first.error)
    return undefined
  }
  if (first.value === undefined) {
    problems.push(problem(source, 'kind', 'is not of a kind that Isthmus reads'))
    return undefined
  }
  const before = find(store, first.value.kind, refKey(refOf(first.value)))
  const status = before?.raw['status']
  if (status === undefined || 'status' in first.value.raw) return first.value
  const whole = parseManifest({ ...first.value.raw, status }, source)
  return whole.ok ? whole.value : first.value
}

function changeOf(before: KubeObject | undefined, after: KubeObject): EditedObject['change'] {
  if (before === undefined) return 'created'
  return isDeepStrictEqual({ ...before.raw }, { ...after.raw }) ? 'unchanged' : 'configured'
}

function find(store: Pick<ObjectStore, 'list'>, kind: Kind, key: string): KubeObject | undefined {
  return store.list(kind).find((object) => refKey(refOf(object)) === key)
}

const byRef = (a: KubeObject, b: KubeObject): number => (refKey(refOf(a)) < refKey(refOf(b)) ? -1 : 1)
