// What the xDS specification allows a server to say on one stream, and what it must have said once all is quiet. Written from
// xds_protocol.rst and from what real clients need (the comments say which), and from nothing of src/xds but its data types:
// it is told what arrives and what goes out, and throws a sentence when that is wrong.
import { encodeContent } from '../../src/xds/codec-response.ts'
import type { Push, Variant, XdsRequest } from '../../src/xds/messages.ts'
import { TYPE } from '../../src/xds/types.ts'

/** name → version. */
export type State = ReadonlyMap<string, string>

export interface OracleOptions {
  readonly variant: Variant
  readonly view: (typeUrl: string) => State
  readonly budget: number
  readonly ackTimeoutMs: number
  /** The client keeps what it has by name over a reconnect, so that the same version need not come again. */
  readonly resumesNamed: boolean
}

/** LDS and CDS: an empty first request wants all, and a SotW response is everything. */
const WHOLE: ReadonlySet<string> = new Set([TYPE.listener, TYPE.cluster])
/** The client cannot be assumed to have this, nor not to have it. */
const UNKNOWN = '?'
/** The client was told that it does not exist. */
const GONE = '-'

interface Outstanding {
  readonly nonce: string
  readonly sentMs: number
  /** What the client had not, or had in another form. */
  readonly names: readonly string[]
  readonly removed: readonly string[]
  readonly version: string
  /** name → version of all that was in it. */
  readonly state: State
}

/** Responses that were refused whole, without a culprit: when one of them is good again, the others may have been good all along. */
type Batch = readonly string[]

class TypeState {
  readonly names = new Set<string>()
  wildcard = false
  /** Some request named something, so that an empty one means nothing any more. */
  named = false
  started = false
  /** What the client has, as far as the server can know. */
  readonly told = new Map<string, string>()
  /** Names that have to be answered although nothing may have changed. */
  readonly due = new Set<string>()
  /** All was asked for: even "there is nothing" is an answer. */
  dueAll = false
  /** SotW: it came back with a state of which only the complete state can say what is gone. */
  claims = false
  readonly refused = new Map<string, { readonly version: string; readonly batch: Batch | undefined }>()
  refusedState: Outstanding | undefined
  /** SotW cannot say that something by name is gone; if it comes back it may be sent, the same or not. */
  readonly vanished = new Set<string>()
  outstanding: Outstanding | undefined

  wants(name: string): boolean {
    return this.wildcard || this.names.has(name)
  }

  /** Asking for it again is another chance for what was refused. */
  ask(name: string): void {
    this.due.add(name)
    this.refused.delete(name)
  }
}

export class Oracle {
  readonly #options: OracleOptions
  readonly #types = new Map<string, TypeState>()
  readonly #nonces = new Set<string>()

  constructor(options: OracleOptions) {
    this.#options = options
  }

  wants(typeUrl: string, name: string): boolean {
    return this.#types.get(typeUrl)?.wants(name) ?? false
  }

  /** What a client that reconnects has to ask for again. */
  interest(typeUrl: string): { readonly names: readonly string[]; readonly wildcard: boolean } | undefined {
    const type = this.#types.get(typeUrl)
    return type && { names: [...type.names], wildcard: type.wildcard }
  }

