import { parse, stringify } from 'yaml'
import { contentHash } from '../lib/canonical.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { identify, isMap } from './parse.ts'
import type { Manifest, ObjectRef } from './types.ts'

const FILE_NAME_LENGTH_MAX = 200

/** Members of `status`, by name. */
export type Status = Readonly<Record<string, unknown>>

/** Status stands in files of its own, because the objects' files belong to the user (or to a read-only mount). */
export interface StatusFile {
  readonly ref: ObjectRef
  readonly status: Status
}

/** A file name for an object, different for different refs: `service.bookinfo.productpage.yaml`. */
export function fileNameOf(ref: ObjectRef): string {
  const above = [ref.namespace, ref.organization, ref.tenant, ref.workspace].filter((part) => part !== '')
  // Only the last part may hold dots, so that the parts can be told apart.
  const name = [ref.kind.toLowerCase(), ...above.map((part) => part.replaceAll('.', '%2E')), ref.name].join(
    '.',
  )
  if (name.length <= FILE_NAME_LENGTH_MAX) return `${name}.yaml`
  return `${name.slice(0, FILE_NAME_LENGTH_MAX - 17)}-${contentHash(name)}.yaml`
}

export function renderStatus(apiVersion: string, { ref, status }: StatusFile): string {
  const { kind, ...parts } = ref
  const metadata = Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== ''))
  return stringify({ apiVersion, kind, metadata, status }, { indentSeq: false, lineWidth: 0 })
}

export function parseStatusFile(text: string, label: string): Result<StatusFile, Problem> {
  let doc: unknown
  try {
    doc = parse(text)
  } catch (error) {
    return fail(
      problem(label, '', `does not parse as YAML: ${(error as Error).message.split('\n')[0] ?? ''}`),
    )
  }
  const ref = identify(doc)
  const status = isMap(doc) ? doc['status'] : undefined
  if (ref === undefined || !isMap(status))
    return fail(problem(label, '', 'expected an object with apiVersion, kind, metadata and status'))
  return ok({ ref, status })
}

/** `doc` with the members of `status` that the file gives in the place of its own. */
export function withStatus(doc: Manifest, status: Status | undefined): Manifest {
  if (status === undefined) return doc
  return { ...doc, status: { ...(isMap(doc['status']) ? doc['status'] : {}), ...status } }
}
