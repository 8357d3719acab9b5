import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import type { Logger } from '../lib/log.ts'
import { fail, formatProblem, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { errorCode } from './atomic-file.ts'
import { emptyLook, type Look, lookAtFile, lookInto, type SeenFile } from './folder-look.ts'
import { FolderWatch } from './folder-watch.ts'
import { parseManifestFile } from './manifest-file.ts'
import { errorOf, type ObjectFile, putObject, putStatus, removeObject } from './object-files.ts'
import { type FileVersion, ObjectTable, type StatusVersion } from './object-table.ts'
import { nameOf, parseManifest } from './parse.ts'
import { Settling } from './settling.ts'
import { fileNameOf, parseStatusFile, type Status } from './status-file.ts'
import type { ApplyOutcome, ObjectChange, ObjectStore, RefusedObject } from './store.ts'
import { type StoreFolders, storeFolders } from './store-folders.ts'
import type { Substitutions } from './substitute.ts'
import { type Kind, type Manifest, type ObjectOf, type ObjectRef, refKey, refOf } from './types.ts'

/** How long a file must stay as it is before it is read, and how long it must be gone or empty before its objects are. */
const SETTLE_MS = 40
const SETTLE_MAX_MS = 400
const GONE_MS = 200
/** Changes that no watch reports show at the next look. */
const POLL_MS = 500
/** A large directory is looked at less often: looking takes a fifth of the time, as long as that keeps it under a second. */
const REST_SHARE = 4
const REST_MAX_MS = 300

export interface DirectoryStoreOptions {
  /** The user's folders, subfolders included. Objects of the first come first where several define one. */
  readonly directories: readonly string[]
  /** See `storeFolders`. */
  readonly generated?: string | undefined
  /** Where `apply` writes objects that no file defines yet. Default: the generated folder. */
  readonly newObjects?: string | undefined
  /** Values for `${NAME}`. */
  readonly substitutions: Substitutions
  readonly logger: Logger
}

/**
 * The objects port over folders of YAML. Nothing that is wrong with a file throws or stops the rest: it is in `problems()`, and
 * the last good version of what the file defined stays in force.
 */
export class DirectoryStore implements ObjectStore {
  readonly #options: DirectoryStoreOptions
  readonly #folders: StoreFolders
  /** Absolute; the user's folders, then ours. */
  readonly #roots: readonly string[]
  /** False where the user says that one of his own folders is the generated one. */
  readonly #ownsGenerated: boolean
  readonly #newObjects: string
  readonly #table = new ObjectTable((a, b) => this.#comparePaths(a, b))
  readonly #watch = new FolderWatch(() => this.#lookSoon(this.#restMs))
  readonly #settling = new Settling()
  readonly #listeners = new Set<(changes: readonly ObjectChange[]) => void>()
  /** Fingerprints of the files as they were read. */
  readonly #read = new Map<string, string>()
  #look: Look = emptyLook()
  /** How long to wait before the next look when many things change in a row. */
  #restMs = 0
  #said: ReadonlySet<string> = new Set()
  /** Looks and writes happen one after another. */
  #queue: Promise<unknown> = Promise.resolve()
  #state: 'new' | 'loaded' | 'watching' | 'stopped' = 'new'
  #timer: { readonly handle: NodeJS.Timeout; readonly atMs: number } | undefined

  constructor(options: DirectoryStoreOptions) {
    const { generated, status } = storeFolders(options.directories, options.generated)
    this.#options = options
    this.#folders = { generated: resolve(generated), status: resolve(status) }
    const users = options.directories.map((folder) => resolve(folder))
    this.#ownsGenerated = !users.includes(this.#folders.generated)
    this.#roots = [...new Set([...users, this.#folders.generated])]
    this.#newObjects = resolve(options.newObjects ?? generated)
  }

  /** Reads everything once; enough for a command that ends soon. */
  load(): Promise<void> {
    return this.#inTurn(() => this.#loadOnce())
  }

  /** Reads everything and follows the changes until `stop`. Neither keeps the process alive by itself. */
  async start(): Promise<void> {
    await this.load()
    if (this.#state !== 'loaded') return
    this.#state = 'watching'
    this.#watch.arm(this.#look.folders)
    // What changed between the reading and the watching.
    this.#lookSoon(0)
  }

  /** No callback comes after this; resolves when work in progress has ended. */
  async stop(): Promise<void> {
    this.#state = 'stopped'
    this.#listeners.clear()
    this.#watch.close()
    if (this.#timer !== undefined) clearTimeout(this.#timer.handle)
    this.#timer = undefined
    await this.#queue
  }

  list<K extends Kind>(kind: K): readonly ObjectOf[K][] {
    return this.#table.list(kind)
  }

  refused(kind: Kind): readonly RefusedObject[] {
    return this.#table.refused(kind)
  }

  watch(listener: (changes: readonly ObjectChange[]) => void): () => void {
    // A wrapper, so that one function may watch twice.
    const own = (changes: readonly ObjectChange[]): void => listener(changes)
    this.#listeners.add(own)
    return () => this.#listeners.delete(own)
  }

  problems(): readonly Problem[] {
    const folders = [...this.#look.unreadable].map(([path, code]) => unreadable(this.#label(path), code))
    return [...folders, ...this.#table.problems((path) => this.#settling.isWaiting(path))]
  }

  apply(manifest: Manifest): Promise<Result<ApplyOutcome, Problem>> {
    // The `raw` of a Secret hides its values when it is turned into text; a copy does not.
    const plain = { ...manifest }
    return this.#inTurn(async () => {
      await this.#loadOnce()
      const parsed = parseManifest(plain, 'manifest')
      if (!parsed.ok) return fail(joinProblems(parsed.error))
      if (parsed.value === undefined)
        return fail(problem(nameOf(plain), 'kind', 'expected a kind and group that Isthmus reads'))
      const ref = refOf(parsed.value)
      const path = this.#table.filesOf(ref)[0] ?? join(this.#newObjects, fileNameOf(ref))
      // Where this fails, writing fails for the same reason and says so.
      await this.#makeFolder(this.#newObjects).catch(() => undefined)
      const outcome = await putObject(this.#file(path), ref, plain)
      if (outcome.ok) await this.#reread(path)
      return outcome
    })
  }

  /** Throws when a file that defines the object cannot be changed. */
  delete(ref: ObjectRef): Promise<boolean> {
    return this.#inTurn(async () => {
      await this.#loadOnce()
      const files = this.#table.filesOf(ref)
      for (const path of files) {
        const removed = await removeObject(this.#file(path), ref)
        if (!removed.ok) throw errorOf(removed.error)
        await this.#reread(path)
      }
      if (this.#table.get(ref) !== undefined)
        throw errorOf(
          problem(refKey(ref), '', `is kept from a broken document of ${files.join(', ')}; mend that first`),
        )
      if (this.#table.statusOf(ref) !== undefined) {
        await rm(this.#statusPath(ref), { force: true })
        await this.#reread(this.#statusPath(ref))
      }
      return files.length > 0
    })
  }

  /** An object that is not there (any more) has no status: nothing happens. */
  updateStatus(ref: ObjectRef, status: Status): Promise<void> {
    return this.#inTurn(async () => {
      await this.#loadOnce()
      const object = this.#table.get(ref)
      if (object === undefined) return
      const path = this.#statusPath(ref)
      try {
        await this.#makeFolder(this.#folders.status)
        await putStatus(path, object.apiVersion, ref, status)
        await this.#reread(path)
      } catch (error) {
        const code = errorCode(error)
        if (code === '') throw error
        // Who reads the store in this process still sees it.
        this.#options.logger.warn({ object: refKey(ref), path, code }, 'cannot write the status')
        const merged = { ref, status: { ...this.#table.statusOf(ref)?.status, ...status } }
        await this.#take(new Map(), new Map([[path, ok(merged)]]))
      }
    })
  }

  /** Takes one file as it is now, without waiting for it to settle: its writer is us. */
  async #reread(path: string): Promise<void> {
    this.#settling.forget(path)
    await this.#take(new Map([[path, await lookAtFile(path)]]))
  }

  async #loadOnce(): Promise<void> {
    if (this.#state !== 'new') return
    this.#state = 'loaded'
    await this.#lookAgain(true)
  }

  async #lookAgain(first = false): Promise<void> {
    const look = emptyLook()
    for (const root of [...this.#roots, this.#folders.status]) await lookInto(root, look)
    // Ours come into being with the first thing that is written.
    for (const own of [this.#folders.generated, this.#folders.status])
      if (this.#isOurs(own) && look.unreadable.get(own) === 'ENOENT') look.unreadable.delete(own)
    this.#look = look
    const differing = this.#differing(look)
    this.#settling.retain(differing)
    const now = performance.now()
    await this.#take(
      new Map([...differing].filter(([path, seen]) => first || this.#isSettled(path, seen, now))),
    )
  }

  /** Files that are not as they were read; undefined for those that are gone. */
  #differing(look: Look): Map<string, SeenFile | undefined> {
    const differing = new Map<string, SeenFile | undefined>()
    for (const [path, seen] of look.files)
      if (this.#read.get(path) !== seen.fingerprint) differing.set(path, seen)
    for (const path of this.#read.keys())
      if (!look.files.has(path) && !isBelow(path, look.unreadable.keys())) differing.set(path, undefined)
    return differing
  }

  #isSettled(path: string, seen: SeenFile | undefined, now: number): boolean {
    // Ours are written in one step.
    if (this.#isOurs(path)) return true
    if (seen === undefined || seen.empty) return this.#settling.settled(path, 'gone', now, GONE_MS, Infinity)
    return this.#settling.settled(path, seen.fingerprint, now, SETTLE_MS, SETTLE_MAX_MS)
  }

  /** Reads the files that were seen, forgets those that were not, and tells the listeners what came of it. */
  async #take(
    changed: ReadonlyMap<string, SeenFile | undefined>,
    statuses: Map<string, StatusVersion> = new Map(),
  ): Promise<void> {
    const files = new Map<string, FileVersion>()
    for (const [path, seen] of changed) {
      if (seen === undefined) this.#read.delete(path)
      else this.#read.set(path, seen.fingerprint)
      const text = seen === undefined ? undefined : await this.#readText(path)
      if (!this.#isStatus(path)) files.set(path, text?.ok ? this.#parse(path, text.value) : text)
      else if (!statuses.has(path))
        statuses.set(path, text?.ok ? parseStatusFile(text.value, this.#label(path)) : text)
    }
    const before = this.#table.refused()
    const changes = this.#table.update(files, statuses)
    this.#sayProblems()
    const after = this.#table.refused()
    const same = after.length === before.length && after.every((each, i) => each === before[i])
    if (changes.length > 0 || !same)
      for (const listener of [...this.#listeners]) this.#tell(listener, changes)
  }

  #tell(listener: (changes: readonly ObjectChange[]) => void, changes: readonly ObjectChange[]): void {
    try {
      listener(changes)
    } catch (error) {
      // A bug of one listener must not keep the others, or the next looks, from going on.
      this.#options.logger.error({ err: error }, 'BUG: a listener of the object store threw')
    }
  }

  async #readText(path: string): Promise<Result<string, Problem>> {
    try {
      return ok(await readFile(path, 'utf8'))
    } catch (error) {
      const code = errorCode(error)
      if (code === '') throw error
      return fail(unreadable(this.#label(path), code))
    }
  }

  #sayProblems(): void {
    const lines = new Map(this.problems().map((found) => [formatProblem(found), found]))
    for (const [line, found] of lines)
      if (!this.#said.has(line)) this.#options.logger.warn({ object: found.object, field: found.field }, line)
    for (const line of this.#said) if (!lines.has(line)) this.#options.logger.info(`mended: ${line}`)
    this.#said = new Set(lines.keys())
  }

  /** Looks again within `ms`; an earlier look that is due already stands. */
  #lookSoon(ms: number): void {
    if (this.#state !== 'watching') return
    const atMs = performance.now() + ms
    if (this.#timer !== undefined) {
      if (this.#timer.atMs <= atMs) return
      clearTimeout(this.#timer.handle)
    }
    const handle = setTimeout(() => {
      this.#timer = undefined
      void this.#inTurn(() => this.#lookAndRearm())
    }, ms)
    handle.unref()
    this.#timer = { handle, atMs }
  }

  async #lookAndRearm(): Promise<void> {
    if (this.#state !== 'watching') return
    const startMs = performance.now()
    try {
      await this.#lookAgain()
      if (this.#state === 'watching') this.#watch.arm(this.#look.folders)
    } catch (error) {
      this.#options.logger.error({ err: error }, 'BUG: looking at the objects failed')
    }
    this.#restMs = Math.min(REST_MAX_MS, (performance.now() - startMs) * REST_SHARE)
    this.#lookSoon(Math.max(this.#restMs, this.#settling.pending ? SETTLE_MS : POLL_MS))
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work)
    this.#queue = turn.catch(() => undefined)
    return turn
  }

  #parse(path: string, text: string): FileVersion {
    return parseManifestFile(text, this.#label(path), this.#options.substitutions)
  }

  #file(path: string): ObjectFile {
    return { path, label: this.#label(path), values: this.#options.substitutions }
  }

  /**
   * Makes a folder for what we write. Never a user's folder itself: one that is gone for a moment would come back empty, and
   * that would delete its objects.
   */
  async #makeFolder(folder: string): Promise<void> {
    for (const root of this.#roots) if (isBelow(folder, [root]) && !this.#isOurs(root)) await stat(root)
    await mkdir(folder, { recursive: true })
  }

  #statusPath(ref: ObjectRef): string {
    return join(this.#folders.status, fileNameOf(ref))
  }

  #isStatus(path: string): boolean {
    return isBelow(path, [this.#folders.status])
  }

  #isOurs(path: string): boolean {
    return this.#isStatus(path) || (this.#ownsGenerated && isBelow(path, [this.#folders.generated]))
  }

  /** The name of a file in messages: short where one folder leaves no doubt. */
  #label(path: string): string {
    const [first, ...others] = this.#options.directories
    const short = first === undefined || others.length > 0 ? path : relative(resolve(first), path)
    return short === '' || short.startsWith('..') ? path : short
  }

  #comparePaths(a: string, b: string): number {
    // What a user wrote comes before what was generated, though that may stand below it.
    const rank = (path: string): number =>
      this.#isOurs(path) ? this.#roots.length : this.#roots.findIndex((root) => isBelow(path, [root]))
    return rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0)
  }
}

/** Whether `path` is one of the folders or stands below it. */
function isBelow(path: string, folders: Iterable<string>): boolean {
  for (const folder of folders)
    if (path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return true
  return false
}

function unreadable(label: string, code: string): Problem {
  return problem(label, '', `cannot be read (${code}); what it defined before stays in force`)
}

/** All that is wrong with a manifest as one Problem: the first one's field, the others in the text. */
function joinProblems([first, ...others]: readonly Problem[]): Problem {
  if (first === undefined) throw new Error('BUG: refused without a reason')
  const more = others.map(({ field, message }) => `; ${field}: ${message}`).join('')
  return { ...first, message: first.message + more }
}
