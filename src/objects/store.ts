import type { Problem, Result } from '../lib/result.ts'
import type { Condition, Kind, KubeObject, Manifest, ObjectOf, ObjectRef } from './types.ts'

export interface ObjectChange {
  readonly type: 'added' | 'modified' | 'deleted'
  readonly object: KubeObject
}

/** A document that is refused although it says who it is, and nothing good of that name is in force. */
export interface RefusedObject {
  readonly ref: ObjectRef
  /** As it stands there: nobody vouches for anything in it. */
  readonly doc: Readonly<Record<string, unknown>>
  readonly problems: readonly Problem[]
}

export type ApplyOutcome = 'created' | 'configured' | 'unchanged'

/**
 * The port to the cluster's objects: a directory of YAML today, the Kubernetes API tomorrow. Everything above it (model,
 * controllers, discovery) sees only this.
 */
export interface ObjectStore {
  /** Every object of a kind that is in force now, sorted by ref; the last good version of one whose newest version is broken. */
  list<K extends Kind>(kind: K): readonly ObjectOf[K][]
  /** Objects of a kind that should be there, and of which there is not even a last good version; sorted by ref. */
  refused(kind: Kind): readonly RefusedObject[]
  /**
   * Called after `list` shows the change, once per batch; equal objects make no event, and what is refused alone one without
   * changes. Returns the function that ends it.
   */
  watch(listener: (changes: readonly ObjectChange[]) => void): () => void
  /** Creates or replaces by identity; takes effect in `list` before it resolves. */
  apply(manifest: Manifest): Promise<Result<ApplyOutcome, Problem>>
  /** Resolves to false when there was none. */
  delete(ref: ObjectRef): Promise<boolean>
  /** Replaces `status.conditions` (and the other members of `status` given) of one object. Not an event for its own writer's spec. */
  updateStatus(
    ref: ObjectRef,
    status: { readonly conditions?: readonly Condition[]; readonly [field: string]: unknown },
  ): Promise<void>
  /** What is wrong with the objects now, newest state: broken files, duplicates. Empties itself as they are mended. */
  problems(): readonly Problem[]
}
