import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import { encodeResource } from '../xds/resource.ts'
import type { Snapshot, XdsResource } from '../xds/types.ts'

interface Built {
  /** What the resource was made from, as JSON. */
  readonly inputs: string
  readonly resource: XdsResource
}

/**
 * Collects the resources of one view. A resource whose inputs are those of `previous` is not encoded again and keeps its
 * object, so that an unchanged model costs no encoding and makes no push.
 */
export class SnapshotBuilder {
  /** Of the builder before: its content without its own predecessor, which would else be kept in memory for ever. */
  readonly #previous: ReadonlyMap<string, ReadonlyMap<string, Built>>
  readonly #byType = new Map<string, Map<string, Built>>()

  constructor(previous?: SnapshotBuilder) {
    this.#previous = previous === undefined ? new Map() : previous.#byType
  }

  /** Declares that the view has this type, even if it holds none now. */
  type(typeUrl: string): void {
    if (!this.#byType.has(typeUrl)) this.#byType.set(typeUrl, new Map())
  }

  /** `inputs` must be plain JSON and hold everything that `make` reads. The first of two with one name counts. */
  add(typeUrl: string, name: string, inputs: unknown, make: () => XdsResource): void {
    this.type(typeUrl)
    const built = this.#byType.get(typeUrl)
    if (built === undefined || built.has(name)) return
    const text = JSON.stringify(inputs)
    const known = this.#previous.get(typeUrl)?.get(name)
    built.set(name, known?.inputs === text ? known : { inputs: text, resource: make() })
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
      types.set(typeUrl, new Map([...built].map(([name, { resource }]) => [name, resource])))
    }
    return types
  }
}
