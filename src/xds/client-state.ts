// What a client wants and has of one type: pure. It outlives the stream; `opened` starts a new one.
import type { Variant, XdsRequest, XdsResponse } from './messages.ts'
import type { NodeInfo, XdsResource } from './types.ts'

/** Names, or everything there is. */
export type Wanted = readonly string[] | '*'

export interface Update {
  readonly upserted: readonly XdsResource[]
  readonly removed: readonly string[]
}

/** The version of a resource that is there, but of which nobody knows in what form: equals no version of any server. */
const UNKNOWN = ''

export class ClientType {
  readonly typeUrl: string
  readonly #variant: Variant
  readonly #wholeState: boolean
  /** What is in force. A refused resource keeps the version that it had before. */
  readonly versions: Map<string, string>
  /** What was refused last: going back to the form that is in force is news about these. */
  readonly #refused = new Set<string>()
  #wanted: ReadonlySet<string> = new Set()
  #wildcard = false
  /** What the open stream was told; undefined before the first request of the stream. */
  #told:
    | { readonly wildcard: boolean; readonly names: ReadonlySet<string>; readonly legacy: boolean }
    | undefined
  #nonce = ''
  #versionInfo = ''

  /** `wholeState`: a SotW response is the complete state, and an empty first request means everything. */
  constructor(typeUrl: string, variant: Variant, wholeState: boolean, versions: ReadonlyMap<string, string>) {
    this.typeUrl = typeUrl
    this.#variant = variant
    this.#wholeState = wholeState
    this.versions = new Map(versions)
  }

  want(wanted: Wanted): void {
    this.#wildcard = wanted === '*'
    this.#wanted = new Set(wanted === '*' ? [] : wanted)
    if (this.#wildcard) return
    for (const name of this.versions.keys()) if (!this.#wanted.has(name)) this.versions.delete(name)
  }

  opened(): void {
    this.#told = undefined
    this.#nonce = ''
  }

  /** The request that tells the stream what it has not been told, or undefined when there is nothing to tell. */
  request(node: NodeInfo | undefined): XdsRequest | undefined {
    const told = this.#told
    // Of listeners and clusters an empty first request would want everything.
    if (told === undefined && this.#wholeState && !this.#wildcard && this.#wanted.size === 0) return undefined
    if (told === undefined) return this.#first(node)
    const added = [...this.#wanted].filter((name) => !told.names.has(name))
    const dropped = [...told.names].filter((name) => !this.#wanted.has(name))
    if (this.#wildcard && !told.wildcard) added.push('*')
    if (!this.#wildcard && told.wildcard) dropped.push('*')
    if (added.length + dropped.length === 0) return undefined
    // SotW cannot say "nothing" after the legacy wildcard: what comes all the same is dropped in `update`.
    if (this.#variant === 'sotw' && told.legacy && !this.#wildcard && this.#wanted.size === 0)
      return undefined
    this.#tell(false)
    if (this.#variant === 'delta') return { ...this.#empty(node), names: added, unsubscribe: dropped }
    return { ...this.#empty(node), names: this.#listed(), responseNonce: this.#nonce }
  }

  /** The answer to a response: ACK, or NACK with a reason. */
  answer(response: XdsResponse, error: string | undefined): XdsRequest {
    this.#nonce = response.nonce
    if (error === undefined) this.#versionInfo = response.version
    const names = this.#variant === 'sotw' ? this.#listed() : []
    return { ...this.#empty(undefined), names, responseNonce: response.nonce, errorDetail: error }
  }

  /** What a response changes here. In SotW absence from a complete state is removal, and what did not change is left out. */
  update(response: XdsResponse): Update {
    const unique = new Map(response.resources.map((one) => [one.name, one]))
    const upserted = [...unique.values()].filter(
      (one) =>
        this.#wants(one.name) &&
        (this.#variant === 'delta' ||
          this.versions.get(one.name) !== one.version ||
          this.#refused.has(one.name)),
    )
    const { notFound = [] } = response
    const gone =
      this.#variant === 'delta'
        ? response.removed
        : this.#wholeState
          ? [...this.versions.keys()].filter((name) => !unique.has(name))
          : []
    const missing = notFound.filter((name) => this.#wants(name))
    return { upserted, removed: [...new Set([...gone, ...missing])].filter((name) => !unique.has(name)) }
  }

  /**
   * Remembers what is in force after an update. A refused resource is still claimed, in its old form: were it not, the server
   * would not say so when it is deleted while we are away.
   */
  accept(update: Update, refused: (name: string) => boolean): void {
    for (const name of update.removed) {
      this.versions.delete(name)
      this.#refused.delete(name)
    }
    for (const { name, version } of update.upserted) {
      const bad = refused(name)
      if (bad) this.#refused.add(name)
      else this.#refused.delete(name)
      this.versions.set(name, bad ? (this.versions.get(name) ?? UNKNOWN) : version)
    }
  }

  #wants(name: string): boolean {
    return this.#wildcard || this.#wanted.has(name)
  }

  #first(node: NodeInfo | undefined): XdsRequest {
    // The legacy form, an empty list, is what every server knows; only a type that is otherwise wanted by name needs the `*`.
    const legacy = this.#wildcard && this.#wholeState
    this.#tell(legacy)
    const request = { ...this.#empty(node), names: legacy ? [] : this.#listed() }
    return this.#variant === 'delta'
      ? { ...request, initialVersions: new Map(this.versions) }
      : { ...request, versionInfo: this.#versionInfo }
  }

  #tell(legacy: boolean): void {
    this.#told = { wildcard: this.#wildcard, names: this.#wanted, legacy }
  }

  #listed(): string[] {
    if (this.#told?.legacy === true) return []
    return this.#wildcard ? ['*', ...this.#wanted] : [...this.#wanted]
  }

  #empty(node: NodeInfo | undefined): XdsRequest {
    return {
      typeUrl: this.typeUrl,
      node,
      versionInfo: this.#variant === 'sotw' ? this.#versionInfo : '',
      names: [],
      unsubscribe: [],
      initialVersions: new Map(),
      responseNonce: '',
      errorDetail: undefined,
    }
  }
}
