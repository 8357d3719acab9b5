import { fail, type Problem, problem, type Result } from '../../lib/result.ts'
import { references } from '../../resources/accept-references.ts'
import { OWN_CERTIFICATE } from '../../resources/envoy.ts'
import { type Snapshot, shortType as shortName, TYPE, type XdsResource } from '../../xds/types.ts'
import { forbiddenAddress } from '../forbidden-address.ts'
import { ReferenceIndex } from './reference-index.ts'
import { type Facts, factsOf } from './resource-facts.ts'

/** Types that are held for every proxy, by wildcard; the name table only for sidecars. */
const WHOLE_TYPES = [TYPE.cluster, TYPE.listener] as const

/** What the supervisor has accepted from discovery or found on disk: the good resources of every update, the bad ones named. */
export class ResourceSet {
  readonly #references = new ReferenceIndex()
  readonly #types = new Map<string, Map<string, XdsResource>>()
  /** What was found out about them, by type and name. */
  readonly #facts = new Map<string, Map<string, Facts>>()
  readonly #forbidden: (host: string) => string | undefined
  /** Names that changed since `takeChanged`, by type. */
  readonly #changed = new Map<string, Set<string>>()
  /** Copies that were given out and are still true, by type. */
  readonly #copies = new Map<string, ReadonlyMap<string, XdsResource>>()
  /** Types of which an answer has come, be it empty. */
  readonly #answered = new Set<string>()
  readonly #wholeTypes: readonly string[]
  /** By type: names of EDS and SDS that were asked for, and of which the answer was nothing good. Nothing waits for these. */
  readonly #without: ReadonlyMap<string, Set<string>> = new Map(
    [TYPE.endpoints, TYPE.secret].map((typeUrl) => [typeUrl, new Set()]),
  )
  /** What the user's own file holds: it goes before what discovery sends. */
  #fixed: Snapshot = new Map()
  #fixedEndpoints: ReadonlySet<string> = new Set()

  /** `allowLocalEndpoints`: as the engine has it. */
  constructor(options: { readonly nameTable: boolean; readonly allowLocalEndpoints?: boolean }) {
    this.#forbidden = options.allowLocalEndpoints === true ? () => undefined : forbiddenAddress
    this.#wholeTypes = options.nameTable ? [...WHOLE_TYPES, TYPE.nameTable] : WHOLE_TYPES
  }

  /** The types to subscribe to by wildcard. */
  get wholeTypes(): readonly string[] {
    return this.#wholeTypes
  }

  /** Takes an update in; each problem refuses one resource, whose last good form stays. */
  update(typeUrl: string, upserted: readonly XdsResource[], removed: readonly string[]): readonly Problem[] {
    const problems: Problem[] = []
    const { generation } = this.#references
    const [held, facts] = [this.#held(typeUrl), this.#factsOf(typeUrl)]
    for (const name of removed) {
      held.delete(name)
      facts.delete(name)
    }
    for (const resource of upserted) {
      const { name } = resource
      const found = this.#check(typeUrl, resource)
      if (found.ok) {
        held.set(name, resource)
        facts.set(name, found.value)
        this.#references.set(typeUrl, name, found.value.references)
      } else problems.push(found.error)
    }
    for (const name of removed) this.#references.set(typeUrl, name, undefined)
    this.#noteAnswers(typeUrl, [...upserted.map(({ name }) => name), ...removed])
    if (upserted.length + removed.length > problems.length) this.#copies.delete(typeUrl)
    if (this.#references.generation !== generation) this.#dropOrphans()
    this.#answered.add(typeUrl)
    return problems
  }

  /** Takes over what an earlier run left. */
  restore(snapshot: Snapshot): readonly Problem[] {
    const order = [...snapshot.keys()].sort((a, b) => Number(this.#isWhole(b)) - Number(this.#isWhole(a)))
    const problems = order.flatMap((typeUrl) =>
      this.update(typeUrl, [...(snapshot.get(typeUrl)?.values() ?? [])], []),
    )
    // What is not in there was not good then either.
    const { endpoints, secrets } = this.wanted()
    this.#noteAnswers(TYPE.endpoints, endpoints)
    this.#noteAnswers(TYPE.secret, secrets)
    return problems
  }

  /** Replaces what does not come from discovery. It has been checked, and may hold private keys. */
  setFixed(fixed: Snapshot): void {
    for (const typeUrl of new Set([...this.#fixed.keys(), ...fixed.keys()])) {
      const now = fixed.get(typeUrl) ?? new Map<string, XdsResource>()
      const gone = [...(this.#fixed.get(typeUrl)?.keys() ?? [])].filter((name) => !now.has(name))
      const held = this.#held(typeUrl)
      for (const name of now.keys()) {
        if (held.delete(name)) this.#copies.delete(typeUrl)
        this.#factsOf(typeUrl).delete(name)
        this.#changedOf(typeUrl).add(name)
      }
      this.#references.update(typeUrl, [...now.values()], gone)
    }
    this.#fixed = fixed
    const clusters = [...(fixed.get(TYPE.cluster)?.values() ?? [])]
    this.#fixedEndpoints = new Set(clusters.flatMap((one) => references(TYPE.cluster, one).endpoints))
    this.#dropOrphans()
  }

  /** What the workers are given: fixed resources, and those of discovery. */
  whole(): Snapshot {
    const whole = new Map(this.snapshot())
    for (const [typeUrl, fixed] of this.#fixed)
      if (fixed.size > 0) whole.set(typeUrl, new Map([...(whole.get(typeUrl) ?? []), ...fixed]))
    return whole
  }

  /** The names to subscribe to of EDS and SDS; our own credential is not asked for. */
  wanted(): { readonly endpoints: string[]; readonly secrets: string[] } {
    const fixed = this.#fixed.get(TYPE.secret)
    const secrets = this.#references
      .secrets()
      .filter((name) => name !== OWN_CERTIFICATE && fixed?.has(name) !== true)
    return { endpoints: this.#references.endpoints(), secrets }
  }

  /** Changes whenever `wanted` does. */
  get generation(): number {
    return this.#references.generation
  }

  /**
   * What is still missing of a configuration that may be given to a worker, in words for the readiness list. A worker that is given
   * less than it has would take the difference for deletions. One bad resource holds up nothing: neither the others, nor the snapshot,
   * of which an old one allows what was taken back since.
   */
  missing(): string[] {
    const types = this.#wholeTypes.filter((typeUrl) => !this.#answered.has(typeUrl)).map(shortName)
    const { endpoints, secrets } = this.wanted()
    const without = (typeUrl: string, names: string[]) =>
      names.filter((name) => !this.#held(typeUrl).has(name) && this.#without.get(typeUrl)?.has(name) !== true)
    const names = [...without(TYPE.endpoints, endpoints), ...without(TYPE.secret, secrets)]
    return [...types, ...names]
  }

  /** Immutable: later updates do not show in it. A type that did not change is the same map as the last time. */
  snapshot(): Snapshot {
    for (const [typeUrl, resources] of this.#types) {
      if (!this.#copies.has(typeUrl)) this.#copies.set(typeUrl, new Map(resources))
    }
    return new Map(this.#copies)
  }

  /** How many resources there are of each type. */
  counts(): Record<string, number> {
    return Object.fromEntries(
      [...this.whole()].map(([typeUrl, resources]) => [shortName(typeUrl), resources.size]),
    )
  }

  /** What was found out about a resource of discovery that is held. */
  facts(typeUrl: string, name: string): Facts | undefined {
    return this.#facts.get(typeUrl)?.get(name)
  }

  /** The same of all of one type, those of the user's own file included. */
  *allFacts(typeUrl: string): Iterable<Facts> {
    yield* this.#facts.get(typeUrl)?.values() ?? []
    for (const resource of this.#fixed.get(typeUrl)?.values() ?? []) {
      const found = factsOf(typeUrl, resource, this.#forbidden)
      if (found.ok) yield found.value
    }
  }

  /** A resource of discovery that is held. */
  get(typeUrl: string, name: string): XdsResource | undefined {
    return this.#types.get(typeUrl)?.get(name)
  }

  /** Endpoints or secrets that were asked for, and of which the answer was nothing good. */
  isWithout(typeUrl: string, name: string): boolean {
    return this.#without.get(typeUrl)?.has(name) === true
  }

  /** Whether something of a type is referred to, and there was no answer about it yet. */
  awaits(typeUrl: typeof TYPE.endpoints): boolean {
    const [held, without] = [this.#held(typeUrl), this.#without.get(typeUrl)]
    for (const name of this.#references.endpoints())
      if (!held.has(name) && without?.has(name) !== true) return true
    return false
  }

  /** Names of endpoints that Clusters of the user's own file refer to. */
  get fixedEndpoints(): ReadonlySet<string> {
    return this.#fixedEndpoints
  }

  /** Which resources of a type are others, or gone, since the last call. */
  takeChanged(typeUrl: string): ReadonlySet<string> {
    const changed = this.#changedOf(typeUrl)
    this.#changed.delete(typeUrl)
    return changed
  }

  #isWhole(typeUrl: string): boolean {
    return this.#wholeTypes.includes(typeUrl)
  }

  #check(typeUrl: string, resource: XdsResource): Result<Facts, Problem> {
    return this.#fixed.get(typeUrl)?.has(resource.name)
      ? fail(problem(`${shortName(typeUrl)} ${resource.name}`, 'name', 'is that of a static resource'))
      : factsOf(typeUrl, resource, this.#forbidden)
  }

  #held(typeUrl: string): Map<string, XdsResource> {
    return entry(this.#types, typeUrl, () => new Map())
  }

  #factsOf(typeUrl: string): Map<string, Facts> {
    return entry(this.#facts, typeUrl, () => new Map())
  }

  #changedOf(typeUrl: string): Set<string> {
    return entry(this.#changed, typeUrl, () => new Set())
  }

  #noteAnswers(typeUrl: string, names: readonly string[]): void {
    const [without, changed] = [this.#without.get(typeUrl), this.#changedOf(typeUrl)]
    for (const name of names) {
      changed.add(name)
      if (this.#held(typeUrl).has(name)) without?.delete(name)
      else without?.add(name)
    }
  }

  #dropOrphans(): void {
    for (const [typeUrl, without] of this.#without) {
      for (const name of without) if (this.#references.isOrphan(typeUrl, name)) without.delete(name)
      const held = this.#held(typeUrl)
      const orphans = [...held.keys()].filter((name) => this.#references.isOrphan(typeUrl, name))
      for (const name of orphans) {
        held.delete(name)
        this.#factsOf(typeUrl).delete(name)
      }
      if (orphans.length > 0) this.#copies.delete(typeUrl)
    }
  }
}

function entry<V>(map: Map<string, V>, key: string, make: () => V): V {
  const known = map.get(key)
  if (known !== undefined) return known
  const made = make()
  map.set(key, made)
  return made
}
