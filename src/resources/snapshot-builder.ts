import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import { type Inputs, Memo } from '../lib/memo.ts'
import { encodeResource } from '../xds/resource.ts'
import type { Snapshot, XdsResource } from '../xds/types.ts'

interface Built {
  /** What the resource was made from, as JSON. */
  readonly inputs: string
  readonly resource: XdsResource
}

interface Added {
  readonly typeUrl: string
  readonly name: string
  readonly built: Built
}

/** What one builder of a view hands to the next. */
interface Kept {
  readonly memos: Map<string, Memo>
  encoded: number
}

/**
 * Collects the resources of one view. A resource whose inputs are those of `previous` is not encoded again and keeps its
 * object, so that an unchanged model costs no encoding and makes no push. `previous` is of no use afterwards.
 */
export class SnapshotBuilder {
  /** Of the builder before: its content without its own predecessor, which would else be kept in memory for ever. */
  readonly #previous: ReadonlyMap<string, ReadonlyMap<string, Built>>
  readonly #kept: Kept
  readonly #byType = new Map<string, Map<string, Built>>()
  #group: Added[] | undefined

  constructor(previous?: SnapshotBuilder) {
    this.#previous = previous === undefined ? new Map() : previous.#byType
    this.#kept = previous === undefined ? { memos: new Map(), encoded: 0 } : previous.#kept
    for (const memo of this.#kept.memos.values()) memo.sweep()
  }

  /** How many resources were encoded in the view's life, and how many groups and other values were derived. */
  get counters(): { readonly encoded: number; readonly derived: number } {
    let derived = 0
    for (const memo of this.#kept.memos.values()) derived += memo.derived
    return { encoded: this.#kept.encoded, derived }
  }

  /** What is derived for this view is kept for the next builder, under a name of its own. */
  memo(name: string): Memo {
    const memo = this.#kept.memos.get(name) ?? new Memo()
    this.#kept.memos.set(name, memo)
    return memo
  }

  /** Declares that the view has this type, even if it holds none now. */
  type(typeUrl: string): void {
    if (!this.#byType.has(typeUrl)) this.#byType.set(typeUrl, new Map())
  }

  /**
   * The resources that `add` adds, which reads its inputs alone: where these are identical to the last ones, everything is as it
   * was, and nothing is made or compared. Groups do not nest.
   */
  group<I extends Inputs>(key: string, inputs: I, add: (inputs: I) => void): void {
    const added = this.memo('groups').get(key, inputs, () => {
      const group: Added[] = []
      this.#group = group
      try {
        add(inputs)
      } finally {
        this.#group = undefined
      }
      return group
    })
    for (const one of added) this.#put(one)
  }

  /** `inputs` must be plain JSON and hold everything that `make` reads. The first of two with one name counts. */
  add(typeUrl: string, name: string, inputs: unknown, make: () => XdsResource): void {
    const text = JSON.stringify(inputs)
    const known = this.#previous.get(typeUrl)?.get(name)
    const added = { typeUrl, name, built: known?.inputs === text ? known : this.#build(text, make) }
    if (this.#group === undefined) this.#put(added)
    else this.#group.push(added)
  }

  /** `add` for a protobuf message, made only when the inputs changed. */
  message<D extends DescMessage>(
    typeUrl: string,
    schema: D,
    name: string,
    inputs: unknown,
    make: () => MessageShape<D>,
  ): void {
    this.add(typeUrl, name, inputs, () => encodeResource(schema, make(), name))
  }

  snapshot(): Snapshot {
    const types = new Map<string, ReadonlyMap<string, XdsResource>>()
    for (const [typeUrl, built] of this.#byType) {
      const resources = new Map<string, XdsResource>()
      for (const [name, { resource }] of built) resources.set(name, resource)
      types.set(typeUrl, resources)
    }
    return types
  }

  #build(inputs: string, make: () => XdsResource): Built {
    this.#kept.encoded++
    return { inputs, resource: make() }
  }

  #put({ typeUrl, name, built }: Added): void {
    this.type(typeUrl)
    const resources = this.#byType.get(typeUrl)
    if (resources?.has(name) === false) resources.set(name, built)
  }
}
