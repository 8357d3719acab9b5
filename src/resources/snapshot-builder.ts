import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import { type Inputs, Memo } from '../lib/memo.ts'
import { encodeResource } from '../xds/resource.ts'
import type { Snapshot, XdsResource } from '../xds/types.ts'

/** A resource as it was added; the same object as long as its group is as it was. */
interface Added {
  readonly typeUrl: string
  readonly name: string
  readonly resource: XdsResource
  /** The builder that has it already. */
  round: number
}

/** Of one type. */
interface Kind {
  /** What the builder before made of it. */
  readonly before: ReadonlyMap<string, XdsResource>
  readonly all: Added[]
  /** Those that are not there in `before` as they are now. */
  readonly changed: Added[]
  /** Something was added twice. */
  contested: boolean
}

type Resources = ReadonlyMap<string, XdsResource>

/** What one builder of a view hands to the next. */
interface Kept {
  readonly memos: Map<string, Memo>
  /** By resource, what it was made from, as JSON. */
  readonly inputs: WeakMap<XdsResource, string>
  round: number
  encoded: number
}

/**
 * Collects the resources of one view. A resource whose inputs are those of `previous` is not encoded again and keeps its
 * object, so that an unchanged model costs no encoding and makes no push. `previous` is of no use afterwards.
 */
export class SnapshotBuilder {
  /** Of the builder before: its content without its own predecessor, which would else be kept in memory for ever. */
  readonly #previous: Snapshot
  readonly #kept: Kept
  readonly #kinds = new Map<string, Kind>()
  #group: Added[] | undefined
  #snapshot: Snapshot | undefined

  constructor(previous?: SnapshotBuilder) {
    this.#previous = previous === undefined ? new Map() : previous.snapshot()
    this.#kept =
      previous === undefined
        ? { memos: new Map(), inputs: new WeakMap(), round: 0, encoded: 0 }
        : previous.#kept
    this.#kept.round++
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
    this.#kind(typeUrl)
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
    const same = known !== undefined && this.#kept.inputs.get(known) === text
    const added = { typeUrl, name, resource: same ? known : this.#build(text, make), round: 0 }
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

  /** Everything that was added so far. A type of which nothing changed is the same map as before. */
  snapshot(): Snapshot {
    this.#snapshot ??= new Map([...this.#kinds].map(([typeUrl, kind]) => [typeUrl, resourcesOf(kind)]))
    return this.#snapshot
  }

  #kind(typeUrl: string): Kind {
    let kind = this.#kinds.get(typeUrl)
    if (kind === undefined) {
      kind = { before: this.#previous.get(typeUrl) ?? new Map(), all: [], changed: [], contested: false }
      this.#kinds.set(typeUrl, kind)
    }
    return kind
  }

  #build(inputs: string, make: () => XdsResource): XdsResource {
    this.#kept.encoded++
    const resource = make()
    this.#kept.inputs.set(resource, inputs)
    return resource
  }

  #put(added: Added): void {
    const kind = this.#kind(added.typeUrl)
    if (added.round === this.#kept.round) kind.contested = true
    added.round = this.#kept.round
    kind.all.push(added)
    if (kind.before.get(added.name) !== added.resource) kind.changed.push(added)
    this.#snapshot = undefined
  }
}

/** More than this, and looking for their names elsewhere costs more than it saves. */
const FEW = 16

function resourcesOf({ before, all, changed, contested }: Kind): Resources {
  if (
    !contested &&
    all.length === before.size &&
    changed.length <= FEW &&
    areReplacements(changed, before, all)
  ) {
    if (changed.length === 0) return before
    const resources = new Map(before)
    for (const { name, resource } of changed) resources.set(name, resource)
    return resources
  }
  const resources = new Map<string, XdsResource>()
  for (const { name, resource } of all) if (!resources.has(name)) resources.set(name, resource)
  return resources
}

/** Whether each of them takes the place of one that was there, and no other has its name. */
function areReplacements(changed: readonly Added[], before: Resources, all: readonly Added[]): boolean {
  return changed.every(({ name }) => before.has(name) && all.filter((one) => one.name === name).length === 1)
}
