import { canonicalJson } from '../lib/canonical.ts'
import { type Problem, problem, type Result } from '../lib/result.ts'
import type { ManifestEntry } from './manifest-file.ts'
import { isMap, parseManifest } from './parse.ts'
import { type StatusFile, withStatus } from './status-file.ts'
import type { ObjectChange, RefusedObject } from './store.ts'
import { type Kind, type KubeObject, type Manifest, type ObjectOf, type ObjectRef, refKey } from './types.ts'

/** The last good version of an object in one file. */
interface Definition {
  readonly source: string
  readonly doc: Manifest
  readonly object: KubeObject
}

/** An object with its status laid over it. */
interface InForce {
  readonly object: KubeObject
  readonly doc: Manifest
  /** Why its status was left out. */
  readonly bad?: Problem
}

/** The objects of one kind, sorted by refKey. */
interface SortedList {
  readonly keys: readonly string[]
  readonly objects: readonly KubeObject[]
  /** Keys of those that have a newer version since. */
  readonly replaced: Set<string>
}

interface FileState {
  /** By refKey. What the file defines, kept from before where its newest version is broken. */
  readonly definitions: ReadonlyMap<string, Definition>
  /** By refKey. Broken documents whose identity can be read: `apply` mends them in place. */
  readonly broken: ReadonlyMap<string, RefusedObject>
  readonly problems: readonly Problem[]
}

/** A new version of a file: what it parsed to, or why it could not be read; undefined when it is gone. */
export type FileVersion = Result<readonly ManifestEntry[], Problem> | undefined
export type StatusVersion = Result<StatusFile, Problem> | undefined

/**
 * The objects in force, computed from the files' versions in memory: last good versions, one owner for each object,
 * status laid over. No input or output of its own.
 */
export class ObjectTable {
  readonly #comparePaths: (a: string, b: string) => number
  readonly #files = new Map<string, FileState>()
  /** refKey → the files that define the object, its owner first. */
  readonly #definers = new Map<string, string[]>()
  /** A status file's path → the refKey of its object. */
  readonly #statusKeys = new Map<string, string>()
  readonly #statusOf = new Map<string, StatusFile>()
  readonly #brokenStatuses = new Map<string, Problem>()
  /** By refKey: statuses that do not fit their objects. */
  readonly #badStatuses = new Map<string, Problem>()
  readonly #inForce = new Map<string, InForce>()
  /** What `problems` looks at: it is asked after every change, and mostly there is nothing. */
  readonly #faulty = new Set<string>()
  readonly #doubled = new Set<string>()
  readonly #lists = new Map<Kind, SortedList>()

  /** `comparePaths` decides which file is the owner where several define an object from the beginning. */
  constructor(comparePaths: (a: string, b: string) => number) {
    this.#comparePaths = comparePaths
  }

