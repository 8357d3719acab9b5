import { type Clock, systemClock } from '../lib/clock.ts'
import { type Logger, silentLogger } from '../lib/log.ts'
import { isLoopback } from '../lib/loopback.ts'
import { formatProblem } from '../lib/result.ts'
import { type ClientState, XdsClient, type XdsClientOptions } from './client.ts'
import type { ClientTls, XdsTarget } from './client-channel.ts'
import type { ResourceType } from './resource-types.ts'
import type { SnapshotFile } from './snapshot-file.ts'
import { isWholeState } from './type-rules.ts'
import { type NodeInfo, type Snapshot, TYPE } from './types.ts'
import type { OnChange, Wanted, Watch } from './watch.ts'
import { DOES_NOT_EXIST_MS, WatchedType } from './watched-type.ts'

/** Changes in quick succession are one write, milliseconds. */
const SAVE_DELAY_MS = 200

/** What the client presents, and whom it believes. */
export interface XdsCredential {
  /** Asked at each connection; undefined: none yet, try again later. */
  tls(): ClientTls | undefined
  /** Told when `tls` would answer otherwise: the stream is opened anew. Returns the function that ends it. */
  onChange?(callback: () => void): () => void
}

/** A server over mutual TLS; one in clear, on this machine only; a unix socket. */
export type XdsServerTarget =
  | {
      /** `host:port`. */
      readonly address: string
      readonly credential: XdsCredential
      /** Name in SNI; must not be an IP address. Default `isthmus-discovery`. */
      readonly serverName?: string
    }
  | { readonly address: string; readonly plaintext: true }
  | { readonly path: string }

export interface XdsConnectionOptions
  extends Pick<
    XdsClientOptions,
    'mode' | 'service' | 'keepalive' | 'connectTimeoutMs' | 'backoff' | 'onState'
  > {
  readonly target: XdsServerTarget
  /** Who we say we are. Only `id` is required; `userAgentName` is `isthmus` unless given. */
  readonly node: Partial<NodeInfo> & Pick<NodeInfo, 'id'>
  /** Where what is in force is kept for the next run; Secrets are not. Default: nowhere. */
  readonly lastGood?: SnapshotFile
  /** After how long a silence a name does not exist, milliseconds. Default 15,000. */
  readonly doesNotExistMs?: number
  readonly logger?: Logger
  readonly clock?: Clock
}

/**
 * An xDS client: one stream, however many watches. What was received stays in force while the server is away; what was refused is not
 * taken, and the server is told why.
 */
export class XdsConnection {
  readonly #options: XdsConnectionOptions
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #client: XdsClient
  readonly #types = new Map<string, WatchedType<unknown>>()
  readonly #restored: Snapshot
  readonly #endCredential: () => void
  #cancelSave: (() => void) | undefined
  #stopped = false

  /** Nothing is dialled before the first `watch`. Throws where an address of another machine is to be dialled in clear. */
  constructor(options: XdsConnectionOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#logger = options.logger ?? silentLogger
    this.#restored = this.#restore()
    const node = { cluster: '', metadata: {}, locality: { region: '', zone: '' }, userAgentName: 'isthmus' }
    const versions = [...this.#restored].map(([typeUrl, resources]) => {
      const known = [...resources.values()].map(({ name, version }): [string, string] => [name, version])
      return [typeUrl, new Map(known)] as const
    })
    const { mode, service, keepalive, connectTimeoutMs, backoff } = options
    const settings = { mode, service, keepalive, connectTimeoutMs, backoff }
    this.#client = new XdsClient({
      ...(Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as object),
      target: targetOf(options.target),
      logger: this.#logger,
      clock: this.#clock,
      node: () => ({ ...node, ...options.node }),
      order: 'type',
      initialVersions: new Map(versions),
      onUpdate: (typeUrl, update) => this.#types.get(typeUrl)?.take(update) ?? [],
      onState: (state) => this.#onState(state),
    })
    const credential = 'credential' in options.target ? options.target.credential : undefined
    this.#endCredential = credential?.onChange?.(() => this.#client.reconnect()) ?? (() => {})
  }

  /** Of the stream. `waiting`: it is lost, and dialled again when its time comes. */
  get state(): ClientState {
    return this.#client.state
  }

  /**
   * Watches resources of a type: by name, or all of them. Without a callback the changes are iterated over. Several watches of one
   * type share its subscription; a resource that one of them refuses is refused.
   */
  watch<T>(type: ResourceType<T>, names: Wanted, onChange?: OnChange<T>): Watch<T> {
    if (this.#stopped) throw new Error('the connection is stopped')
    const watch = this.#type(type).watch(names, onChange)
    this.#client.start()
    return watch
  }

  /** Leaves the stream and opens a new one now. */
  reconnect(): void {
    this.#client.reconnect()
  }

  /** Ends the stream and every watch; iterations end. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#endCredential()
    if (this.#cancelSave !== undefined) this.#save()
    this.#client.stop()
    for (const type of this.#types.values()) type.stop()
  }

  #type<T>(type: ResourceType<T>): WatchedType<T> {
    const known = this.#types.get(type.typeUrl)
    if (known !== undefined) {
      if (known.type !== type) throw new Error(`${type.typeUrl} is watched already, and read in another way`)
      return known as WatchedType<T>
    }
    const { mode = 'delta', doesNotExistMs = DOES_NOT_EXIST_MS } = this.#options
    const made = new WatchedType(type, {
      clock: this.#clock,
      doesNotExistMs,
      tellsAll: mode === 'sotw' && isWholeState(type.typeUrl),
      onWanted: (wanted) => {
        if (!this.#stopped) this.#client.subscribe(type.typeUrl, wanted)
      },
      onKept: () => this.#saveSoon(),
    })
    made.restore(this.#restored.get(type.typeUrl)?.values() ?? [])
    made.connected(this.state.phase === 'connected')
    this.#types.set(type.typeUrl, made as WatchedType<unknown>)
    return made
  }

  #onState(state: ClientState): void {
    for (const type of this.#types.values()) type.connected(state.phase === 'connected')
    this.#options.onState?.(state)
  }

  #restore(): Snapshot {
    const { loaded, problems = [] } = this.#options.lastGood?.load() ?? { loaded: undefined }
    for (const one of problems) this.#logger.warn(`last good not used: ${formatProblem(one)}`)
    return loaded?.snapshot ?? new Map()
  }

  #saveSoon(): void {
    if (this.#options.lastGood === undefined || this.#stopped) return
    this.#cancelSave ??= this.#clock.after(SAVE_DELAY_MS, () => this.#save())
  }

  #save(): void {
    this.#cancelSave?.()
    this.#cancelSave = undefined
    const kept = [...this.#types].filter(([typeUrl]) => typeUrl !== TYPE.secret)
    // What nobody has watched yet in this run stays as the last one left it.
    const snapshot = new Map(this.#restored)
    for (const [typeUrl, type] of kept) snapshot.set(typeUrl, type.kept)
    try {
      this.#options.lastGood?.save(snapshot)
    } catch (error) {
      this.#logger.warn({ err: error }, 'last good could not be saved')
    }
  }
}

function targetOf(target: XdsServerTarget): XdsTarget {
  if ('path' in target) return target
  const { address } = target
  if ('credential' in target) {
    const { credential, serverName } = target
    return { address, tls: () => credential.tls(), ...(serverName !== undefined && { serverName }) }
  }
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1')
  if (!target.plaintext || !isLoopback(host))
    throw new Error(`xDS in clear is spoken on this machine only, not to ${address}: give a credential`)
  return { address }
}
