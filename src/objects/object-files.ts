// One object in one file on disk: put, removed, its status merged. Other processes may do the same at the same time.
import { rm } from 'node:fs/promises'
import { canonicalJson } from '../lib/canonical.ts'
import { fail, formatProblem, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { errorCode, readIfThere, withFileLock, writeAtomically } from './atomic-file.ts'
import { appendManifest, removeManifest, renderManifest, replaceManifest } from './manifest-edit.ts'
import { type ManifestEntry, parseManifestFile } from './manifest-file.ts'
import { parseStatusFile, renderStatus, type Status } from './status-file.ts'
import type { ApplyOutcome } from './store.ts'
import type { Substitutions } from './substitute.ts'
import { type Manifest, type ObjectRef, refKey } from './types.ts'

/** Values of a Secret are for its owner's eyes. */
const SECRET_MODE = 0o600
const USUAL_MODE = 0o644

/** A file that holds, or will hold, an object. */
export interface ObjectFile {
  readonly path: string
  /** Its name in messages. */
  readonly label: string
  /** For the `${NAME}` in it. */
  readonly values: Substitutions
}

/** Makes the object's document in the file equal to the manifest, or adds it; the folder must exist. */
export async function putObject(
  file: ObjectFile,
  ref: ObjectRef,
  manifest: Manifest,
): Promise<Result<ApplyOutcome, Problem>> {
  try {
    return await withFileLock(file.path, async () => {
      const text = await readIfThere(file.path)
      const edit = editedText(file, ref, manifest, text)
      if (!edit.ok) return edit
      const mode = ref.kind === 'Secret' ? SECRET_MODE : USUAL_MODE
      if (edit.value.text !== text) await writeAtomically(file.path, edit.value.text, mode)
      return ok(edit.value.outcome)
    })
  } catch (error) {
    return fail(cannotWrite(file, ref, error))
  }
}

function editedText(
  file: ObjectFile,
  ref: ObjectRef,
  manifest: Manifest,
  text: string | undefined,
): Result<{ text: string; outcome: ApplyOutcome }, Problem> {
  if (text === undefined) return ok({ text: renderManifest(manifest), outcome: 'created' })
  const entry = findEntry(file, text, ref)
  if (!entry.ok) return entry
  if (entry.value === undefined) return ok({ text: appendManifest(text, manifest), outcome: 'created' })
  // Who applies a spec does not thereby take a status away.
  const { status } = entry.value.doc as { status?: unknown }
  const wanted = status === undefined || 'status' in manifest ? manifest : { ...manifest, status }
  if (canonicalJson(entry.value.doc) === canonicalJson(wanted)) return ok({ text, outcome: 'unchanged' })
  const changed = replaceManifest(text, entry.value, wanted, file.values, isJson(file))
  return ok({ text: changed, outcome: 'configured' })
}

/** Takes the object's documents out of the file, and the file away when nothing else is in it. */
export async function removeObject(file: ObjectFile, ref: ObjectRef): Promise<Result<void, Problem>> {
  try {
    return await withFileLock(file.path, async () => {
      for (;;) {
        const text = await readIfThere(file.path)
        if (text === undefined) return ok(undefined)
        const entry = findEntry(file, text, ref)
        if (!entry.ok) return entry
        if (entry.value === undefined) return ok(undefined)
        const left = removeManifest(text, entry.value, isJson(file))
        if (left === undefined) await rm(file.path)
        else await writeAtomically(file.path, left)
      }
    })
  } catch (error) {
    // The folder is gone, and the file with it.
    return errorCode(error) === 'ENOENT' ? ok(undefined) : fail(cannotWrite(file, ref, error))
  }
}

/** Replaces the members of `status` that are given; throws what the operating system says. */
export async function putStatus(
  path: string,
  apiVersion: string,
  ref: ObjectRef,
  status: Status,
): Promise<void> {
  await withFileLock(path, async () => {
    const text = await readIfThere(path)
    const before = text === undefined ? undefined : parseStatusFile(text, path)
    const known = before?.ok === true ? before.value.status : {}
    const wanted = { ...known, ...status }
    if (canonicalJson(wanted) === canonicalJson(known)) return
    await writeAtomically(path, renderStatus(apiVersion, { ref, status: wanted }))
  })
}

function findEntry(
  file: ObjectFile,
  text: string,
  ref: ObjectRef,
): Result<ManifestEntry | undefined, Problem> {
  const entries = parseManifestFile(text, file.label, file.values)
  if (!entries.ok) return fail({ ...entries.error, message: `${entries.error.message}; mend the file first` })
  const key = refKey(ref)
  return ok(entries.value.find((entry) => entry.ref !== undefined && refKey(entry.ref) === key))
}

const isJson = (file: ObjectFile): boolean => file.path.endsWith('.json')

/** Errors of the operating system only: everything else is a bug and goes on its way. */
function cannotWrite(file: ObjectFile, ref: ObjectRef, error: unknown): Problem {
  const code = errorCode(error)
  if (code === '') throw error
  const hint = ['EACCES', 'EPERM', 'EROFS'].includes(code) ? ', it is read-only for us' : ''
  return problem(`${file.label} ${refKey(ref)}`, '', `cannot be written (${code}${hint})`)
}

/** For who has only an exception to say it with. */
export function errorOf(found: Problem): Error {
  return new Error(formatProblem(found))
}
