// Changes to one object's document in the text of a file that somebody else wrote: every other document stays as it is, byte
// for byte, and what did not change inside this one keeps its comments and its `${ORG}`.
import {
  type Document,
  isMap,
  isScalar,
  isSeq,
  type Node,
  stringify,
  visit,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml'
import { canonicalJson } from '../lib/canonical.ts'
import type { ManifestEntry } from './manifest-file.ts'
import { parseDocuments } from './manifest-file.ts'
import { escapePlaceholders, type Substitutions, substitute } from './substitute.ts'
import type { Manifest } from './types.ts'

/** As the manifests in the wild are written: lists not indented below their key, no folding of long lines. */
const STYLE = { indentSeq: false, lineWidth: 0 } as const

type Place = Pick<ManifestEntry, 'document' | 'item'>
/** A document as parsed from a text: it knows where it and its content end. */
type PlacedDocument = Document & { range: [start: number, valueEnd: number, end: number]; contentEnd: number }

/** The text of a new file for one object. */
export function renderManifest(manifest: Manifest): string {
  return stringify(escapePlaceholders(manifest), { ...STYLE, aliasDuplicateObjects: false })
}

/** `text` with one more document at its end. */
export function appendManifest(text: string, manifest: Manifest): string {
  if (text.trim() === '') return renderManifest(manifest)
  return `${text}${text.endsWith('\n') ? '' : '\n'}---\n${renderManifest(manifest)}`
}

/** `text` with the document at `place` made equal to `manifest`. The text must parse. */
export function replaceManifest(
  text: string,
  place: Place,
  manifest: Manifest,
  values: Substitutions,
  json = false,
): string {
  const documents = documentsOf(text)
  const document = documents[place.document]!
  if (json) return replaceInJson(document, place, manifest)
  const path = place.item === undefined ? [] : ['items', place.item]
  const node = path.length === 0 ? document.contents : document.getIn(path, true)
  if (isMap(node) && !hasAliases(document)) {
    patchMap(document, node, manifest, values)
  } else {
    document.setIn(path, document.createNode(escapePlaceholders(manifest)))
  }
  return splice(text, documents, place.document, true)
}

/** `text` without the document at `place`; undefined when nothing is left in the file. */
export function removeManifest(text: string, place: Place, json = false): string | undefined {
  const documents = documentsOf(text)
  const document = documents[place.document]!
  if (place.item !== undefined) {
    document.deleteIn(['items', place.item])
    const items = document.get('items')
    if (isSeq(items) && items.items.length > 0) {
      if (json) return toJson(document.toJS())
      return splice(text, documents, place.document, true)
    }
  }
  const rest = splice(text, documents, place.document, false)
  return documentsOf(rest).some((left) => left.toJS() !== null) ? rest : undefined
}

/** Only what differs is written, so that the rest keeps its form. */
function patchMap(document: Document, map: YAMLMap, wanted: Manifest, values: Substitutions): void {
  for (const key of Object.keys(map.toJSON() as object)) if (!Object.hasOwn(wanted, key)) map.delete(key)
  for (const [key, value] of Object.entries(wanted)) {
    if (value === undefined) continue
    const node = map.get(key, true) as Node | undefined
    const patched = node === undefined ? create(document, value) : patch(document, node, value, values)
    if (patched !== node) map.set(key, patched)
  }
}

function patchList(
  document: Document,
  list: YAMLSeq,
  wanted: readonly unknown[],
  values: Substitutions,
): void {
  list.items.length = Math.min(list.items.length, wanted.length)
  for (const [index, value] of wanted.entries()) {
    const node = list.items[index] as Node | undefined
    list.items[index] = node === undefined ? create(document, value) : patch(document, node, value, values)
  }
}

/** The node made equal to `wanted`, or a new one where it cannot be. */
function patch(document: Document, node: Node, wanted: unknown, values: Substitutions): Node {
  if (
    canonicalJson({ value: substitute(node.toJS(document), values).doc }) === canonicalJson({ value: wanted })
  )
    return node
  if (isMap(node) && typeof wanted === 'object' && wanted !== null && !Array.isArray(wanted)) {
    patchMap(document, node, wanted as Manifest, values)
    return node
  }
  if (isSeq(node) && Array.isArray(wanted)) {
    patchList(document, node, wanted, values)
    return node
  }
  const created = create(document, wanted)
  // A comment behind the value stays behind the new one.
  if (isScalar(created) && typeof node.comment === 'string') created.comment = node.comment
  return created
}

function create(document: Document, value: unknown): Node {
  return document.createNode(escapePlaceholders(value), { aliasDuplicateObjects: false })
}

/** Anchors tie places together: a change at one would change others. */
function hasAliases(document: Document): boolean {
  let found = false
  visit(document, {
    Alias: () => {
      found = true
      return visit.BREAK
    },
  })
  return found
}

/**
 * The text with one document as it is now, or without it. What stands before the first document belongs to the file, what
 * stands behind a document's content (comments, the `...` that ends it) stays where it is.
 */
function splice(text: string, documents: readonly PlacedDocument[], index: number, keep: boolean): string {
  const document = documents[index]!
  const start = index === 0 ? 0 : documents[index - 1]!.range[2]
  const end = document.range[2]
  if (!keep) {
    const head = index === 0 ? text.slice(0, document.range[0]) : ''
    return text.slice(0, start) + (/^%/m.test(head) ? '' : head) + text.slice(end)
  }
  const tail = text.slice(document.contentEnd, end)
  document.comment = null
  if (document.directives !== undefined) document.directives.docEnd = false
  const written = document.toString(STYLE)
  const lines = text.includes('\r\n') ? written.replaceAll('\n', '\r\n') : written
  return text.slice(0, start) + lines + tail + text.slice(end)
}

function replaceInJson(document: Document, place: Place, manifest: Manifest): string {
  const wanted = escapePlaceholders(manifest)
  if (place.item === undefined) return toJson(wanted)
  document.setIn(['items', place.item], wanted)
  return toJson(document.toJS())
}

const toJson = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

function documentsOf(text: string): PlacedDocument[] {
  const documents = parseDocuments(text, '')
  if (!documents.ok) throw new Error(`BUG: edits a text that does not parse: ${documents.error.message}`)
  return documents.value.map((document) => {
    // `parseAllDocuments` gives every document its range.
    const range = document.range as PlacedDocument['range']
    // Noted before the content may be replaced by a node that comes from no text.
    return Object.assign(document, { range, contentEnd: document.contents?.range?.[2] ?? range[1] })
  })
}