  /** Takes new versions of some files; returns what changed in the objects in force, sorted by ref. */
  update(
    files: ReadonlyMap<string, FileVersion>,
    statuses: ReadonlyMap<string, StatusVersion> = new Map(),
  ): ObjectChange[] {
    const keys = new Set<string>()
    // In order of the paths, so that the first of several definitions does not depend on the order of arrival.
    for (const path of [...files.keys()].sort(this.#comparePaths))
      for (const key of this.#takeFile(path, files.get(path))) keys.add(key)
    for (const [path, version] of statuses) for (const key of this.#takeStatus(path, version)) keys.add(key)
    return [...keys].sort().flatMap((key) => this.#recompute(key))
  }

  list<K extends Kind>(kind: K): readonly ObjectOf[K][] {
    const known = this.#lists.get(kind)
    const list = known === undefined ? this.#sorted(kind) : this.#patched(known)
    if (list !== known) this.#lists.set(kind, list)
    return list.objects as readonly ObjectOf[K][]
  }

  #sorted(kind: Kind): SortedList {
    const found = [...this.#inForce].filter(([, { object }]) => object.kind === kind)
    found.sort(([a], [b]) => (a < b ? -1 : 1))
    return {
      keys: found.map(([key]) => key),
      objects: found.map(([, { object }]) => object),
      replaced: new Set(),
    }
  }

  /** The list with newer versions of some of its objects in their places. */
  #patched(list: SortedList): SortedList {
    if (list.replaced.size === 0) return list
    const objects = [...list.objects]
    for (const key of list.replaced) {
      const object = this.#inForce.get(key)?.object
      if (object !== undefined) objects[indexIn(list.keys, key)] = object
    }
    return { keys: list.keys, objects, replaced: new Set() }
  }

  get(ref: ObjectRef): KubeObject | undefined {
    return this.#inForce.get(refKey(ref))?.object
  }

  /** What (of a kind) is broken everywhere, with no last good version. */
  refused(kind?: Kind): RefusedObject[] {
    const broken = [...this.#faulty]
      .sort(this.#comparePaths)
      .flatMap((path) => [...(this.#files.get(path)?.broken ?? [])])
    const refused = broken.filter(([key]) => !this.#inForce.has(key))
    return refused
      .filter(([, { ref }]) => kind === undefined || ref.kind === kind)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([, object]) => object)
  }

  /** The files that define an object, the one in force first; those with a broken document of it come last. */
  filesOf(ref: ObjectRef): string[] {
    const key = refKey(ref)
    const broken = [...this.#faulty].filter((path) => this.#files.get(path)?.broken.has(key))
    return [...new Set([...(this.#definers.get(key) ?? []), ...broken])]
  }

  /** The status as its file gives it. */
  statusOf(ref: ObjectRef): StatusFile | undefined {
    return this.#statusOf.get(refKey(ref))
  }

  /** `isLeaving`: the file is gone, if not for long enough to be believed; it is not worth a word about duplicates. */
  problems(isLeaving: (path: string) => boolean = () => false): Problem[] {
    const own = [...this.#faulty]
      .sort(this.#comparePaths)
      .flatMap((path) => this.#files.get(path)?.problems ?? [])
    const doubled = [...this.#doubled].sort().flatMap((key) => {
      const [owner = '', ...others] = this.#definers.get(key) ?? []
      if (isLeaving(owner)) return []
      return others.filter((path) => !isLeaving(path)).map((path) => this.#duplicate(key, owner, path))
    })
    return [...own, ...doubled, ...this.#brokenStatuses.values(), ...this.#badStatuses.values()]
  }

  #duplicate(key: string, owner: string, other: string): Problem {
    const [mine, theirs] = [this.#files.get(owner), this.#files.get(other)].map(
      (file) => file?.definitions.get(key)?.source,
    )
    return problem(
      `${theirs} ${key}`,
      'metadata',
      `is defined already in ${mine}, which stays in force; remove one of the two`,
    )
  }

  /** Returns the keys that the change may concern. */
  #takeFile(path: string, version: FileVersion): Set<string> {
    const before = this.#files.get(path)
    const after = version === undefined ? undefined : nextState(before, version)
    if (after === undefined) this.#files.delete(path)
    else this.#files.set(path, after)
    if (after !== undefined && after.problems.length > 0) this.#faulty.add(path)
    else this.#faulty.delete(path)
    const keys = new Set([...(before?.definitions.keys() ?? []), ...(after?.definitions.keys() ?? [])])
    for (const key of keys) {
      const definers = this.#definers.get(key) ?? []
      const defines = after?.definitions.has(key) === true
      if (defines && !definers.includes(path)) this.#definers.set(key, [...definers, path])
      if (!defines && definers.includes(path)) this.#leave(key, path, definers)
    }
    return keys
  }

  #leave(key: string, path: string, definers: readonly string[]): void {
    const left = definers.filter((other) => other !== path)
    // A new owner is the first by path, whichever came first: so it is after a restart.
    if (definers[0] === path) left.sort(this.#comparePaths)
    if (left.length > 0) this.#definers.set(key, left)
    else this.#definers.delete(key)
  }

  #takeStatus(path: string, version: StatusVersion): string[] {
    if (version !== undefined && !version.ok) {
      this.#brokenStatuses.set(path, version.error)
      return []
    }
    this.#brokenStatuses.delete(path)
    const before = this.#statusKeys.get(path)
    if (before !== undefined) this.#statusOf.delete(before)
    const keys = before === undefined ? [] : [before]
    if (version === undefined) {
      this.#statusKeys.delete(path)
      return keys
    }
    const key = refKey(version.value.ref)
    this.#statusKeys.set(path, key)
    this.#statusOf.set(key, version.value)
    return [...keys, key]
  }

  #recompute(key: string): ObjectChange[] {
    const before = this.#inForce.get(key)
    const owner = this.#definers.get(key)?.[0]
    const definition = owner === undefined ? undefined : this.#files.get(owner)?.definitions.get(key)
    const after = definition === undefined ? undefined : layStatusOver(definition, this.#statusOf.get(key))
    if (after === undefined) this.#inForce.delete(key)
    else this.#inForce.set(key, after)
    if (after?.bad !== undefined) this.#badStatuses.set(key, after.bad)
    else this.#badStatuses.delete(key)
    if ((this.#definers.get(key)?.length ?? 0) > 1) this.#doubled.add(key)
    else this.#doubled.delete(key)
    const kind = (after ?? before)?.object.kind
    if (before !== undefined && after !== undefined) this.#lists.get(after.object.kind)?.replaced.add(key)
    else if (kind !== undefined) this.#lists.delete(kind)

    if (after === undefined) return before === undefined ? [] : [{ type: 'deleted', object: before.object }]
    if (before === undefined) return [{ type: 'added', object: after.object }]
    return isSame(before, after) ? [] : [{ type: 'modified', object: after.object }]
  }
}

/**
 * What a file defines after its newest version: good documents as they are, broken ones as they were. A file whose last
 * document is broken may be half written: what is not found in it may only not be there yet.
 */
function nextState(before: FileState | undefined, version: NonNullable<FileVersion>): FileState {
  const kept = before?.definitions ?? new Map<string, Definition>()
  if (!version.ok)
    return { definitions: kept, broken: before?.broken ?? new Map(), problems: [version.error] }
  const definitions = new Map<string, Definition>()
  const broken = new Map<string, RefusedObject>()
  const problems: Problem[] = []
  let unknown = version.value.at(-1)?.object === undefined && version.value.length > 0
  for (const { ref, source, doc, object, problems: found } of version.value) {
    problems.push(...found)
    const key = ref === undefined ? undefined : refKey(ref)
    const first = key === undefined ? undefined : definitions.get(key)
    if (key === undefined || ref === undefined) unknown = true
    else if (object === undefined) broken.set(key, { ref, doc, problems: found })
    else if (first === undefined) definitions.set(key, { source, doc, object })
    else
      problems.push(
        problem(
          `${source} ${key}`,
          'metadata',
          `is defined already in ${first.source}, which stays in force; remove one of the two`,
        ),
      )
  }
  // A broken document whose name cannot be read may be any of those that are no longer found.
  for (const [key, definition] of kept)
    if (!definitions.has(key) && (unknown || broken.has(key))) definitions.set(key, definition)
  if (unknown)
    for (const [key, refused] of before?.broken ?? [])
      if (!definitions.has(key) && !broken.has(key)) broken.set(key, refused)
  return { definitions, broken, problems }
}

function layStatusOver({ doc, object, source }: Definition, status: StatusFile | undefined): InForce {
  if (status === undefined) return { object, doc }
  const merged = withStatus(doc, status.status)
  const parsed = parseManifest(merged, source)
  if (parsed.ok && parsed.value !== undefined) return { object: parsed.value, doc: merged }
  const bad = parsed.ok ? undefined : parsed.error[0]
  return bad === undefined ? { object, doc } : { object, doc, bad }
}

/** Conditions are what the controllers say about an object: they alone are no event, or each would wake its own writer. */
function isSame(a: InForce, b: InForce): boolean {
  return a.doc === b.doc || canonicalJson(eventful(a)) === canonicalJson(eventful(b))
}

function eventful({ object, doc }: InForce): unknown {
  const { conditions, ...status } = isMap(doc['status']) ? doc['status'] : {}
  // A pod's readiness is a condition, but of the kubelet's.
  return object.kind === 'Pod' ? { ...doc, status: { ...status, conditions } } : { ...doc, status }
}

/** Where a key stands in a sorted list that has it. */
function indexIn(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((keys[middle] as string) < key) low = middle + 1
    else high = middle
  }
  return low
}
