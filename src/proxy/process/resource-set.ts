import { type Problem, problem } from '../../lib/result.ts'
import { acceptEndpoints } from '../../resources/accept-endpoints.ts'
import { acceptListener } from '../../resources/accept-listener.ts'
import { acceptSecret } from '../../resources/accept-secret.ts'
import { acceptUpstream } from '../../resources/accept-upstream.ts'
import { OWN_CERTIFICATE } from '../../resources/envoy.ts'
import { decodeNameTable } from '../../resources/name-table.ts'
import { type Snapshot, TYPE, type XdsResource } from '../../xds/types.ts'
import { ReferenceIndex } from './reference-index.ts'

/** Types that are held for every proxy, by wildcard; the name table only for sidecars. */
const WHOLE_TYPES = [TYPE.cluster, TYPE.listener] as const

/** What the supervisor has accepted from discovery or found on disk: the good resources of every update, the bad ones named. */
export class ResourceSet {
  readonly #references = new ReferenceIndex()
  readonly #types = new Map<string, Map<string, XdsResource>>()
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

  constructor(options: { readonly nameTable: boolean }) {
    this.#wholeTypes = options.nameTable ? [...WHOLE_TYPES, TYPE.nameTable] : WHOLE_TYPES
  }

  /** The types to subscribe to by wildcard. */
  get wholeTypes(): readonly string[] {
    return this.#wholeTypes
  }

  /** Takes an update in; each problem refuses one resource, whose last good form stays. */
  update(typeUrl: string, upserted: readonly XdsResource[], removed: readonly string[]): readonly Problem[] {
    const problems: Problem[] = []
    const good: XdsResource[] = []
    for (const resource of upserted) {
      const bad = this.#fixed.get(typeUrl)?.has(resource.name)
        ? problem(`${shortName(typeUrl)} ${resource.name}`, 'name', 'is that of a static resource')
        : check(typeUrl, resource)
      if (bad === undefined) good.push(resource)
      else problems.push(bad)
    }
    const held = this.#held(typeUrl)
    for (const name of removed) held.delete(name)
    for (const resource of good) held.set(resource.name, resource)
    this.#noteAnswers(typeUrl, [...upserted.map(({ name }) => name), ...removed])
    if (good.length + removed.length > 0) this.#copies.delete(typeUrl)
    const { generation } = this.#references
    this.#references.update(typeUrl, good, removed)
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
      for (const name of now.keys()) if (held.delete(name)) this.#copies.delete(typeUrl)
      this.#references.update(typeUrl, [...now.values()], gone)
    }
    this.#fixed = fixed
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

  #isWhole(typeUrl: string): boolean {
    return this.#wholeTypes.includes(typeUrl)
  }

  #held(typeUrl: string): Map<string, XdsResource> {
    let held = this.#types.get(typeUrl)
    if (held === undefined) {
      held = new Map()
      this.#types.set(typeUrl, held)
    }
    return held
  }

  #noteAnswers(typeUrl: string, names: readonly string[]): void {
    const without = this.#without.get(typeUrl)
    for (const name of names) {
      if (this.#held(typeUrl).has(name)) without?.delete(name)
      else without?.add(name)
    }
  }

  #dropOrphans(): void {
    for (const [typeUrl, without] of this.#without) {
      for (const name of without) if (this.#references.isOrphan(typeUrl, name)) without.delete(name)
      const held = this.#held(typeUrl)
      const orphans = [...held.keys()].filter((name) => this.#references.isOrphan(typeUrl, name))
      for (const name of orphans) held.delete(name)
      if (orphans.length > 0) this.#copies.delete(typeUrl)
    }
  }
}

/** `Listener`, `Cluster`, …: a type URL without its package. */
export function shortName(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf('.') + 1)
}

function check(typeUrl: string, resource: XdsResource): Problem | undefined {
  switch (typeUrl) {
    case TYPE.listener:
      return errorOf(acceptListener(resource))
    case TYPE.cluster:
      return errorOf(acceptUpstream(resource))
    case TYPE.endpoints:
      return errorOf(acceptEndpoints(resource))
    case TYPE.secret: {
      const secret = acceptSecret(resource)
      if (!secret.ok) return secret.error
      // Private keys come from our own files and go nowhere: not over the network, not into the snapshot.
      return secret.value.kind === 'credential'
        ? problem(`Secret ${resource.name}`, 'tls_certificate', 'a private key is not taken from discovery')
        : undefined
    }
    case TYPE.nameTable:
      return checkNameTable(resource)
    default:
      return problem(resource.name, '', `resources of type ${typeUrl} are not for a proxy`)
  }
}

function errorOf(result: { ok: true } | { ok: false; error: Problem }): Problem | undefined {
  return result.ok ? undefined : result.error
}

function checkNameTable(resource: XdsResource): Problem | undefined {
  try {
    decodeNameTable(resource.body)
    return undefined
  } catch (error) {
    return problem(`NameTable ${resource.name}`, '', error instanceof Error ? error.message : String(error))
  }
}
