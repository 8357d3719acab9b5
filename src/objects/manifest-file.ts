import { type Document, parseAllDocuments } from 'yaml'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { identify, isMap, isOurs, nameOf, parseManifest } from './parse.ts'
import { type Substitutions, substitute } from './substitute.ts'
import type { KubeObject, ObjectRef } from './types.ts'

/** Kubernetes' own limit for one object is 1.5 MiB; a file may hold several. */
const FILE_LENGTH_MAX = 8 * 1024 * 1024

/** One object's document in a file: good, or broken with the reasons. Documents of other kinds are not entries. */
export interface ManifestEntry {
  /** `file.yaml#2`; `file.yaml#2[0]` for an item of a List. */
  readonly source: string
  /** Which document of the file, from 0. */
  readonly document: number
  /** Which item of the List that the document is, from 0. */
  readonly item: number | undefined
  /** Undefined where not even that can be read. */
  readonly ref: ObjectRef | undefined
  /** The document after substitution. */
  readonly doc: Readonly<Record<string, unknown>>
  /** Undefined when there are problems. */
  readonly object: KubeObject | undefined
  readonly problems: readonly Problem[]
}

/**
 * Reads the YAML or JSON text of a file. A text that does not parse is one Problem: its documents cannot be told apart.
 * A document with mistakes is an entry of its own and leaves the others alone.
 */
export function parseManifestFile(
  text: string,
  label: string,
  values: Substitutions,
): Result<ManifestEntry[], Problem> {
  const documents = parseDocuments(text, label)
  if (!documents.ok) return documents
  const entries: ManifestEntry[] = []
  for (const [index, document] of documents.value.entries()) {
    const source = `${label}#${index + 1}`
    const doc = toPlain(document, source)
    if (!doc.ok) return doc
    if (doc.value === null || doc.value === undefined) continue
    for (const { value, item } of expandList(doc.value)) {
      const entry = readEntry(value, item === undefined ? source : `${source}[${item}]`, values)
      if (entry !== undefined) entries.push({ ...entry, document: index, item })
    }
  }
  return ok(entries)
}

/** The YAML documents of a text, or where it does not parse. */
export function parseDocuments(text: string, label: string): Result<Document[], Problem> {
  if (text.length > FILE_LENGTH_MAX)
    return fail(problem(label, '', `is longer than ${FILE_LENGTH_MAX / 1024 / 1024} MiB and is not read`))
  try {
    // `merge`: kubectl, too, reads `<<: *anchor`.
    const documents = parseAllDocuments(text, { merge: true, logLevel: 'error' })
    const list = [...documents] as Document[]
    const error = list.flatMap((document) => document.errors)[0]
    return error === undefined ? ok(list) : fail(notYaml(label, error))
  } catch (error) {
    // Nesting so deep that the parser runs out of stack.
    return fail(notYaml(label, error))
  }
}

function notYaml(label: string, error: unknown): Problem {
  const line = (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? ''
  return problem(label, '', `does not parse as YAML: ${line.replace(/:$/, '')}`)
}

function toPlain(document: Document, source: string): Result<unknown, Problem> {
  try {
    return ok(document.toJS())
  } catch (error) {
    // An alias without its anchor, or so many aliases that the text is a bomb.
    return fail(notYaml(source, error))
  }
}

function expandList(doc: unknown): { value: unknown; item: number | undefined }[] {
  if (isMap(doc) && doc['kind'] === 'List' && doc['apiVersion'] === 'v1' && Array.isArray(doc['items']))
    return doc['items'].map((value: unknown, item) => ({ value, item }))
  return [{ value: doc, item: undefined }]
}

function readEntry(
  raw: unknown,
  source: string,
  values: Substitutions,
): Omit<ManifestEntry, 'document' | 'item'> | undefined {
  if (!isMap(raw) || !isOurs(raw)) {
    const parsed = parseManifest(raw, source)
    if (parsed.ok) return undefined
    return { source, ref: undefined, doc: {}, object: undefined, problems: parsed.error }
  }
  const { doc, missing } = substitute(raw, values)
  const known = { source, ref: identify(doc), doc: doc as Record<string, unknown> }
  if (missing.length > 0) {
    const object = `${source} ${nameOf(raw)}`
    const problems = missing.map(({ name, field }) =>
      problem(object, field, `\${${name}} is not set, neither in the environment nor by a flag`),
    )
    return { ...known, object: undefined, problems }
  }
  const parsed = parseManifest(doc, source)
  if (!parsed.ok) return { ...known, object: undefined, problems: parsed.error }
  return { ...known, object: parsed.value, problems: [] }
}