  /** The view changed at this name. */
  changed(typeUrl: string, name: string): void {
    const type = this.#types.get(typeUrl)
    if (type?.wants(name) !== true) return
    if (!this.#options.view(typeUrl).has(name)) type.vanished.add(name)
  }

  requested(request: XdsRequest): void {
    const type = this.#types.get(request.typeUrl) ?? new TypeState()
    this.#types.set(request.typeUrl, type)
    this.#heard(type, request)
    const first = !type.started
    type.started = true
    if (first && this.#options.variant === 'sotw' && WHOLE.has(request.typeUrl))
      type.claims = request.versionInfo !== ''
    if (this.#options.variant === 'sotw') this.#replace(type, request)
    else this.#update(type, request, first)
    for (const name of [...type.told.keys(), ...type.due, ...type.refused.keys()]) {
      if (type.wants(name)) continue
      type.told.delete(name)
      type.due.delete(name)
      type.refused.delete(name)
    }
    if (!type.wildcard) type.dueAll = false
  }

  /** Throws when this may not be said now. */
  pushed(push: Push, nowMs: number): void {
    const { variant } = this.#options
    const type = this.#types.get(push.typeUrl)
    if (type === undefined) throw new Error(`${push.typeUrl} was never asked for`)
    if (this.#nonces.has(push.nonce)) throw new Error(`nonce ${push.nonce} is used twice`)
    this.#nonces.add(push.nonce)
    if (type.outstanding !== undefined && nowMs - type.outstanding.sentMs < this.#options.ackTimeoutMs)
      throw new Error('two responses of one type are under way')
    const names = push.resources.map(({ name }) => name)
    if (new Set(names).size < names.length) throw new Error('a name stands twice in one response')
    if (variant === 'sotw' && push.removed.length > 0) throw new Error('SotW has no removals')
    if (variant === 'sotw' && WHOLE.has(push.typeUrl)) this.#checkState(type, push)
    else this.#checkNamed(type, push)
    const state = new Map(push.resources.map(({ name, version }) => [name, version]))
    type.outstanding = {
      nonce: push.nonce,
      sentMs: nowMs,
      names:
        WHOLE.has(push.typeUrl) && variant === 'sotw'
          ? names.filter((name) => type.told.get(name) !== state.get(name))
          : names,
      removed: push.removed,
      version: push.version,
      state,
    }
    this.#clustersWarm(push)
    this.#remember(type, push)
  }

  /** All is answered, and nothing more comes: what must have been said? */
  quiet(): void {
    for (const [typeUrl, type] of this.#types) {
      const view = this.#options.view(typeUrl)
      const short = typeUrl.slice(typeUrl.lastIndexOf('.') + 1)
      if (type.dueAll || type.claims) throw new Error(`${short}: who asked for all was not answered`)
      const state = this.#options.variant === 'sotw' && WHOLE.has(typeUrl)
      const wanted = new Map([...view].filter(([name]) => type.wants(name)))
      // What was refused whole stands as long as nothing in it changes.
      const refused = type.refusedState?.state
      if (state && refused !== undefined && isPart(wanted, refused) && isPart(part(refused, type), view))
        continue
      for (const [name, version] of wanted)
        if (type.told.get(name) !== version && type.refused.get(name)?.version !== version)
          throw new Error(`${short} ${name} was not sent`)
      for (const name of type.due)
        if (view.has(name) || this.#options.variant === 'delta')
          throw new Error(`${short} ${name} was asked for and not answered`)
      if (this.#options.variant === 'sotw' && !state) continue
      for (const [name, version] of type.told)
        if (!view.has(name) && version !== GONE)
          throw new Error(`${short} ${name} is gone and that was not said`)
    }
  }

  /** "Detect NACK by error_detail"; a nonce that is not the last one's says nothing about any response. */
  #heard(type: TypeState, request: XdsRequest): void {
    const sent = type.outstanding
    if (sent === undefined || request.responseNonce !== sent.nonce) return
    type.outstanding = undefined
    type.refusedState = request.errorDetail === undefined ? undefined : sent
    if (request.errorDetail === undefined) {
      for (const name of [...sent.names, ...sent.removed]) {
        const { batch } = type.refused.get(name) ?? {}
        type.refused.delete(name)
        for (const mate of batch ?? []) if (type.refused.get(mate)?.batch === batch) type.refused.delete(mate)
      }
      return
    }
    const state = this.#options.variant === 'sotw' && WHOLE.has(request.typeUrl)
    const blamed = sent.names.filter((name) => !state && request.errorDetail?.includes(name))
    const batch = blamed.length === 0 && sent.names.length > 1 ? sent.names : undefined
    for (const name of blamed.length === 0 ? sent.names : blamed) {
      const version = sent.state.get(name) ?? ''
      if (type.told.get(name) !== version) continue
      type.told.set(name, UNKNOWN)
      if (!state) type.refused.set(name, { version, batch })
    }
  }

  #replace(type: TypeState, request: XdsRequest): void {
    const wanted = new Set(request.names)
    if (wanted.size > 0) type.named = true
    const before = type.wildcard
    const legacy = WHOLE.has(request.typeUrl) && !type.named
    type.wildcard = wanted.delete('*') || legacy
    if (type.wildcard && !before) type.dueAll = true
    for (const name of wanted) if (!type.names.has(name)) type.ask(name)
    type.names.clear()
    for (const name of wanted) type.names.add(name)
  }

  #update(type: TypeState, request: XdsRequest, first: boolean): void {
    const before = type.wildcard
    if (first && request.names.length === 0 && WHOLE.has(request.typeUrl)) type.wildcard = true
    for (const name of request.names) {
      if (name === '*') type.wildcard = true
      else {
        type.names.add(name)
        // "The client may have forgotten."
        type.ask(name)
      }
    }
    if (request.unsubscribe.includes('*')) type.wildcard = false
    for (const name of request.unsubscribe) {
      if (name === '*' || !type.names.delete(name)) continue
      // It leaves the names and stays in the wildcard: the client has dropped it and must be told.
      if (type.wildcard) type.ask(name)
      else type.due.delete(name)
    }
    if (type.wildcard && !before) type.dueAll = true
    if (!first) return
    for (const [name, version] of request.initialVersions) {
      if (type.wants(name)) type.told.set(name, version)
      const resumes = this.#options.resumesNamed && this.#options.view(request.typeUrl).get(name) === version
      if (resumes) type.due.delete(name)
    }
  }

  #checkState(type: TypeState, push: Push): void {
    const view = this.#options.view(push.typeUrl)
    const sent = new Map(push.resources.map(({ name, version }) => [name, version]))
    for (const [name, version] of view)
      if (type.wants(name) && sent.get(name) !== version)
        throw new Error(`${name} is left out, which deletes it`)
    for (const [name, version] of sent) {
      if (!type.wants(name)) throw new Error(`${name} is not wanted`)
      if (!view.has(name) && type.told.get(name) !== version) throw new Error(`${name} does not exist`)
    }
    const news =
      type.dueAll ||
      type.claims ||
      // Absence from the complete state is an answer too.
      type.due.size > 0 ||
      [...sent].some(([name, version]) => type.told.get(name) !== version) ||
      [...type.told.keys()].some((name) => !sent.has(name))
    if (!news) throw new Error('nothing in the response is new')
    const asked = type.dueAll || type.claims || type.due.size > 0
    if (push.version === type.refusedState?.version && !asked)
      throw new Error('what was refused is sent again')
  }

  #checkNamed(type: TypeState, push: Push): void {
    const { variant, budget } = this.#options
    const view = this.#options.view(push.typeUrl)
    for (const { name, version } of push.resources) {
      if (!type.wants(name)) throw new Error(`${name} is not wanted`)
      if (view.get(name) !== version) throw new Error(`${name} is not what it is now`)
      if (type.due.has(name)) continue
      if (type.told.get(name) === version && !type.vanished.has(name))
        throw new Error(`${name} is sent again, unchanged`)
      if (type.refused.get(name)?.version === version && !type.vanished.has(name))
        throw new Error(`${name} was refused and is sent again`)
    }
    for (const name of push.removed) {
      if (view.has(name)) throw new Error(`${name} exists and is removed`)
      const known = type.told.get(name)
      if (!type.due.has(name) && (known === undefined || known === GONE))
        throw new Error(`${name} is removed, of which the client knows nothing`)
    }
    const count = push.resources.length + push.removed.length
    if (count === 0 && !type.dueAll) throw new Error('an empty response')
    const bytes = encodeContent(variant, { ...push, version: '', typeUrl: '' }).reduce(
      (sum, one) => sum + one.length,
      0,
    )
    if (count > 1 && bytes > budget) throw new Error(`a response of ${bytes} bytes, more than ${budget}`)
  }

  /** A cluster that is added or changed warms until its endpoints come, and nobody asks for those again. */
  #clustersWarm(push: Push): void {
    if (push.typeUrl !== TYPE.cluster) return
    const clusters = this.#types.get(TYPE.cluster)
    const endpoints = this.#types.get(TYPE.endpoints)
    for (const { name, version } of push.resources)
      if (
        endpoints?.wants(name) &&
        (this.#options.variant === 'delta' || clusters?.told.get(name) !== version)
      )
        endpoints.due.add(name)
  }

  #remember(type: TypeState, push: Push): void {
    const state = this.#options.variant === 'sotw' && WHOLE.has(push.typeUrl)
    if (state) type.told.clear()
    if (state) type.due.clear()
    type.refusedState = undefined
    // A refusal is about what was said last.
    for (const name of [...push.resources.map((one) => one.name), ...push.removed]) {
      const refused = type.refused.get(name)
      if (refused !== undefined) type.refused.set(name, { ...refused, version: '' })
    }
    for (const { name, version } of push.resources) {
      type.told.set(name, version)
      type.due.delete(name)
      type.vanished.delete(name)
    }
    for (const name of push.removed) {
      if (type.names.has(name)) type.told.set(name, GONE)
      else type.told.delete(name)
      type.due.delete(name)
    }
    type.dueAll = type.claims = false
  }
}

/** What is still wanted of it. */
function part(state: State, type: TypeState): State {
  return new Map([...state].filter(([name]) => type.wants(name)))
}

function isPart(a: State, b: State): boolean {
  return [...a].every(([name, version]) => b.get(name) === version)
}
